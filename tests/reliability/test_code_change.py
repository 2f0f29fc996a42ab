"""The program is edited between a crash and the resumption: what the edit means decides whether the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flow_hitl import human_in_the_loop
from flow_loop import loop_until
from flow_parallel import parallel

from flow import Flow, Pipeline, PipelineChanged, StateError, Step
from tests.reliability.mutants import mutated
from tests.reliability.oracle import Violation
from tests.reliability.stores import KINDS, kernel, open_store, url_of
from tests.reliability.witness import Fault, Faulty

_done: list[str] = []


async def fetch(n: int) -> int:
    _done.append("fetch")
    return n + 1


async def clean(n: int) -> int:
    _done.append("clean")
    return n * 2


async def scrub(n: int) -> int:
    _done.append("scrub")
    return n * 3


async def as_text(n: int) -> str:
    _done.append("clean")
    return str(n)


async def left(n: int) -> int:
    _done.append("left")
    return n - 1


async def right(n: int) -> int:
    _done.append("right")
    return n + 1


async def total(parts: dict[str, int]) -> int:
    _done.append("total")
    return sum(parts.values())


async def save(n: int) -> int:
    _done.append("save")
    return n


def big(n: Any, _context: Any) -> bool:
    return n > 0


def steps() -> dict[str, Any]:
    return {
        "fetch": Step("fetch", fetch),
        "clean": Step("clean", clean),
        "both": parallel("both", {"left": Step("left", left), "right": Step("right", right)}),
        "total": Step("total", total),
        "grow": loop_until("grow", Step("grown", clean), big, max_loops=5),
        "ask": human_in_the_loop("ask", "Sure?", bool),
        "save": Step("save", save),
    }


def pipeline(**changed: Any) -> Pipeline[Any, Any]:
    """The pipeline the run began with, with some steps replaced; ``None`` takes one away."""
    found = {**steps(), **changed}
    return Pipeline([step for step in found.values() if step is not None], name="edited")


def reordered() -> Pipeline[Any, Any]:
    order = ["clean", "fetch", "both", "total", "grow", "ask", "save"]
    return Pipeline([steps()[name] for name in order], name="edited")


def inserted() -> Pipeline[Any, Any]:
    found = list(steps().values())
    return Pipeline([*found[:1], Step("checked", scrub), *found[1:]], name="edited")


SEMANTIC: dict[str, tuple[Callable[[], Pipeline[Any, Any]], str]] = {
    "rename a step": (lambda: pipeline(clean=Step("tidy", clean)), "tidy"),
    "reorder steps": (reordered, "clean"),
    "insert a step": (inserted, "checked"),
    "delete a step": (lambda: pipeline(clean=None), "clean"),
    "another agent": (lambda: pipeline(clean=Step("clean", scrub)), "scrub"),
    "another type": (lambda: pipeline(clean=Step("clean", as_text)), "clean"),
    "another retry policy": (lambda: pipeline(fetch=Step("fetch", fetch, retries=3)), "retries"),
    "another bound": (lambda: pipeline(grow=loop_until("grow", Step("grown", clean), big, max_loops=9)), "max_loops"),
    "one branch more": (
        lambda: pipeline(
            both=parallel(
                "both", {"left": Step("left", left), "right": Step("right", right), "mid": Step("mid", right)}
            )
        ),
        "mid",
    ),
    "another schema of the answer": (lambda: pipeline(ask=human_in_the_loop("ask", "Sure?", int)), "ask"),
}


def same_name_other_body() -> Pipeline[Any, Any]:
    """As after an edit inside a function: it has the name it had."""

    async def clean(n: int) -> int:
        """What it does is said now."""
        _done.append("clean")
        return n + n  # and done in another way

    clean.__qualname__ = "clean"
    return pipeline(clean=Step("clean", clean))


COSMETIC = {
    "the body of a function": same_name_other_body,
    "metadata of a step": lambda: pipeline(fetch=Step("fetch", fetch, metadata={"owner": "Ada"})),
}


async def crashed(store: Any) -> None:
    """A run of the first version that has finished two steps of it when its process dies, so to speak."""
    _done.clear()
    with pytest.raises(StateError):
        await Flow(pipeline(), state=Faulty(store, Fault(3, "fail", "append")), kernel=kernel()).run_async(
            1, run_id="edited"
        )
    _done.clear()


async def resume_edited(kind: str, folder: Path, edit: Callable[[], Pipeline[Any, Any]], mutant: str = "") -> str:
    """Resume a crashed run with another version of its program, which must be refused; returns what is said."""
    with mutated(mutant):
        store = open_store(url_of(kind, folder))
        try:
            await crashed(store)
            return await _refused(store, edit)
        finally:
            await store.aclose()


async def _refused(store: Any, edit: Callable[[], Pipeline[Any, Any]]) -> str:
    before = list(await store.load_steps("edited"))
    try:
        result = await Flow(edit(), state=store, kernel=kernel()).resume_async("edited")
    except PipelineChanged as error:
        if list(await store.load_steps("edited")) != before or _done:
            raise Violation("a refused run was changed") from error
        finished = await Flow(pipeline(), state=store, kernel=kernel()).resume_async("edited")
        if finished.status != "paused":
            raise Violation(f"after a refusal the run was {finished.status}") from error
        return str(error)
    raise Violation(f"resumed with another program: {result.status}")


@pytest.mark.parametrize("edit", SEMANTIC)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_edit_that_matters_is_refused_with_the_difference(kind: str, edit: str, tmp_path: Path) -> None:
    change, told = SEMANTIC[edit]
    assert told in await resume_edited(kind, tmp_path, change)


@pytest.mark.parametrize("edit", SEMANTIC)
async def test_an_edit_that_matters_can_be_insisted_on(edit: str) -> None:
    """Nothing is replayed for a step at another path, whatever the edit was."""
    store = open_store("memory://")
    await crashed(store)
    change, _ = SEMANTIC[edit]
    flow: Flow[Any, Any] = Flow(change(), state=store, kernel=kernel())
    if edit == "another type":  # what is stored is no value of the step that is there now
        with pytest.raises(StateError, match="1:clean"):
            await flow.resume_async("edited", on_change="continue")
        return
    result = await flow.resume_async("edited", on_change="continue")
    replayed = [step for step in result.step_history if step.replayed]
    assert {step.path for step in replayed} <= {"0:fetch", "1:clean"}
    assert result.status in ("paused", "failed")


@pytest.mark.parametrize("edit", COSMETIC)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_edit_that_does_not_matter_is_accepted(kind: str, edit: str, tmp_path: Path) -> None:
    store = open_store(url_of(kind, tmp_path))
    await crashed(store)
    flow: Flow[Any, Any] = Flow(COSMETIC[edit](), state=store, kernel=kernel())
    paused = await flow.resume_async("edited")
    assert paused.status == "paused"
    assert (await flow.resume_async("edited", True)).status == "completed"
    assert _done == ["left", "right", "total", "clean", "save"]
    await store.aclose()
