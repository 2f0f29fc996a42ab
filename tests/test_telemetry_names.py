"""Spans that flow-lens exports of stored runs have the names that flow-otel gives to those of living ones."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import flow_lens._names
import flow_otel._names
import pytest


def names_in(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name.isupper()}


@pytest.mark.parametrize("name", sorted(names_in(flow_lens._names)))
def test_a_name_is_the_same_in_both_packages(name: str) -> None:
    assert names_in(flow_lens._names)[name] == names_in(flow_otel._names).get(name)
