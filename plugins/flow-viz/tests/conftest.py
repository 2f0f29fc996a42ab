"""Step types of a third party, random structures, and the parser of Mermaid."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
from hypothesis import strategies as st

from flow import BaseStep, Pipeline, RunResult, RunStatus, StepRecord, StepResult, Usage

_CHECKER = Path(__file__).with_name("mermaid")


# -- step types that flow-viz cannot know


@attrs.frozen(kw_only=True)
class Vote(BaseStep[Any, Any]):
    """Children with labels that say nothing of an order."""

    kind: ClassVar[str] = "acme.vote"

    jurors: Mapping[str, BaseStep[Any, Any] | Pipeline[Any, Any]] = attrs.field(factory=dict, hash=False)
    quorum: int = 2
    api_key: str = ""
    brief: str = ""

    def children(self) -> Mapping[str, BaseStep[Any, Any] | Pipeline[Any, Any]]:
        return self.jurors


@attrs.frozen(kw_only=True)
class Stages(BaseStep[Any, Any]):
    """Children whose labels count."""

    kind: ClassVar[str] = "acme.stages"

    stages: tuple[BaseStep[Any, Any], ...] = ()

    def children(self) -> Mapping[str, BaseStep[Any, Any]]:
        return {f"{number}:{stage.name}": stage for number, stage in enumerate(self.stages)}


@attrs.frozen(kw_only=True)
class Guarded(BaseStep[Any, Any]):
    """One child."""

    kind: ClassVar[str] = "acme.guarded"

    body: Pipeline[Any, Any] = attrs.field(converter=Pipeline.of)

    def children(self) -> Mapping[str, Pipeline[Any, Any]]:
        return {"inside": self.body}


@pytest.fixture(scope="session")
def acme() -> Any:
    """The step types of a package that flow-viz has never heard of."""
    return _Acme()


@attrs.frozen
class _Acme:
    Vote = Vote
    Stages = Stages
    Guarded = Guarded


# -- structures


def make(name: str, kind: str = "step", children: Mapping[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    """Return the structure of a step, as `flow.structure` writes it."""
    return {"name": name, "kind": kind, "config": config, "types": {}, "children": dict(children or {})}


def in_series(*steps: Mapping[str, Any], name: str = "pipeline") -> dict[str, Any]:
    """Return the structure of a pipeline."""
    return make(name, "pipeline", {f"{number}:{step['name']}": step for number, step in enumerate(steps)})


@pytest.fixture(scope="session")
def structure_of() -> Callable[..., dict[str, Any]]:
    """`make` above, for structures of kinds that are not installed."""
    return make


@pytest.fixture(scope="session")
def series_of() -> Callable[..., dict[str, Any]]:
    """`in_series` above."""
    return in_series


_NASTY = st.sampled_from(
    ['"quoted"', "end", "graph", "subgraph", "<b>bold", "a&amp;b", "[x]", "{y}", "(z)", "100%%", "%%{init}%%", "'"]
)
_NASTY |= st.sampled_from(
    ["back\\slash", "`code`", "$$x^2$$", "fa:fa-car", "x:#fff;", "click", "a|b", "a-->b", "]]>", ";"]
)
_NASTY |= st.sampled_from(["\x1b[31mred", "\u202etfel", "\ud800", "__init__", "*bold*", "naïve 東京 ☃", "two\nlines"])
_NASTY |= st.sampled_from(["1. first", "- item", "# head", "style: x:#fff;", "x" * 90])
_NAMES = st.one_of(_NASTY, st.text(min_size=1, max_size=12).filter(lambda text: text.strip() and "/" not in text))
_CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "retries": st.integers(0, 5),
        "timeout": st.floats(0, 1e5),
        "cache": st.just({"type": "flow.Cache", "ttl": 60, "key": None}),
        "max_loops": st.integers(1, 9),
        "message": _NAMES,
        "choose": st.sampled_from(["app.pick", "app.<lambda>"]),
        "limit": _NAMES,
    },
)
_TYPES = st.dictionaries(
    st.sampled_from(["input", "output"]), st.sampled_from(["int", "list[dict[str, Any]]", "T<'x'>"])
)
_MANY = ("branch", "parallel", "acme.vote", "refine")
_ONE = ("loop", "map", "approval", "acme.guarded", "pipeline")


@st.composite
def structures(draw: st.DrawFn, leaves: int = 12) -> dict[str, Any]:
    """Draw a nested pipeline; every name occurs once, so that a drawing can be searched for it."""
    numbers = iter(range(1_000))

    def step(depth: int) -> dict[str, Any]:
        form = draw(st.sampled_from(["leaf", "leaf", "one", "many"])) if depth < 3 else "leaf"
        kind = draw(st.sampled_from({"leaf": ("step", "hitl", "acme.leaf"), "one": _ONE, "many": _MANY}[form]))
        children = {}
        if form == "one":
            children = {"pipeline" if kind == "pipeline" else "body": series(depth + 1)}
        elif form == "many":
            labels = draw(st.lists(_NAMES, min_size=1, max_size=3, unique=True))
            children = {label: series(depth + 1) for label in labels}
        found = make(f"{draw(_NAMES)} {next(numbers)}", kind, children, **draw(_CONFIGS))
        if depth < 3 and draw(st.booleans()) and draw(st.booleans()):
            found["config"]["fallback"] = step(3)
        return {**found, "types": draw(_TYPES)}

    def series(depth: int) -> dict[str, Any]:
        return in_series(*(step(depth) for _ in range(draw(st.integers(0 if depth else 1, 3)))))

    return series(0)


@pytest.fixture(scope="session")
def any_structure() -> st.SearchStrategy[dict[str, Any]]:
    """Nested structures with names that are hard to write down."""
    return structures()


def all_steps(structure: Mapping[str, Any], *, bare: bool = True) -> Iterator[Mapping[str, Any]]:
    """Yield every step of a structure, fallbacks among them, and no pipeline that is only a body."""
    children = structure["children"]
    if structure["kind"] != "pipeline" or not all(label.partition(":")[0].isdecimal() for label in children):
        yield structure
    for child in [*children.values(), *filter(None, [structure["config"].get("fallback")])]:
        yield from all_steps(child)


@pytest.fixture(scope="session")
def steps_of() -> Callable[[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Every step of a structure."""
    return lambda structure: list(all_steps(structure))


# -- runs


@pytest.fixture(scope="session")
def record_of() -> Callable[..., StepRecord]:
    """Makes the record of a step that took a tenth of a second."""

    def record(path: str, status: str = "completed", **fields: Any) -> StepRecord:
        name = path.rpartition("/")[2].partition(":")[2]
        cost = Usage(cost_usd=fields.pop("cost", 0.0))
        values = {"latency_s": 0.1, "usage": cost, "kind": "step", **fields}
        return StepRecord(path=path, parent=path.rpartition("/")[0], name=name, status=status, **values)

    return record


@pytest.fixture(scope="session")
def run_of() -> Callable[..., RunResult[Any]]:
    """Makes the result of a run from the results of its steps."""

    def run(*history: StepResult, status: str = "completed", **fields: Any) -> RunResult[Any]:
        return RunResult(
            run_id="r-1",
            trace_id="",
            pipeline="pipeline",
            status=RunStatus(status),
            step_history=list(history),
            usage=sum((result.usage for result in history), Usage()),
            final_pipeline_context=None,
            **{"latency_s": 2.0, **fields},
        )

    return run


# -- Mermaid


@pytest.fixture(scope="session")
def parse_mermaid() -> Callable[[list[str]], list[dict[str, Any]]]:
    """Parses diagrams with Mermaid itself, all in one process; skips where there is no Node, or no package for it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node and npm are needed to run the parser of Mermaid")
    folder = _installed(npm)

    def parse(diagrams: list[str]) -> list[dict[str, Any]]:
        ended = subprocess.run(
            [node, "check.mjs"],
            cwd=folder,
            input=json.dumps(diagrams),
            check=False,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return parse


def _installed(npm: str) -> Path:
    """Return where Mermaid is installed; done once for all environments, and again when its version changes."""
    contents = b"".join(file.read_bytes() for file in sorted(_CHECKER.iterdir()) if file.is_file())
    cache = Path(os.environ.get("FLOW_TEST_NODE_CACHE") or _CHECKER.parents[3] / "build" / "node")
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"mermaid-{hashlib.sha256(contents).hexdigest()[:12]}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # environments of the matrix run side by side
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(_CHECKER, folder, ignore=shutil.ignore_patterns("node_modules"))
            _install(npm, folder)
            (folder / "complete").touch()
    return folder


def _install(npm: str, folder: Path) -> None:
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=240, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not install Mermaid within 240 s")
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or ["nothing"]
        pytest.skip(f"npm cannot install Mermaid: {said[-1]}")
