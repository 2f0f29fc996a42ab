"""Where spans and metrics go: to what the process has set up already, or to what the settings and variables say.

Providers that are made here are installed for the whole process, so that the spans of users and of other libraries go
the same way. They live until the program ends.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Sequence
from typing import Any, Final

import attrs
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, TracerProvider

from flow_otel._courier import Courier, Patience
from flow_otel._delivery import Delivery
from flow_otel._exporters import metric_readers, span_processors
from flow_otel._options import Options

_DISABLED: Final = "OTEL_SDK_DISABLED"
_HASTE_S: Final = 0.3
"""How long a collector is waited for that gave signs of trouble, or did not answer before."""


@attrs.frozen
class Providers:
    """Where spans and metrics go; no provider of metrics means that none are recorded."""

    tracers: TracerProvider
    meters: MeterProvider | None = None


class Ours:
    """The providers that were made here, and how they are flushed and shut down."""

    def __init__(
        self,
        tracers: SdkTracerProvider | None,
        meters: SdkMeterProvider | None,
        deliveries: Sequence[Delivery],
        patience_s: float,
    ) -> None:
        self.tracers = tracers
        self.meters = meters
        self._deliveries = deliveries
        self._patience_s = patience_s
        self._courier = Courier()
        atexit.register(self.shut_down)

    async def flush(self) -> None:
        """Send what waits, for a limited time; after one that was not enough the end of the program waits no more."""
        if not await self._courier.await_for(self._flush, self._patience()):
            self._give_up()

    def shut_down(self) -> None:
        """Send what waits and close, for a limited time."""
        if not self._courier.wait_for(self._shut_down, self._patience()):
            self._give_up()

    def _patience(self) -> Patience:
        return Patience(self._patience_s, _HASTE_S, lambda: any(delivery.troubled for delivery in self._deliveries))

    def _give_up(self) -> None:
        troubled = [delivery for delivery in self._deliveries if delivery.troubled]
        for delivery in troubled or self._deliveries[:1]:  # one that is silent is told once, not once for each signal
            delivery.give_up(f"there was no answer within {self._patience_s:g} seconds")
        self._patience_s = min(self._patience_s, _HASTE_S)

    def _flush(self) -> None:
        for provider in self._all():
            provider.force_flush()

    def _shut_down(self) -> None:
        for provider in self._all():
            provider.shutdown()

    def _all(self) -> list[Any]:
        return [provider for provider in (self.tracers, self.meters) if provider is not None]


_lock = threading.Lock()
_ours: Ours | None = None


def ours() -> Ours | None:
    """Return the providers that were made here; ``None`` where the process has its own."""
    return _ours


def providers_for(
    options: Options, tracers: TracerProvider | None = None, meters: MeterProvider | None = None
) -> Providers | None:
    """Return where to trace to: what is handed in, what is installed, or what `options` and the variables describe.

    ``None`` when there is nothing and nothing is to be made. Raises `ConfigurationError` for wrong variables and
    missing packages.
    """
    with _lock:
        tracers = tracers or _installed_tracers()
        meters = meters or _installed_meters()
        wants_no_meters = isinstance(meters, NoOpMeterProvider)
        if tracers is None:
            if os.environ.get(_DISABLED, "").strip().lower() == "true":
                return None
            made = _make(options, with_meters=meters is None)
            tracers, meters = made.tracers, meters or made.meters
        if tracers is None and meters is None:
            return None
        return Providers(tracers or NoOpTracerProvider(), None if wants_no_meters else meters)


def _installed_tracers() -> TracerProvider | None:
    provider = trace_api.get_tracer_provider()
    return None if isinstance(provider, ProxyTracerProvider) else provider


def _installed_meters() -> MeterProvider | None:
    provider = metrics_api.get_meter_provider()
    # What stands in for a provider that is not there has no public name.
    return None if type(provider).__module__ == "opentelemetry.metrics._internal" else provider


def _make(options: Options, *, with_meters: bool) -> Ours:
    """Make providers and install them, once in the life of the process."""
    global _ours
    if _ours is None:
        resource = _resource(options)
        deliveries: list[Delivery] = []
        processors = span_processors(options, deliveries)
        readers = metric_readers(options, deliveries) if with_meters else []
        _ours = Ours(
            _tracer_provider(options, resource, processors) if processors else None,
            SdkMeterProvider(readers, resource=resource, shutdown_on_exit=False) if readers else None,
            deliveries,
            options.flush_timeout,
        )
        if _ours.meters is not None:
            metrics_api.set_meter_provider(_ours.meters)
        if _ours.tracers is not None:
            trace_api.set_tracer_provider(_ours.tracers)
    return _ours


def _resource(options: Options) -> Resource:
    named = {} if options.service_name is None else {SERVICE_NAME: options.service_name}
    return Resource.create({**options.resource, **named})


def _tracer_provider(options: Options, resource: Resource, processors: list[Any]) -> SdkTracerProvider:
    sampler = None if options.sample is None else ParentBased(TraceIdRatioBased(options.sample))
    provider = SdkTracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider
