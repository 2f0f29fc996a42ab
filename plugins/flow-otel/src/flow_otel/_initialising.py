"""Connecting a program to OpenTelemetry before its first run, so that all it traces arrives in one place."""

from __future__ import annotations

from typing import Any, Final

from flow import Settings
from flow.errors import ConfigurationError
from flow_otel._options import Options
from flow_otel._setup import providers_for

_OF_A_TRACER: Final = frozenset({"content", "content_limit"})


def init_telemetry(**options: Any) -> None:
    """Connect this process to OpenTelemetry, as the ``OTEL_*`` variables, the settings and these options say.

    Providers are made and installed for the whole process, unless it has its own, which are used then. A flow with
    ``tracers=["otel"]`` does the same when it is first run; call this before, so that what the program itself traces
    arrives too, and so that something wrong is told when the program starts. Calling it again does nothing.

    :param options: keys of the settings table ``[otel]``, such as ``endpoint`` or ``service_name``, which go before it.

    Raises `SettingsError` for a wrong key or value, `ConfigurationError` for a wrong variable or a missing package.

    >>> init_telemetry(traces="none", metrics="none")
    """
    misplaced = sorted(_OF_A_TRACER & set(options))
    if misplaced:
        hint = "Say it in the table [otel] of flow.toml, or with OtelTracer(content=True)"
        raise ConfigurationError(f"{' and '.join(misplaced)} is up to each tracer, not to the process", hint=hint)
    providers_for(Options.from_settings({**Settings.load().for_plugin("otel"), **options}))
