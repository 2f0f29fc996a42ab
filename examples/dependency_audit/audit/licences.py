"""Licences: from whatever a distribution says about its terms to an expression, and from that to a family."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from audit.models import Family, Licence, LicencePolicy, Metadata

T = TypeVar("T")

# Beginnings of SPDX identifiers in lower case; the longest that fits decides.
_FAMILIES = {
    Family.PUBLIC_DOMAIN: "cc0- unlicense pddl- licenseref-public-domain sax-pd blessing",
    Family.PERMISSIVE: "0bsd afl- apache- artistic- blueoak- bsd bsl- cc-by- cecill-b cnri- curl ecl- hpnd isc libpng"
    " mit ms-pl ncsa ofl- openssl postgresql psf- pil python- tcl unicode- upl- w3c wtfpl x11 zlib zpl-",
    Family.WEAK_COPYLEFT: "cc-by-sa- cddl- cecill-c cpl- epl- eupl- ipl- lgpl- mpl- ms-rl licenseref-weak",
    Family.STRONG_COPYLEFT: "agpl- cecill- gpl- osl- sspl- licenseref-gpl",
    Family.PROPRIETARY: "busl- cc-by-nc- elastic- licenseref-commercial licenseref-proprietary polyform-",
}
_BEGINNINGS = sorted(((b, family) for family, bs in _FAMILIES.items() for b in bs.split()), key=lambda b: -len(b[0]))

# Exceptions that let other programs be linked without taking over their terms.
_LINKING_EXCEPTIONS = ("classpath", "gcc", "linking", "font", "openssl", "bootloader", "universal-foss")

# How people write licences in the License field and in classifiers, reduced by `_plain`.
_ALIASES = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache software": "Apache-2.0",
    "apache software 2.0": "Apache-2.0",
    "mit": "MIT",
    "expat": "MIT",
    "mit no attribution": "MIT-0",
    "mit-0": "MIT-0",
    "bsd": "BSD-3-Clause",
    "bsd 2": "BSD-2-Clause",
    "bsd 2 clause": "BSD-2-Clause",
    "simplified bsd": "BSD-2-Clause",
    "bsd 3": "BSD-3-Clause",
    "bsd 3 clause": "BSD-3-Clause",
    "3 clause bsd": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause",
    "isc": "ISC",
    "iscl": "ISC",
    "zlib libpng": "Zlib",
    "zpl 2.1": "ZPL-2.1",
    "zope public": "ZPL-2.1",
    "psf": "PSF-2.0",
    "psf 2.0": "PSF-2.0",
    "python software foundation": "PSF-2.0",
    "historical permission notice and disclaimer hpnd": "HPND",
    "boost software 1.0 bsl 1.0": "BSL-1.0",
    "academic free afl": "AFL-3.0",
    "universal permissive upl": "UPL-1.0",
    "mpl 1.1": "MPL-1.1",
    "mpl 2": "MPL-2.0",
    "mpl 2.0": "MPL-2.0",
    "mozilla public 1.1 mpl 1.1": "MPL-1.1",
    "mozilla public 2.0": "MPL-2.0",
    "mozilla public 2.0 mpl 2.0": "MPL-2.0",
    "eclipse public 1.0 epl 1.0": "EPL-1.0",
    "eclipse public 2.0 epl 2.0": "EPL-2.0",
    "european union public 1.2 eupl 1.2": "EUPL-1.2",
    "lgpl": "LGPL-2.1-or-later",
    "lgpl 3": "LGPL-3.0-only",
    "gnu lgpl": "LGPL-2.1-or-later",
    "lgplv2+": "LGPL-2.0-or-later",
    "lgplv2.1+": "LGPL-2.1-or-later",
    "lgplv3": "LGPL-3.0-only",
    "lgplv3+": "LGPL-3.0-or-later",
    "gnu lesser general public lgpl": "LGPL-2.1-or-later",
    "gnu library or lesser general public lgpl": "LGPL-2.1-or-later",
    "gnu lesser general public 2 lgplv2": "LGPL-2.0-only",
    "gnu lesser general public 2 or later lgplv2+": "LGPL-2.0-or-later",
    "gnu lesser general public 3 lgplv3": "LGPL-3.0-only",
    "gnu lesser general public 3 or later lgplv3+": "LGPL-3.0-or-later",
    "gpl": "GPL-2.0-or-later",
    "gpl 2": "GPL-2.0-only",
    "gpl 3": "GPL-3.0-only",
    "gplv2": "GPL-2.0-only",
    "gplv2+": "GPL-2.0-or-later",
    "gplv3": "GPL-3.0-only",
    "gplv3+": "GPL-3.0-or-later",
    "gnu gpl": "GPL-2.0-or-later",
    "gnu general public gpl": "GPL-2.0-or-later",
    "gnu general public 2 gplv2": "GPL-2.0-only",
    "gnu general public 2 or later gplv2+": "GPL-2.0-or-later",
    "gnu general public 3 gplv3": "GPL-3.0-only",
    "gnu general public 3 or later gplv3+": "GPL-3.0-or-later",
    "gnu affero general public 3": "AGPL-3.0-only",
    "gnu affero general public 3 or later agplv3+": "AGPL-3.0-or-later",
    "agplv3": "AGPL-3.0-only",
    "agplv3+": "AGPL-3.0-or-later",
    "public domain": "LicenseRef-Public-Domain",
    "unlicense": "Unlicense",
    "unlicense unlicense": "Unlicense",
    "cc0 1.0 universal cc0 1.0 public domain dedication": "CC0-1.0",
    "proprietary": "LicenseRef-Proprietary",
    "other proprietary": "LicenseRef-Proprietary",
    "commercial": "LicenseRef-Commercial",
}

# Sentences that only one licence has, in the order of the texts that quote each other: what stands first in a file wins.
_SENTENCES = (
    ("gnu affero general public license", "AGPL-3.0-or-later"),
    ("gnu lesser general public license", "LGPL-2.1-or-later"),
    ("gnu library general public license", "LGPL-2.0-or-later"),
    ("gnu general public license", "GPL-2.0-or-later"),
    ("mozilla public license", "MPL-2.0"),
    ("eclipse public license", "EPL-2.0"),
    ("apache license", "Apache-2.0"),
    ("permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"),
    ("redistribution and use in source and binary forms", "BSD-3-Clause"),
    ("permission to use, copy, modify, and/or distribute this software for any purpose with or without fee", "ISC"),
    ("permission to use, copy, modify, and distribute this software for any purpose with or without fee", "ISC"),
    ("permission to use, copy, modify, and distribute this software and its documentation", "HPND"),
    ("python software foundation license", "PSF-2.0"),
    ("zope public license", "ZPL-2.1"),
    ("boost software license", "BSL-1.0"),
    ("altered source versions must be plainly marked", "Zlib"),
    ("free and unencumbered software released into the public domain", "Unlicense"),
    ("cc0 1.0 universal", "CC0-1.0"),
    ("business source license", "BUSL-1.1"),
    ("proprietary and confidential", "LicenseRef-Proprietary"),
)


class Unstated(Exception):
    """The metadata do not say what the licence is."""


def family_of(identifier: str) -> Family:
    """Return the family of one SPDX identifier.

    >>> [str(family_of(name)) for name in ("MIT", "LGPL-3.0-only", "CC0-1.0", "LicenseRef-Ours")]
    ['permissive', 'weak copyleft', 'public domain', 'unknown']
    """
    name = identifier.lower()
    return next((family for beginning, family in _BEGINNINGS if name.startswith(beginning)), Family.UNKNOWN)


def family_of_expression(expression: str) -> Family:
    """Return the family of an SPDX expression: of a choice the mildest, of a sum the strictest.

    >>> str(family_of_expression("MPL-2.0 AND (GPL-3.0-only OR MIT)"))
    'weak copyleft'
    """
    return _evaluate(
        expression, family_of, lambda parts: min(parts, key=_rank), lambda parts: max(parts, key=_rank)
    )


def permitted(policy: LicencePolicy, licence: Licence) -> bool:
    """Tell whether a policy lets a licence pass; of a choice one part is enough."""
    if not licence.expression:
        return _part_permitted(policy, "", licence.family)
    return _evaluate(licence.expression, lambda name: _part_permitted(policy, name, family_of(name)), any, all)


def _part_permitted(policy: LicencePolicy, name: str, family: Family) -> bool:
    allowed, denied = ({word.lower() for word in words} for words in (policy.allow, policy.deny))
    if name.lower() in allowed | denied:
        return name.lower() not in denied
    return family not in denied and (not allowed or family in allowed)


def licence_from_metadata(metadata: Metadata) -> Licence:
    """Return the licence that the metadata state; raises `Unstated` when they do not.

    >>> licence_from_metadata(Metadata(name="a", version="1", licence_field="BSD License")).expression
    'BSD-3-Clause'
    """
    if metadata.licence_expression:
        return _licence(metadata.licence_expression, "License-Expression")
    if metadata.licence_field:
        found = _ALIASES.get(_plain(metadata.licence_field)) or _valid_expression(metadata.licence_field)
        if found:
            return _licence(found, "License field")
    named = [c.rpartition(" :: ")[2] for c in metadata.classifiers if c.startswith("License :: ")]
    known = dict.fromkeys(_ALIASES[_plain(name)] for name in named if _plain(name) in _ALIASES)
    if not known:
        raise Unstated(f"{metadata.name} states no licence that is known by name")
    return _licence(" AND ".join(known), "classifiers" if len(known) > 1 else "classifier")


def licence_from_texts(texts: Iterable[tuple[str, str]]) -> Licence:
    """Return the licence that the texts of licence files, (name, text), have in common with known ones.

    >>> licence_from_texts([("COPYING", "Released under the Mozilla Public License, version 2")]).expression
    'MPL-2.0'
    """
    found = {name: identifier for name, text in texts if (identifier := _recognise(text))}
    if not found:
        return Licence(family=Family.UNKNOWN, source="nothing")
    return _licence(" AND ".join(dict.fromkeys(found.values())), f"text of {', '.join(sorted(found))}")


def _licence(expression: str, source: str) -> Licence:
    return Licence(family=family_of_expression(expression), expression=expression, source=source)


def _recognise(text: str) -> str | None:
    words = " ".join(text.lower().split())
    places = [(words.find(sentence), identifier) for sentence, identifier in _SENTENCES]
    return min((place for place in places if place[0] >= 0), default=(0, None))[1]


def _plain(name: str) -> str:
    """Reduce a licence's name to the words that tell it from others."""
    name = re.sub(r"[(),/:\"-]", " ", name.lower())
    name = re.sub(r"\b(the|licen[cs]ed?|version|clauses?)\b|\bv(?=\d)", lambda m: m[0] if m[0][0] == "c" else " ", name)
    return " ".join(name.split())


def _valid_expression(text: str) -> str | None:
    """Return `text` if every part of it is an identifier whose family is known; an essay is not."""
    try:
        known = _evaluate(text, lambda name: family_of(name) is not Family.UNKNOWN, all, all)
    except ValueError:
        return None
    return text if known else None


def _rank(family: Family) -> int:
    return family.rank


# -- SPDX expressions --------------------------------------------------------------------------------------------------

Fold = Callable[[list[T]], T]


def _evaluate(expression: str, leaf: Callable[[str], T], choice: Fold[T], total: Fold[T]) -> T:
    """Evaluate an SPDX expression from its leaves: ``OR`` is a choice, ``AND`` a sum, ``WITH`` belongs to its leaf.

    Raises `ValueError` for what is no expression.
    """
    tokens = re.findall(r"[()]|[^\s()]+", expression)
    value, rest = _any_of(tokens, leaf, choice, total)
    if rest:
        raise ValueError(f"{expression!r:.60} is no licence expression")
    return value


def _any_of(tokens: list[str], leaf: Callable[[str], T], choice: Fold[T], total: Fold[T]) -> tuple[T, list[str]]:
    value, tokens = _all_of(tokens, leaf, choice, total)
    values = [value]
    while tokens and tokens[0].upper() == "OR":
        value, tokens = _all_of(tokens[1:], leaf, choice, total)
        values.append(value)
    return choice(values), tokens


def _all_of(tokens: list[str], leaf: Callable[[str], T], choice: Fold[T], total: Fold[T]) -> tuple[T, list[str]]:
    value, tokens = _part(tokens, leaf, choice, total)
    values = [value]
    while tokens and tokens[0].upper() == "AND":
        value, tokens = _part(tokens[1:], leaf, choice, total)
        values.append(value)
    return total(values), tokens


def _part(tokens: list[str], leaf: Callable[[str], T], choice: Fold[T], total: Fold[T]) -> tuple[T, list[str]]:
    if not tokens or tokens[0].upper() in (")", "OR", "AND", "WITH"):
        raise ValueError("a licence expression is incomplete")
    if tokens[0] == "(":
        value, tokens = _any_of(tokens[1:], leaf, choice, total)
        if tokens[:1] != [")"]:
            raise ValueError("a parenthesis is not closed")
        return value, tokens[1:]
    name, tokens = tokens[0], tokens[1:]
    if len(tokens) > 1 and tokens[0].upper() == "WITH":
        exception, tokens = tokens[1].lower(), tokens[2:]
        if name.upper().startswith("GPL-") and any(word in exception for word in _LINKING_EXCEPTIONS):
            name = f"L{name}"  # asks as much as the LGPL does
    return leaf(name), tokens
