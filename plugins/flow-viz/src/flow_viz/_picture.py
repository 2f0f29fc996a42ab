"""What ``flow viz`` draws: where the pipeline comes from, where the run does, and how it is shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from flow import ConfigurationError, Flow, PluginError, RunRecord, StateCorrupt, StepRecord
from flow.cli import find_renderer, find_run, load_flow, questions_of, run_sync, store_of, terminal_width
from flow_viz._dot import to_dot
from flow_viz._drawing import MAX_NODES, Direction, checked_direction, draw, require_limits
from flow_viz._mermaid import to_mermaid
from flow_viz._nodes import Node
from flow_viz._reading import read
from flow_viz._runs import facts_of_records
from flow_viz._story import Story, tell
from flow_viz._svg import to_svg
from flow_viz._text import to_text
from flow_viz._wording import counted, visible

_GRAPHICS = {"mermaid": to_mermaid, "dot": to_dot, "svg": to_svg}
FORMATS = (*_GRAPHICS, "text")
_OF_SUFFIX = {".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot", ".svg": "svg", ".txt": "text"}
_DRAWN_WITH = "│├└─╌…·→✓✗"


@attrs.frozen(kw_only=True)
class Options:
    """How a pipeline is drawn; `width` is that of the terminal."""

    format: str
    direction: Direction
    depth: int | None
    max_nodes: int
    types: bool
    ascii: bool

    @classmethod
    def checked(
        cls,
        format: str | None,
        output: Path | None,
        *,
        direction: str | None,
        depth: int | None,
        max_nodes: int | None,
        types: bool,
        ascii: bool,
    ) -> Options:
        """Return what the words of a command line mean; raises `ConfigurationError` where they mean nothing."""
        suffix = output.suffix.lower() if output is not None else ""
        chosen = format or _OF_SUFFIX.get(suffix, "text")
        if chosen not in FORMATS:
            _require_renderer(chosen)
        if direction is not None and chosen == "text":
            raise ConfigurationError("text has no direction", hint="Leave --direction out, or add --format svg")
        if ascii and chosen != "text":
            raise ConfigurationError("--ascii is for text only", hint="Leave it out, or add --format text")
        limit = MAX_NODES if max_nodes is None else max_nodes
        require_limits(depth, limit)
        return cls(
            format=chosen,
            direction=checked_direction(direction or "TB"),
            depth=depth,
            max_nodes=limit,
            types=types,
            ascii=ascii,
        )


@attrs.frozen(kw_only=True)
class Picture:
    """A drawing and what it is of."""

    text: str
    format: str
    pipeline: str
    steps: int
    drawn: int
    left_out: str
    run: RunRecord | None = None

    @property
    def described(self) -> str:
        """What was drawn, in words."""
        of_run = f", run {self.run.run_id}" if self.run is not None else ""
        return f"{visible(self.pipeline)}, {counted(self.steps, 'step')}{of_run}"

    def to_dict(self, output: Path | None) -> dict[str, Any]:
        """Return it for printing as JSON; a drawing that was written to a file is named, not repeated."""
        values: dict[str, Any] = {
            "pipeline": self.pipeline,
            "format": self.format,
            "steps": self.steps,
            "drawn": self.drawn,
            "run_id": None if self.run is None else self.run.run_id,
            "status": None if self.run is None else self.run.status,
            "output": None if output is None else str(output),
        }
        return values if output is not None else {**values, "drawing": self.text}


def picture(target: str, run_id: str | None, state: str | None, options: Options, *, plain: bool) -> Picture:
    """Draw the app that `target` names, or the stored run.

    :param plain: the text is not for this terminal: neither its colours nor its width count.
    """
    if not target and run_id is None:
        raise ConfigurationError("name what is to be drawn", hint="flow viz app.py, or flow viz --run RUN_ID")
    if run_id is None and state is not None:
        raise ConfigurationError("--state is the store of a run", hint="Add --run RUN_ID, or leave --state out")
    flow = load_flow(target) if target else None
    if options.format not in FORMATS:
        return _by_another(flow, run_id, options)
    if run_id is not None:
        record, root, story = run_sync(_stored(run_id, state, flow))
    else:
        record, root, story = None, read(flow), None
    return _drawn(root, story, record, options, plain)


def _require_renderer(format: str) -> None:
    """Raise `ConfigurationError` when no plugin draws in a format that is not of this package."""
    try:
        find_renderer(format)
    except PluginError as error:
        hint = f"Formats: {', '.join(FORMATS)}, and those of other renderers: flow plugins list --kind renderers"
        raise ConfigurationError(f"there is no format {format!r}: {error.message}", hint=hint) from error


def _by_another(flow: Flow[Any, Any] | None, run_id: str | None, options: Options) -> Picture:
    """Draw with the renderer of another package, which knows pipelines and no runs."""
    if flow is None or run_id is not None:
        raise ConfigurationError(f"{options.format} draws pipelines and no runs", hint="flow viz app.py, without --run")
    text = str(find_renderer(options.format)(flow.pipeline))
    steps = draw(read(flow), run=None, depth=None, max_nodes=MAX_NODES, types=False).folded.steps
    return Picture(text=text, format=options.format, pipeline=flow.pipeline.name, steps=steps, drawn=steps, left_out="")


def _drawn(root: Node, story: Story | None, record: RunRecord | None, options: Options, plain: bool) -> Picture:
    folded = draw(root, run=story, depth=options.depth, max_nodes=options.max_nodes, types=options.types).folded
    common: dict[str, Any] = {
        "run": story,
        "depth": options.depth,
        "max_nodes": options.max_nodes,
        "types": options.types,
    }
    if options.format == "text":
        text = to_text(root, **common, **_for_terminal(options, plain))
    else:
        text = _GRAPHICS[options.format](root, direction=options.direction, **common)
    return Picture(
        text=text,
        format=options.format,
        pipeline=root.name,
        steps=folded.steps,
        drawn=folded.drawn,
        left_out=folded.remark,
        run=record,
    )


def _for_terminal(options: Options, plain: bool) -> dict[str, Any]:
    """Return what the terminal can show; a file or JSON can hold every letter, and has no colours."""
    if plain:
        return {"ascii": options.ascii}
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return {
        "width": max(20, terminal_width()),
        "ascii": options.ascii or not _can_show(sys.stdout.encoding),
        "color": is_terminal and not os.environ.get("NO_COLOR"),
    }


def _can_show(encoding: str | None) -> bool:
    try:
        _DRAWN_WITH.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


# -- stored runs


async def _stored(run_id: str, state: str | None, flow: Flow[Any, Any] | None) -> tuple[RunRecord, Node, Story]:
    store = store_of(state, flow)
    async with store.opened() as backend:
        record = await find_run(backend, run_id, store.name)
        kept = await backend.load_pipeline(record.fingerprint)
        records = await backend.load_steps(record.run_id)
    root = _root_of(record, kept, flow)
    return record, attrs.evolve(root, name=record.pipeline), _story(root, record, records)


def _root_of(record: RunRecord, kept: bytes | None, flow: Flow[Any, Any] | None) -> Node:
    """Return the pipeline of a run as it was when the run began; that of the app only where it was not stored."""
    if kept is None:
        if flow is None:
            raise ConfigurationError(
                f"the pipeline of run {record.run_id} was not stored with it",
                hint=f"Name the app: flow viz app.py --run {record.run_id}",
            )
        return read(flow)
    try:
        return read(json.loads(kept))
    except (ValueError, RecursionError, ConfigurationError) as error:
        raise StateCorrupt(
            f"the stored pipeline of run {record.run_id} cannot be read: {error}",
            hint=f"Name the app: flow viz app.py --run {record.run_id}" if flow is None else None,
        ) from error


def _story(root: Node, record: RunRecord, records: Sequence[StepRecord]) -> Story:
    waiting = list(questions_of(record)) if record.status == "paused" else []
    return tell(
        root,
        facts_of_records(records),
        status=record.status,
        waiting=waiting,
        seconds=max(0.0, record.updated_at - record.created_at),
        cost_usd=record.usage.cost_usd,
        run_id=record.run_id,
    )
