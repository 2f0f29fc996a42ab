"""Events as typed values and as JSON: complete, described by a schema, and without content unless it is asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from pydantic import BaseModel, SecretStr

from core.tests.command_line import Done
from core.tests.conftest import Recorder
from flow import EVENT_SCHEMA, Cache, Event, EventKind, Flow, PauseSignal, Step, StepRun, UsageLimits, event_schema
from flow.errors import CancelSignal, FlowError
from flow.events import (
    PAYLOADS,
    AttemptFailed,
    BreakerChanged,
    CacheLookup,
    Progress,
    Retry,
    RunCancelled,
    RunStarted,
    StepFinished,
)

CONTENT = "the prompt of a customer"


async def echo(data: Any) -> Any:
    return data


class Form(BaseModel):
    name: str
    password: SecretStr


async def stream(data: str) -> Any:
    for word in data.split():
        yield word


async def fails(data: Any) -> None:
    raise FlowError(f"cannot read {data}", hint=f"shorten {data}")


async def spends(data: str, *, run: StepRun) -> str:
    run.usage.add(cost_usd=1)
    await run.progress(3, 9, unit="page")
    return data


async def asks(data: str) -> None:
    raise PauseSignal(f"is this right: {data}")


async def cancels(data: str) -> None:
    raise CancelSignal(f"not {data}")


RUNS: Mapping[str, Callable[[], Flow[Any, Any]]] = {
    "plain": lambda: Flow(Step("echo", echo) >> Step("again", echo, cache=Cache())),
    "streaming": lambda: Flow(Step("stream", stream)),
    "retried": lambda: Flow(Step("fails", fails, retries=1, fallback=Step("echo", echo))),
    "failing": lambda: Flow((Step("echo", echo) >> Step("fails", fails)).as_step("inner")),
    "limited": lambda: Flow(Step("spends", spends), usage_limits=UsageLimits(total_cost_usd_limit=0.5)),
    "pausing": lambda: Flow(Step("asks", asks)),
    "cancelled": lambda: Flow(Step("cancels", cancels)),
}
SEEN_HERE = {
    "run.started", "run.cancelled", "run.finished", "step.started", "step.finished", "attempt.failed", "step.retry",
    "step.fallback", "step.cache", "step.chunk", "step.progress", "step.paused", "step.cancelled", "step.limit",
}  # fmt: skip


def events_of(flow: Flow[Any, Any], data: Any = CONTENT) -> list[Event]:
    recorder = Recorder()
    flow.evolve(hooks=[recorder]).run(data)
    return recorder.events


# -- typed payloads


def test_every_kind_has_a_payload_of_its_own() -> None:
    assert set(PAYLOADS) == set(EventKind)
    assert len(set(PAYLOADS.values())) == len(PAYLOADS)


def test_payloads_hold_what_belongs_to_the_kind() -> None:
    events = events_of(RUNS["retried"]())
    payloads = {event.kind: event.payload for event in events}
    assert payloads[EventKind.RUN_STARTED] == RunStarted(data=CONTENT)
    failed, retried = payloads[EventKind.ATTEMPT_FAILED], payloads[EventKind.RETRY]
    assert isinstance(failed, AttemptFailed)
    assert (failed.attempt, failed.category) == (2, "unknown")
    assert isinstance(retried, Retry)
    assert (retried.attempt, retried.delay_s >= 0, type(retried.error)) == (2, True, FlowError)
    finished = payloads[EventKind.STEP_FINISHED]
    assert isinstance(finished, StepFinished)
    assert finished.result is not None
    assert finished.result.output == CONTENT


def test_payloads_read_details_under_the_names_that_python_allows() -> None:
    detail = {"name": "openai", "from": "closed", "to": "open", "reason": "5 failures", "of a later version": 1}
    event = Event(kind=EventKind.BREAKER, run_id="r", trace_id="r", at=0.0, detail=detail)
    assert event.payload == BreakerChanged(name="openai", before="closed", after="open", reason="5 failures")


def test_the_cache_tells_what_it_found() -> None:
    flow = Flow(Step("again", echo, cache=Cache()))
    first, second = events_of(flow), events_of(flow.evolve())
    assert [event.payload for event in first if event.kind is EventKind.CACHE] == [CacheLookup(outcome="miss")]
    assert [event.payload for event in second if event.kind is EventKind.CACHE] == [CacheLookup(outcome="miss")]
    recorder = Recorder()
    twice = flow.evolve(hooks=[recorder])
    for _ in range(2):
        twice.run(CONTENT)
    assert [event.payload.outcome for event in recorder.of(EventKind.CACHE)] == ["miss", "hit"]


async def test_an_equal_computation_under_way_is_told_as_shared() -> None:
    recorder, gate = Recorder(), asyncio.Event()

    async def wait(data: str) -> str:
        await gate.wait()
        return data

    flow = Flow(Step("wait", wait, cache=Cache()), hooks=[recorder])
    runs = [flow.start("x"), flow.start("x")]
    while len(recorder.of(EventKind.CACHE)) < 1:
        await asyncio.sleep(0)
    gate.set()
    for run in runs:
        await run
    assert sorted(event.payload.outcome for event in recorder.of(EventKind.CACHE)) == ["miss", "shared"]


def test_progress_of_an_agent_is_told() -> None:
    (event,) = [event for event in events_of(RUNS["limited"]()) if event.kind is EventKind.PROGRESS]
    assert (event.path, event.payload) == ("0:spends", Progress(done=3, total=9, unit="page"))


@pytest.mark.parametrize(("done", "total"), [(-1, None), (0, -3)])
def test_progress_counts_from_zero(done: int, total: int | None) -> None:
    async def counts(data: Any, *, run: StepRun) -> None:
        await run.progress(done, total)

    result = Flow(Step("counts", counts)).run()
    assert "progress counts from 0" in str(result.error)


async def test_the_end_of_a_cancellation_is_told() -> None:
    recorder = Recorder()

    async def waits(data: Any) -> None:
        await asyncio.Event().wait()

    flow = Flow(Step("waits", waits), hooks=[recorder])
    handle = flow.start()
    while EventKind.STEP_STARTED not in [event.kind for event in recorder.events]:
        await asyncio.sleep(0)
    assert handle.cancel()
    await handle
    assert recorder.kinds[-4:] == ["run.cancelling", "step.cancelled", "run.cancelled", "run.finished"]
    told = recorder.of(EventKind.RUN_CANCELLED)[0].payload
    assert isinstance(told, RunCancelled)
    assert told.status == "cancelled"
    assert 0 <= told.took_s < 60


# -- JSON


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("name", sorted(RUNS))
def test_every_event_fits_the_schema(name: str, content: bool) -> None:
    for event in events_of(RUNS[name]()):
        values = json.loads(json.dumps(event.to_dict(content=content)))
        assert mistakes(event_schema(), values) == []
        assert values["schema"] == EVENT_SCHEMA


def test_the_runs_here_tell_all_that_can_be_told() -> None:
    kinds = {event.kind.value for name in RUNS for event in events_of(RUNS[name]())}
    assert kinds == SEEN_HERE


@pytest.mark.parametrize("kind", EventKind)
def test_a_bare_event_of_any_kind_fits_the_schema(kind: EventKind) -> None:
    event = Event(kind=kind, run_id="r", trace_id="r", at=1.0)
    assert mistakes(event_schema(), event.to_dict(content=True)) == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"schema": 2},
        {"kind": "step.danced"},
        {"payload": {"danced": True}},
        {"payload": {"attempt": "first"}},
        {"at": "noon"},
    ],
)
def test_the_schema_refuses_what_is_no_event(values: dict[str, Any]) -> None:
    good = Event(kind=EventKind.RETRY, run_id="r", trace_id="r", at=1.0).to_dict()
    assert mistakes(event_schema(), {**good, **values} if values else values) != []


@pytest.mark.parametrize("name", sorted(RUNS))
def test_no_content_unless_it_is_asked_for(name: str) -> None:
    written = json.dumps([event.to_dict() for event in events_of(RUNS[name]())])
    assert "prompt" not in written
    assert "customer" not in written


def test_content_is_there_when_it_is_asked_for() -> None:
    written = json.dumps([event.to_dict(content=True) for event in events_of(RUNS["failing"]())])
    assert f"cannot read {CONTENT}" in written
    assert f"shorten {CONTENT}" in written


def test_secrets_are_masked_even_with_content() -> None:
    form = Form(name="ada", password=SecretStr("hunter2hunter2"))
    data = [form, {"api_key": "hunter2hunter2", "note": "use sk-live-0123456789abcdef"}]
    written = json.dumps([event.to_dict(content=True) for event in events_of(RUNS["plain"](), data)])
    assert "ada" in written
    assert "hunter2" not in written
    assert "sk-live" not in written


def test_values_that_are_no_json_are_told_in_words() -> None:
    endless: list[Any] = []
    endless.append(endless)
    event = Event(kind=EventKind.STEP_STARTED, run_id="r", trace_id="r", at=1.0, data=endless)
    assert "…" in json.dumps(event.to_dict(content=True), ensure_ascii=False)
    binary = attrs.evolve(event, data={"image": b"\xff\xfe", "number": float("nan"), "object": object()})
    json.dumps(binary.to_dict(content=True), allow_nan=False)


# -- flow run --events

APP = """
from flow import Step

async def fetch(text):
    return text

async def parse(text):
    raise ValueError(f"cannot parse {text}")

pipeline = Step("fetch", fetch) >> Step("parse", parse).evolve(retries=0)
"""


def test_the_command_line_writes_events(cli: Callable[..., Done], tmp_path: Path) -> None:
    Path("app.py").write_text(APP)
    done = cli("run", "app.py", "--input", CONTENT, "--events", "events.jsonl")
    assert done.code == 1
    lines = [json.loads(line) for line in Path("events.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == [
        "run.started", "step.started", "step.finished", "step.started", "step.finished", "run.finished",
    ]  # fmt: skip
    assert [mistakes(event_schema(), line) for line in lines] == [[]] * len(lines)
    assert "customer" not in Path("events.jsonl").read_text()
    assert lines[-1]["payload"]["error"]["message"].endswith("cannot parse [withheld]")
    again = cli("run", "app.py", "--input", CONTENT, "--events", "events.jsonl", "--events-content")
    assert again.code == 1
    text = Path("events.jsonl").read_text()
    assert len(text.splitlines()) == 12, "a file is added to"
    assert CONTENT in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--events", "missing/events.jsonl"], "--events missing/events.jsonl: No such file or directory"),
        (["--events-content"], "--events-content says what --events FILE holds"),
    ],
)
def test_a_file_that_cannot_be_written_is_wrong_use(
    cli: Callable[..., Done], arguments: list[str], message: str
) -> None:
    Path("app.py").write_text(APP)
    done = cli("run", "app.py", "--input", "x", *arguments)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


# -- a reader of schemas, as far as this one goes


def mistakes(schema: Mapping[str, Any], value: Any, place: str = "event") -> list[str]:
    """Return what does not fit; knows the words that `event_schema` uses, and refuses others."""
    known = {"$schema", "title", "description", "type", "properties", "required", "additionalProperties", "items"}
    known |= {"anyOf", "allOf", "if", "then", "const", "enum"}
    assert set(schema) <= known, f"the schema says more than is looked at: {set(schema) - known}"
    found = [] if _is_type(schema.get("type"), value) else [f"{place} is no {schema['type']}"]
    if "const" in schema and value != schema["const"]:
        found.append(f"{place} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{place} is none of {schema['enum']}")
    if isinstance(value, dict):
        found += [f"{place} has no {name}" for name in schema.get("required", ()) if name not in value]
        for name, item in value.items():
            if name in schema.get("properties", {}):
                found += mistakes(schema["properties"][name], item, f"{place}.{name}")
            elif schema.get("additionalProperties") is False:
                found.append(f"{place} may have no {name}")
    if isinstance(value, list) and "items" in schema:
        found += [text for item in value for text in mistakes(schema["items"], item, f"{place}[]")]
    if "anyOf" in schema and all(mistakes(option, value, place) for option in schema["anyOf"]):
        found.append(f"{place} fits nothing that is allowed")
    for part in schema.get("allOf", ()):
        if "if" not in part or not mistakes(part["if"], value, place):
            found += mistakes(part.get("then", {}), value, place)
    return found


def _is_type(wanted: Any, value: Any) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, list):
        return any(_is_type(one, value) for one in wanted)
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    if wanted in ("number", "integer"):
        return not isinstance(value, bool) and isinstance(value, (int, float) if wanted == "number" else int)
    return isinstance(value, kinds[wanted])
