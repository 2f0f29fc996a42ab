"""What the user may choose, checked: by argument, by the settings table ``[otel]``, by standard variables."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from flow.errors import ConfigurationError, SettingsError

EXPORTERS: Final = ("otlp", "console", "none")
PROTOCOLS: Final = ("http/protobuf", "grpc")
CAPTURE_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURING = frozenset({"true", "1", "span_only", "span_and_event"})

_EXPORTER_VARIABLES = {"traces": "OTEL_TRACES_EXPORTER", "metrics": "OTEL_METRICS_EXPORTER"}


def _as_names(value: Any) -> Any:
    """Split a list that is written with commas, as the variables have it."""
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


def _is_flag(options: Options, field: attrs.Attribute[Any], value: Any) -> None:
    _require(isinstance(value, bool), field, "true or false", value)


def _is_text(options: Options, field: attrs.Attribute[Any], value: Any) -> None:
    _require(value is None or (isinstance(value, str) and bool(value)), field, "a text", value)


def _is_texts(options: Options, field: attrs.Attribute[Any], value: Any) -> None:
    texts = isinstance(value, Mapping) and all(isinstance(item, str) for pair in value.items() for item in pair)
    _require(texts, field, "a table of texts", value)


def _is_resource(options: Options, field: attrs.Attribute[Any], value: Any) -> None:
    plain = isinstance(value, Mapping) and all(isinstance(item, (str, bool, int, float)) for item in value.values())
    _require(plain, field, "a table of texts and numbers", value)


def _is_positive(options: Options, field: attrs.Attribute[Any], value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    _require(number, field, "a number above 0", value)


def _is_share(options: Options, field: attrs.Attribute[Any], value: Any) -> None:
    share = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    _require(value is None or share, field, "a number from 0 to 1", value)


def _is_protocol(options: Options, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and value not in PROTOCOLS:
        raise _wrong_word("protocol", value, PROTOCOLS)


def _are_exporters(options: Options, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        check_exporters(field.name, value)


def check_exporters(origin: str, names: Sequence[str]) -> None:
    """Raise `ConfigurationError`, naming `origin`, for a name that is none of an exporter."""
    for name in names:
        if name not in EXPORTERS:
            raise _wrong_word(origin, name, EXPORTERS)


def check_protocol(origin: str, name: str) -> None:
    """Raise `ConfigurationError`, naming `origin`, for a protocol that is not spoken here."""
    if name not in PROTOCOLS:
        raise _wrong_word(origin, name, PROTOCOLS)


def _require(fulfilled: bool, field: attrs.Attribute[Any], expected: str, value: Any) -> None:
    if not fulfilled:
        raise ConfigurationError(f"{field.name} must be {expected}, got {value!r:.60}")


def _wrong_word(origin: str, word: object, choices: Sequence[str]) -> ConfigurationError:
    hint = _nearest(word, choices) or f"The choices are {', '.join(choices)}"
    return ConfigurationError(f"{origin} must be one of {', '.join(choices)}, got {word!r:.60}", hint=hint)


@attrs.frozen(kw_only=True)
class Options:
    """What is traced, and where it goes; the defaults leave the latter to the ``OTEL_*`` variables.

    :ivar content: prompts, outputs and the words of errors may leave the process.
    :ivar content_limit: characters of one input or output at most.
    :ivar endpoint: the collector, such as ``http://localhost:4318``; the paths of the signals are added for HTTP.
    :ivar protocol: ``"http/protobuf"`` or ``"grpc"``.
    :ivar headers: sent with every request, such as a key.
    :ivar service_name: what this program is called in traces.
    :ivar resource: further attributes of this program.
    :ivar sample: the share of traces that is recorded, from 0 to 1, where no caller has decided.
    :ivar traces: exporters of spans: ``"otlp"``, ``"console"`` or ``"none"``, several with commas between them.
    :ivar metrics: exporters of metrics.
    :ivar flush_timeout: seconds that closing a flow, and the end of the program, may wait for the collector.

    Raises `ConfigurationError` for anything else.

    >>> Options(traces="console,otlp").traces
    ('console', 'otlp')
    """

    content: bool = attrs.field(default=False, validator=_is_flag)
    content_limit: int = attrs.field(default=4096, validator=_is_positive)
    endpoint: str | None = attrs.field(default=None, validator=_is_text)
    protocol: str | None = attrs.field(default=None, validator=_is_protocol)
    headers: Mapping[str, str] = attrs.field(factory=dict, validator=_is_texts, repr=False)
    service_name: str | None = attrs.field(default=None, validator=_is_text)
    resource: Mapping[str, Any] = attrs.field(factory=dict, validator=_is_resource)
    sample: float | None = attrs.field(default=None, validator=_is_share)
    traces: tuple[str, ...] | None = attrs.field(default=None, converter=_as_names, validator=_are_exporters)
    metrics: tuple[str, ...] | None = attrs.field(default=None, converter=_as_names, validator=_are_exporters)
    flush_timeout: float = attrs.field(default=3.0, validator=_is_positive)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Options:
        """Read the settings table; `SettingsError` names the key that is wrong and what may have been meant."""
        known = [field.name for field in attrs.fields(cls)]
        for key in settings:
            if key not in known:
                hint = _nearest(key, known) or f"The settings are {', '.join(known)}"
                raise SettingsError(f"the otel table: unknown setting {key}", hint=hint)
        try:
            return cls(**{"content": captures_content(), **settings})
        except ConfigurationError as error:
            raise SettingsError(f"the otel table: {error.message}", hint=error.hint) from error

    def exporters(self, signal: str) -> tuple[str, ...]:
        """Return the names of the exporters for ``"traces"`` or ``"metrics"``: as set, by variable, or OTLP."""
        chosen = self.traces if signal == "traces" else self.metrics
        if chosen is None:
            variable = _EXPORTER_VARIABLES[signal]
            chosen = _as_names(os.environ.get(variable, "")) or ("otlp",)
            check_exporters(variable, chosen)
        return tuple(name for name in chosen if name != "none")

    def protocol_for(self, signal: str) -> str:
        """Return the protocol for a signal: as set, by variable, or HTTP."""
        if self.protocol is not None:
            return self.protocol
        for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            if name := os.environ.get(variable, "").strip():
                check_protocol(variable, name)
                return name
        return PROTOCOLS[0]


def captures_content() -> bool:
    """Say whether the standard variable asks for the content of messages."""
    return os.environ.get(CAPTURE_CONTENT, "").strip().lower() in _CAPTURING


def _nearest(word: object, choices: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(str(word), choices, n=1)
    return f"Did you mean {close[0]}?" if close else None
