"""Licences and maturity are judged by what is stated."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from audit.licences import family_of, licence_from_metadata, licence_from_texts, permitted
from audit.maturity import judge
from audit.models import Family, Licence, LicencePolicy, Metadata, Stage

# -- licences


@pytest.mark.parametrize(
    ("stated", "expression", "source"),
    [
        ({"licence_expression": "Apache-2.0 OR MIT"}, "Apache-2.0 OR MIT", "License-Expression"),
        ({"licence_field": "MIT License"}, "MIT", "License field"),
        ({"licence_field": "Apache License, Version 2.0"}, "Apache-2.0", "License field"),
        ({"licence_field": "BSD 3-Clause"}, "BSD-3-Clause", "License field"),
        ({"licence_field": "CC0-1.0 OR Apache-2.0"}, "CC0-1.0 OR Apache-2.0", "License field"),
        ({"classifiers": ("License :: OSI Approved :: ISC License (ISCL)",)}, "ISC", "classifier"),
        (
            {
                "classifiers": (
                    "License :: OSI Approved :: MIT License",
                    "License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
                )
            },
            "MIT AND GPL-3.0-only",
            "classifiers",
        ),
    ],
)
def test_licence_is_read_from_metadata(stated: dict[str, Any], expression: str, source: str) -> None:
    licence = licence_from_metadata(Metadata(name="some", version="1", **stated))
    assert (licence.expression, licence.source) == (expression, source)


def test_licence_text_is_that_of_the_licence_it_names_first() -> None:
    lgpl = "GNU LESSER GENERAL PUBLIC LICENSE ... supplements the GNU General Public License ..."
    assert licence_from_texts([("COPYING", lgpl)]).family is Family.WEAK_COPYLEFT


@pytest.mark.parametrize(
    ("expression", "family"),
    [
        ("MIT", Family.PERMISSIVE),
        ("MIT AND LGPL-3.0-only", Family.WEAK_COPYLEFT),
        ("GPL-2.0-only OR MIT", Family.PERMISSIVE),
        ("MIT OR GPL-3.0-only AND AGPL-3.0-only", Family.PERMISSIVE),
        ("(MIT OR GPL-3.0-only) AND AGPL-3.0-only", Family.STRONG_COPYLEFT),
        ("GPL-2.0-only WITH Classpath-exception-2.0", Family.WEAK_COPYLEFT),
        ("Apache-2.0 WITH LLVM-exception", Family.PERMISSIVE),
        ("CC-BY-SA-4.0", Family.WEAK_COPYLEFT),
        ("LicenseRef-Ours", Family.UNKNOWN),
    ],
)
def test_expression_has_a_family(expression: str, family: Family) -> None:
    assert family_of(expression) is family


@pytest.mark.parametrize("text", ["", "MIT OR", "(MIT", "MIT)", "MIT License", "AND MIT"])
def test_text_that_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"licence|parenthesis"):
        family_of(text)


@pytest.mark.parametrize(
    ("policy", "expression", "passes"),
    [
        ({}, "AGPL-3.0-only", True),
        ({"deny": ("strong copyleft",)}, "AGPL-3.0-only", False),
        ({"deny": ("strong copyleft",)}, "AGPL-3.0-only OR MIT", True),
        ({"deny": ("strong copyleft",)}, "AGPL-3.0-only AND MIT", False),
        ({"deny": ("strong copyleft",), "allow": ("gpl-3.0-only",)}, "GPL-3.0-only", True),
        ({"allow": ("permissive",)}, "MPL-2.0", False),
        ({"allow": ("permissive",)}, "", False),
    ],
)
def test_policy_decides_about_a_licence(policy: dict[str, Any], expression: str, passes: bool) -> None:
    family = family_of(expression) if expression else Family.UNKNOWN
    assert permitted(LicencePolicy(**policy), Licence(family=family, expression=expression, source="x")) is passes


# -- maturity


@pytest.mark.parametrize(
    ("stated", "stage", "evidence"),
    [
        ({"version": "1.0"}, Stage.SETTLED, None),
        ({"version": "0.3"}, Stage.YOUNG, "promises no compatibility"),
        ({"version": "2.0rc1"}, Stage.EARLY, "is a pre-release"),
        ({"version": "26.1"}, Stage.SETTLED, "reads like the year 2026"),
        ({"version": "2019.3"}, Stage.SETTLED, "reads like the year 2019"),
        ({"version": "2019.3", "metadata_version": "1.2"}, Stage.DATED, "before 2018"),
        ({"version": "65.5"}, Stage.SETTLED, None),
        ({"version": "final", "requires_python": ">=2.7"}, Stage.DATED, "follows no scheme"),
        (
            {"version": "1.0", "classifiers": ("Development Status :: 3 - Alpha",)},
            Stage.EARLY,
            "calls itself alpha",
        ),
    ],
)
def test_maturity_is_judged_by_what_is_stated(stated: dict[str, Any], stage: Stage, evidence: str | None) -> None:
    maturity = judge(Metadata(name="some", **stated), date(2026, 6, 1))
    assert maturity.stage is stage
    assert any((evidence or "") in text for text in maturity.evidence) or evidence is None
