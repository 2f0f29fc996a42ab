"""The tracer: a span around each run, step and attempt."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from typing import Any, Self

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from flow import BaseStep, Binder, Run, Tracer, Wrap
from flow_otel import _names as names
from flow_otel._metrics import Instruments
from flow_otel._options import Options, captures_content
from flow_otel._run_spans import around_run
from flow_otel._setup import Providers, ours, providers_for
from flow_otel._steps import Sinks, attempts_of, steps_of


class OtelTracer(Tracer):
    """Traces runs with OpenTelemetry.

    :param tracer_provider: where spans go; what is installed in the process when ``None``, and where nothing is, what
        the ``OTEL_*`` variables say.
    :param meter_provider: where metrics go, in the same way; without one there are none.
    :param content: prompts, outputs, questions and the words of errors may leave the process; when ``None`` as the
        variable ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says, by default not. Secrets that are
        recognised are masked in any case.
    :param content_limit: characters of one input or output at most.

    Raises `ConfigurationError` for a wrong argument, and when a pipeline is bound and a variable is wrong or a package
    is missing.

    >>> from flow import Flow, Step
    >>> from opentelemetry.sdk.trace import TracerProvider
    >>> tracer = OtelTracer(TracerProvider(), content=False)
    >>> Flow(Step("upper", str.upper), tracers=[tracer]).run("hello").output
    'HELLO'
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        content: bool | None = None,
        content_limit: int = 4096,
    ) -> None:
        wanted = captures_content() if content is None else content
        self._options = Options(content=wanted, content_limit=content_limit)
        self._handed = (tracer_provider, meter_provider)
        self._opened: list[Sinks | None] = []

    @classmethod
    def with_options(cls, options: Options) -> Self:
        """Make a tracer from checked options, and connect it: what is wrong is told at once."""
        tracer = cls()
        tracer._options = options
        tracer._sinks()
        return tracer

    def around_run(self, run: Run) -> AbstractContextManager[Any]:
        """Make the span of a run current, and keep where it is: a resumed run links to it."""
        sinks = self._sinks()
        return nullcontext() if sinks is None else around_run(run, sinks)

    def wrap_step(self, step: BaseStep[Any, Any], binder: Binder) -> Wrap | None:
        """Return what goes around a step: its span is current while it runs."""
        sinks = self._sinks()
        return None if sinks is None else steps_of(step, binder, sinks)

    def wrap_attempt(self, step: BaseStep[Any, Any], binder: Binder) -> Wrap | None:
        """Return what goes around each attempt of a step that asks for retries: a span inside the step's."""
        sinks = self._sinks()
        return None if sinks is None else attempts_of(step, binder, sinks)

    async def aclose(self) -> None:
        """Send what waits to be sent, for a limited time; providers of the process stay as they are."""
        made = ours()
        if made is not None and self._opened and self._handed == (None, None):
            await made.flush()

    def _sinks(self) -> Sinks | None:
        """Return where to trace to; decided when it is first needed, so that a program may install providers before."""
        if not self._opened:
            providers = providers_for(self._options, *self._handed)
            self._opened.append(None if providers is None else _sinks_of(providers, self._options))
        return self._opened[0]


def _sinks_of(providers: Providers, options: Options) -> Sinks:
    ours_is, told = version("flow-otel"), {names.SCOPE_NAMES_VERSION: names.NAMES_VERSION}
    tracer, instruments = providers.tracers.get_tracer(names.SCOPE, ours_is, attributes=told), None
    if providers.meters is not None:
        instruments = Instruments(providers.meters.get_meter(names.SCOPE, ours_is, attributes=told))
    return Sinks(tracer, instruments, options, {})
