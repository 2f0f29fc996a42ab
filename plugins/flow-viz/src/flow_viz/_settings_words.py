"""The settings of a step in a few words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import attrs

from flow import BaseStep
from flow.privacy import is_secret_name, mask
from flow_viz._hints import UNKNOWN, Hint
from flow_viz._wording import counted, cut, duration, visible

_LONGEST_VALUE = 28
_LONGEST_TEXT = 80
_SHOWN_OF_UNKNOWN = 3
_OF_EVERY_STEP = frozenset(field.name for field in attrs.fields(BaseStep))
_HASHED = "blake3:"


def notes_of(config: Mapping[str, Any], hint: Hint) -> tuple[str, ...]:
    """Return what a drawing tells about the settings of a step; the values may be anything that JSON holds."""
    own = _of_unknown(config) if hint is UNKNOWN else _of_known(config, hint)
    return (*own, *_common(config))


def chooser_of(config: Mapping[str, Any], hint: Hint) -> str:
    """Return the name of the function that decides; empty when it has none worth telling."""
    return _short(config.get(hint.chooser)) if hint.chooser else ""


def tooltip_of(name: str, kind: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the full name, the kind and all plain settings of a step, a line each."""
    settings = [f"{visible(key)}: {text}" for key, value in config.items() if (text := _told(key, value))]
    return (visible(name), f"kind: {visible(kind)}", *settings)


def _of_known(config: Mapping[str, Any], hint: Hint) -> Iterator[str]:
    for key, words in hint.words.items():
        if key in config and (text := _short(config[key])):
            yield words.format(cut(text, _LONGEST_VALUE))


def _of_unknown(config: Mapping[str, Any]) -> Iterator[str]:
    own = [(key, _told(key, _short(value))) for key, value in config.items() if key not in _OF_EVERY_STEP]
    told = [f"{visible(key)}={cut(text, _LONGEST_VALUE)}" for key, text in own if text]
    yield from told[:_SHOWN_OF_UNKNOWN]


def _common(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is told of the settings that every step has."""
    retries, timeout, cache = config.get("retries"), config.get("timeout"), config.get("cache")
    if isinstance(retries, int) and retries > 0:
        yield counted(retries, "retry")
    if _is_number(timeout):
        yield f"timeout {duration(timeout)}"
    if isinstance(cache, Mapping):
        ttl = cache.get("ttl")
        yield f"cached {duration(ttl)}" if _is_number(ttl) else "cached"
    checks = sum(len(value) for key in ("validators", "plugins") if isinstance(value := config.get(key), list))
    if checks:
        yield counted(checks, "check")
    if config.get("gate") is True:
        yield "gate"
    elif config.get("strict") is False:
        yield "not strict"
    if config.get("usage_limits"):
        yield "budget"
    policies = config.get("policies")
    if isinstance(policies, list):
        yield from (text for item in policies if (text := _type_of(item)))


def _type_of(policy: Any) -> str:
    name = policy.get("type") if isinstance(policy, Mapping) else policy
    return visible(name.rpartition(".")[2]) if isinstance(name, str) else ""


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> str:
    """Return a value in a word; of a function the last part of its name, nothing of what has no plain form."""
    text = _plain(value)
    name = text.rpartition(".")[2]
    if "<lambda>" in text or (isinstance(value, bool) and not value):
        return ""
    return name if isinstance(value, str) and name.isidentifier() and " " not in text else text


def _told(key: str, value: Any) -> str:
    """Return a value that flow-viz knows nothing about; nothing of secrets, and of long texts such as prompts."""
    text = "" if is_secret_name(key) else mask(_plain(value))
    return "" if len(text) > _LONGEST_TEXT else text


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, str) and value and not value.startswith(_HASHED):
        return visible(value)
    return ""
