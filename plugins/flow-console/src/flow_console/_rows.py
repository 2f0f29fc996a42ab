"""Which rows of a run's tree are shown when there is room for so many, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flow import Usage
from flow_console._format import clean, count
from flow_console._nodes import BAD, ROWS_PER_CONTAINER, Node
from flow_console._progress import Gauge
from flow_console._states import State

_SETTLED = frozenset({State.DONE, State.REPLAYED, State.CACHED})
_STOPPED = frozenset({State.FAILED, State.PAUSED, State.CANCELLED})
_ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tree.

    ``lasts`` says for each level below the run whether the row, or what it is in, is the last there. A row without a
    state stands for those that are not shown.
    """

    lasts: tuple[bool, ...]
    state: State | None
    label: str
    gauge: Gauge | None = None
    note: str = ""
    reason: str = ""
    usage: Usage | None = None
    seconds: float | None = None
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """How much is shown: children of a fan-out, steps in a row, levels, and whether what is done shows its inside."""

    items: int = ROWS_PER_CONTAINER
    steps: int = _ALL
    depth: int = _ALL
    inside_done: bool = True


_EVER_TIGHTER = (
    Fit(),
    Fit(inside_done=False),
    Fit(10, 20, inside_done=False),
    Fit(6, 10, inside_done=False),
    Fit(4, 6, inside_done=False),
    Fit(3, 4, 3, inside_done=False),
    Fit(2, 3, 2, inside_done=False),
    Fit(1, 2, 1, inside_done=False),
)


def layout(root: Node, now: float, height: int) -> list[Row]:
    """Return at most `height` rows for the run: everything if it fits, otherwise ever less of what is done."""
    rows: list[Row] = []
    for fit in _EVER_TIGHTER:
        rows = list(_rows(root, fit, now, ()))
        if len(rows) <= height:
            return rows
    return rows[: max(1, height)]


def row_of(root: Node, tag: str, now: float) -> Row:
    """Return one line for a whole run: its name, a tag, and where it is."""
    where = []
    node = root
    while running := [child for child in node.children.values() if child.state is State.RUNNING]:
        node = running[0]
        where.append(clean(node.name or node.segment))
        if node.progress is not None:
            where[-1] += f" {node.progress.gauge(now).counted()}"
    note = f"{tag}  {' › '.join(where)}".rstrip()
    return Row((), root.state, clean(root.name), note=note, usage=root.spent() or None, seconds=root.elapsed(now))


def _rows(node: Node, fit: Fit, now: float, lasts: tuple[bool, ...]) -> Iterator[Row]:
    node, label = _labelled(node) if lasts else (node, clean(node.name) or "run")
    folded = len(lasts) >= fit.depth or (bool(lasts) and not fit.inside_done and node.state in _SETTLED)
    shown = [] if folded else _chosen(node, fit.steps if node.is_pipeline else fit.items)
    hidden = node.size - len(shown)
    gauge = node.gauge(now)
    yield Row(
        lasts,
        node.state,
        label,
        gauge,
        note=" · ".join(_notes(node, gauge is None and bool(hidden), bool(lasts))),
        reason=node.reason if node.state is State.FAILED and not _failed_inside(node) else "",
        usage=node.spent() or None,
        seconds=node.elapsed(now),
        faint=node.is_group,
    )
    if folded or not node.size:
        return
    entries: list[Node | None] = [*shown]
    if hidden:
        entries.insert(0 if node.is_sequence else len(entries), None)
    for index, child in enumerate(entries):
        below = (*lasts, index == len(entries) - 1)
        if child is None:
            yield Row(below, None, f"… {hidden:,} more")
        else:
            yield from _rows(child, fit, now, below)


def _labelled(node: Node) -> tuple[Node, str]:
    """Return the node and its label; a branch or item with a single step shares that step's row."""
    parts = []
    while node.is_group and len(node.children) == 1 and not node.forgotten:
        parts.append(clean(node.segment))
        (node,) = node.children.values()
    parts.append(clean(node.segment if node.is_group else node.name or node.segment))
    return node, " › ".join(parts)


def _chosen(node: Node, limit: int) -> list[Node]:
    """Return the children to show, in their order: failed and running ones before others."""
    children = list(node.children.values())
    if len(children) <= limit:
        return children
    states = [child.state for child in children]
    everything = range(len(children))
    bad = [index for index in everything if states[index] in BAD][: max(1, limit // 2)]
    running = [index for index in everything if states[index] is State.RUNNING][: limit - len(bad)]
    chosen = {*bad, *running}
    for index in reversed(everything) if node.is_sequence else everything:
        if len(chosen) >= limit:
            break
        chosen.add(index)
    return [children[index] for index in sorted(chosen)]


def _failed_inside(node: Node) -> bool:
    return any(child.state is State.FAILED for child in node.children.values())


def _notes(node: Node, counted: bool, below: bool) -> Iterator[str]:
    if node.attempts > 1:
        yield count(node.attempts, "attempt")
    if node.iterations:
        yield count(node.iterations, "iteration")
    if node.fallback:
        yield "fallback"
    if node.own_state in (State.CACHED, State.REPLAYED, State.CANCELLED):
        yield str(node.own_state)
    if node.own_state is State.PAUSED and not node.children and below:
        yield "waits for an answer"
    if node.chunks and (node.progress is not None or node.own_state is not State.RUNNING):
        yield count(node.chunks, "chunk")
    if node.progress is not None and node.own_state in _STOPPED:
        yield node.progress.gauge(0.0).counted()
    if counted:
        yield tally_text(node)


def tally_text(node: Node) -> str:
    """Say how many children stand how, such as ``120 done · 4 running``."""
    tally = node.tally()
    return " · ".join(f"{tally[state]:,} {state}" for state in State if tally[state])
