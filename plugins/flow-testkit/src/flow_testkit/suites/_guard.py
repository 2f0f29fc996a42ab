"""The guard: a suite proves something only when all of it ran as it was written."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from flow_testkit.suites._suite import Suite


class SuiteProblem(pytest.Item):
    """A failing test that says what is wrong with a suite class."""

    def __init__(self, *, message: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.message = message

    def runtest(self) -> None:
        """Fail."""
        pytest.fail(self.message, pytrace=False)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return the place of the class."""
        return self.path, 0, self.name


def uncollected(collector: Any, cls: type) -> SuiteProblem | None:
    """Return the failing test for a suite class whose name pytest does not take for a test's."""
    if not _is_of_a_user(cls) or cls.__subclasses__():  # a base of other suites; they are judged themselves
        return None
    message = (
        f"nothing was collected from {cls.__name__}, a {_suite_of(cls).__name__}: pytest takes a class for tests only "
        f"when its name fits python_classes.\nCall it Test{cls.__name__}."
    )
    return SuiteProblem.from_parent(collector, name=cls.__name__, message=message)


def problems(collector: pytest.Class, collected: Sequence[Any]) -> list[SuiteProblem]:
    """Return a failing test for each thing that is wrong with a collected suite class."""
    cls: type = collector.obj
    if not _is_of_a_user(cls):
        return []
    found = list(_tampering(cls))
    if not collected and not cls.__subclasses__():
        found.append(f"nothing was collected from {cls.__name__}: no test of {_suite_of(cls).__name__} would run.")
    # Beside the class and not in it: the marks of the class must not reach what complains about them.
    name = f"{cls.__name__}.standard_tests"
    parent = collector.parent or collector
    return [SuiteProblem.from_parent(parent, name=name, message=message) for message in found]


def standard_tests(cls: type) -> dict[str, object]:
    """Return the tests that a suite class inherits from this package, by name."""
    tests: dict[str, object] = {}
    for base in cls.__mro__:
        if _is_ours(base):
            found = {name: item for name, item in vars(base).items() if name.startswith("test_") and callable(item)}
            tests = found | tests
    return tests


def _tampering(cls: type) -> Iterator[str]:
    suite = _suite_of(cls).__name__
    if any(mark.name in ("xfail", "skip") for mark in _marks(cls)):
        yield f"{cls.__name__} is marked as a whole, so it proves nothing. Mark the tests that cannot pass, one by one."
    for name, test in standard_tests(cls).items():
        own = inspect.getattr_static(cls, name, None)
        if own is test or _is_expected_to_fail(own):
            continue
        verb = "overrides" if callable(own) else "deletes"
        yield (
            f"{cls.__name__} {verb} the standard test {name} of {suite}. Without it the suite does not show what it "
            f"claims to show.\nIf it cannot pass, keep it and say why:\n\n{_as_expected_failure(name, test)}"
        )


def _as_expected_failure(name: str, test: object) -> str:
    define, call = ("async def", "await ") if inspect.iscoroutinefunction(test) else ("def", "")
    return f'    @pytest.mark.xfail(reason="...")\n    {define} {name}(self):\n        {call}super().{name}()'


def _is_expected_to_fail(test: object) -> bool:
    return callable(test) and any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in _marks(test))


def _marks(item: object) -> list[pytest.Mark]:
    marks = getattr(item, "pytestmark", [])  # pytest's own attribute: of functions a list, of classes also one mark
    marks = marks if isinstance(marks, list) else [marks]
    return [mark.mark if isinstance(mark, pytest.MarkDecorator) else mark for mark in marks]


def _is_ours(cls: type) -> bool:
    return issubclass(cls, Suite) and cls.__module__.startswith("flow_testkit.")


def _is_of_a_user(cls: type) -> bool:
    return issubclass(cls, Suite) and not _is_ours(cls)


def _suite_of(cls: type) -> type:
    return next(base for base in cls.__mro__ if _is_ours(base))
