"""Licences: from whatever a distribution says about its terms to an expression, and from that to a family."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from audit.models import Family, Licence, LicencePolicy, Metadata

T = TypeVar("T")

_KNOWN = tomllib.loads((Path(__file__).parent / "licences.toml").read_text(encoding="utf-8"))
_FAMILIES = {beginning: Family(family) for family, beginnings in _KNOWN["families"].items() for beginning in beginnings}
_NAMES: dict[str, str] = _KNOWN["names"]
_SENTENCES: dict[str, str] = _KNOWN["sentences"]

# Exceptions that let other programs link to the code without taking over its terms.
_LINKING_EXCEPTIONS = ("bootloader", "classpath", "font", "gcc", "linking", "openssl", "universal-foss")


class Unstated(Exception):
    """The metadata do not say what the licence is."""


def licence_from_metadata(metadata: Metadata) -> Licence:
    """Return the licence that the metadata state; raises `Unstated` when they do not.

    >>> licence_from_metadata(Metadata(name="a", version="1", licence_field="MIT License")).expression
    'MIT'
    """
    if _is_expression(metadata.licence_expression):
        return _licence(metadata.licence_expression, "License-Expression")
    if _plain(metadata.licence_field) in _NAMES:
        return _licence(_NAMES[_plain(metadata.licence_field)], "License field")
    if _is_expression(metadata.licence_field, known_only=True):
        return _licence(metadata.licence_field, "License field")
    named = [_plain(c.rpartition(" :: ")[2]) for c in metadata.classifiers if c.startswith("License :: ")]
    known = dict.fromkeys(_NAMES[name] for name in named if name in _NAMES)
    if not known:
        raise Unstated(f"the metadata of {metadata.name} name no licence that is known")
    # Several classifiers may mean a choice or a sum; whoever cannot know assumes the stricter.
    return _licence(" AND ".join(known), "classifiers" if len(known) > 1 else "classifier")


def licence_from_texts(texts: Iterable[tuple[str, str]]) -> Licence:
    """Return the licence whose words stand in licence files, given as (name, text).

    >>> licence_from_texts([("COPYING", "Released under the Apache License, Version 2.0.")]).source
    'text of COPYING'
    """
    found = {name: identifier for name, text in texts if (identifier := _recognise(text))}
    if not found:
        return Licence(family=Family.UNKNOWN, source="not stated")
    return _licence(" AND ".join(dict.fromkeys(found.values())), f"text of {', '.join(sorted(found))}")


def family_of(expression: str) -> Family:
    """Return the family of an SPDX expression: of a choice the mildest, of a sum the strictest.

    >>> str(family_of("MIT")), str(family_of("MPL-2.0 AND (GPL-3.0-only OR MIT)"))
    ('permissive', 'weak copyleft')
    """
    return _evaluate(expression, _family_of_part, _mildest, _strictest)


def permitted(policy: LicencePolicy, licence: Licence) -> bool:
    """Tell whether a policy lets a licence pass; of a choice, one part is enough."""
    if not licence.expression:
        return _part_permitted(policy, "", licence.family)
    return _evaluate(licence.expression, lambda part: _part_permitted(policy, part, _family_of_part(part)), any, all)


def _part_permitted(policy: LicencePolicy, part: str, family: Family) -> bool:
    allowed, denied = ({word.lower() for word in words} for words in (policy.allow, policy.deny))
    if part.lower() in allowed | denied:
        return part.lower() not in denied
    return family not in denied and (not allowed or family in allowed)


def _family_of_part(part: str) -> Family:
    fitting = [beginning for beginning in _FAMILIES if part.lower().startswith(beginning)]
    return _FAMILIES[max(fitting, key=len)] if fitting else Family.UNKNOWN


def _mildest(families: list[Family]) -> Family:
    return min(families, key=lambda family: family.rank)


def _strictest(families: list[Family]) -> Family:
    return max(families, key=lambda family: family.rank)


def _licence(expression: str, source: str) -> Licence:
    return Licence(family=family_of(expression), expression=expression, source=source)


def _recognise(text: str) -> str | None:
    words = " ".join(text.lower().split())
    places = [(words.find(sentence), identifier) for sentence, identifier in _SENTENCES.items()]
    return min((place for place in places if place[0] >= 0), default=(0, None))[1]


def _plain(name: str) -> str:
    """Reduce the name of a licence to the words that tell it from others."""
    name = re.sub(r"[(),/:\"-]", " ", name.lower())
    return " ".join(re.sub(r"\b(the|licen[cs]ed?|version|clause)\b|\bv(?=\d)", " ", name).split())


def _is_expression(text: str, *, known_only: bool = False) -> bool:
    try:
        families = _evaluate(text, lambda part: [_family_of_part(part)], _flat, _flat)
    except ValueError:
        return False
    return not known_only or Family.UNKNOWN not in families


def _flat(lists: list[list[T]]) -> list[T]:
    return [item for items in lists for item in items]


# -- SPDX expressions --------------------------------------------------------------------------------------------------


def _evaluate(
    expression: str, part: Callable[[str], T], choice: Callable[[list[T]], T], total: Callable[[list[T]], T]
) -> T:
    """Evaluate an SPDX expression from its parts up: ``OR`` is a choice, ``AND``, which binds tighter, a sum.

    Raises `ValueError` for what is no expression.
    """
    tokens = re.findall(r"[()]|[^\s()]+", expression)[::-1]  # a stack: the next token is the last item

    def joined(by: str, operand: Callable[[], T], join: Callable[[list[T]], T]) -> T:
        values = [operand()]
        while tokens and tokens[-1].upper() == by:
            tokens.pop()
            values.append(operand())
        return join(values)

    def any_of() -> T:
        return joined("OR", lambda: joined("AND", one, total), choice)

    def one() -> T:
        word = tokens.pop() if tokens else ")"
        if word == "(":
            value = any_of()
            if not tokens or tokens.pop() != ")":
                raise ValueError(f"a parenthesis is not closed in {expression!r:.60}")
            return value
        if word.upper() in (")", "OR", "AND", "WITH"):
            raise ValueError(f"a licence is missing in {expression!r:.60}")
        return part(_with_exception(word, tokens))

    value = any_of()
    if tokens:
        raise ValueError(f"{expression!r:.60} is no licence expression")
    return value


def _with_exception(identifier: str, tokens: list[str]) -> str:
    """Take ``WITH exception`` from the stack; the GPL with a linking exception asks for as much as the LGPL."""
    if len(tokens) < 2 or tokens[-1].upper() != "WITH":
        return identifier
    tokens.pop()
    exception = tokens.pop().lower()
    lenient = identifier.upper().startswith("GPL-") and any(word in exception for word in _LINKING_EXCEPTIONS)
    return f"L{identifier}" if lenient else identifier
