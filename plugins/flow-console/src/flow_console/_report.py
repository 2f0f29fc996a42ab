"""A finished run in words: how it ended, what it took, and for a failure or a pause what to do next."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from flow import RunResult, StepResult, Usage
from flow.errors import FlowError
from flow.privacy import texts_in, withhold
from flow_console._format import clean, count, duration, first_lines, money
from flow_console._nodes import own_retries, tree_of
from flow_console._paint import Frame, as_ascii
from flow_console._rows import layout
from flow_console._states import LOOKS, State, sign_of, state_of, state_of_run

_MOST_ROWS = 200
_MOST_REASONS = 100

Safe = Callable[[str], str]
"""Takes out of a message what may not be printed."""


@dataclass(frozen=True, slots=True)
class Report:
    """The end of a run: a headline, its figures, and labelled lines that say where, why and what next."""

    state: State
    headline: str
    figures: tuple[str, ...]
    details: tuple[tuple[str, str], ...]

    def among_others(self, pipeline: str, run_id: str) -> Report:
        """Return a form for one of many runs: without a tree it is named, and tells its id if something is wrong."""
        headline = f"{clean(pipeline)} {run_id[-6:]} {self.headline}"
        return Report(self.state, headline, self.figures, () if self.state is State.DONE else self.details)


def report_of(result: RunResult[Any], safe: Safe, *, resumable: bool | None = None) -> Report:
    """Describe the end of a run; `resumable` is None when it is not known whether the run was stored."""
    state = state_of_run(result.status)
    words = result.status.value.replace("_", " ")
    return Report(
        state=state,
        headline=f"{words} {'in' if state is State.DONE else 'after'} {duration(result.latency_s)}",
        figures=tuple(_figures(result)),
        details=(*_details(result, state, safe, resumable), ("run", result.run_id)),
    )


def _figures(result: RunResult[Any]) -> Iterator[str]:
    steps = retries = 0
    for step in result.walk():
        steps += 1
        retries += own_retries(step)
    yield count(steps, "step")
    if retries:
        yield count(retries, "retry")
    yield from spent_in(result.usage)


def spent_in(usage: Usage) -> Iterator[str]:
    """Yield tokens and cost, those that were spent."""
    if usage.total_tokens:
        yield count(usage.total_tokens, "token")
    if usage.cost_usd:
        yield money(usage.cost_usd)


def _details(result: RunResult[Any], state: State, safe: Safe, resumable: bool | None) -> Iterator[tuple[str, str]]:
    if state is State.PAUSED:
        for pending in result.pending:
            yield "at", clean(pending.path, 300)
            yield from (
                ("asks" if not index else "", line) for index, line in enumerate(first_lines(safe(pending.message)))
            )
    elif state is not State.DONE:
        if result.failed_path:
            yield "at", clean(result.failed_path, 300)
        message, hint = _cause(result)
        message = "" if message == result.status.value else message
        yield from (("why" if not index else "", line) for index, line in enumerate(first_lines(safe(message))))
        if hint:
            yield "hint", clean(safe(hint), 300)
    if state is not State.DONE:
        yield from _continuation(result.run_id, state, resumable)


def _continuation(run_id: str, state: State, resumable: bool | None) -> Iterator[tuple[str, str]]:
    answer = " --answer TEXT" if state is State.PAUSED else ""
    if resumable is False:
        if answer:
            yield "resume", "not possible: the run has no state store, see Flow(..., state=URL)"
    elif resumable or answer:
        yield "resume", f"flow resume {run_id}{answer}"
        if answer:
            yield "or", f'await flow.resume_async("{run_id}", answer)'


def _cause(result: RunResult[Any]) -> tuple[str, str | None]:
    """Return why the run did not complete, and the hint of the error behind it."""
    failed = next((step for step in result.walk() if step.path == result.failed_path and not step.success), None)
    hint = _hint(result.error) or _hint(failed.error if failed else None)
    message = failed.feedback if failed and failed.feedback else _message(result.error)
    if hint and message.endswith(hint):
        message = message.removesuffix(hint).rstrip(" .")
    return message, hint


def _message(error: BaseException | None) -> str:
    if isinstance(error, FlowError):
        return error.message
    return str(error or "")


def _hint(error: BaseException | None) -> str | None:
    for _ in range(10):  # causes could form a circle
        if isinstance(error, FlowError) and error.hint:
            return error.hint
        error = error.__cause__ if error is not None else None
    return None


# -- what a message may say --------------------------------------------------------------------------------------------


def safe_for(result: RunResult[Any], data: Any = None, *, secrets_only: bool = False) -> Safe:
    """Return a function that takes the content of this run, or its secrets, out of messages; `data` is its input."""
    failed = [step.output for step in result.walk() if not step.success]
    context = result.final_pipeline_context
    prompt = context.initial_prompt if context is not None and "initial_prompt" in type(context).model_fields else None
    outputs = (step.output for step in result.walk())
    contents = texts_in(data, prompt, *failed, *outputs, secrets_only=secrets_only)
    return lambda message: withhold(message, contents)


def reasons_of(results: Iterable[StepResult], safe: Safe, known: Mapping[str, str]) -> dict[str, str]:
    """Return by path, in one line each, why steps failed; what is known already is taken over."""
    reasons: dict[str, str] = {}
    for step in results:
        if step.success or len(reasons) >= _MOST_REASONS or state_of(step) is not State.FAILED:
            continue
        reasons[step.path] = known.get(step.path) or reason_of(step, safe)
    return reasons


def reason_of(step: StepResult, safe: Safe) -> str:
    """Return in one line why a step failed."""
    return "".join(first_lines(safe(step.feedback or ""), lines=1)).removeprefix("Agent failed with ")


# -- drawing -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ending:
    """A rich renderable: how a run ended, in its last lines."""

    report: Report

    def __rich_console__(self, console: Console, options: Any) -> Iterator[Text]:
        """Yield the headline with as many figures to a line as fit, then the labelled lines."""
        report, style = self.report, LOOKS[self.report.state].style
        separator = " - " if options.ascii_only else " · "
        line = Text.assemble((f"{sign_of(report.state, 0.0, options.ascii_only)} {report.headline}", style))
        for figure in report.figures:
            if line.cell_len + len(separator) + len(figure) > options.max_width:
                yield line
                line = Text(f"  {figure}")
            else:
                line.append(f"{separator}{figure}")
        yield line
        wide = max((len(label) for label, _ in report.details), default=0)
        for label, text in report.details:
            text = as_ascii(text) if options.ascii_only else text
            detail = Text.assemble((f"  {label:<{wide}}  ", "dim"), (text, "dim" if label == "run" else ""))
            detail.overflow = "fold"
            yield from _hanging(detail, wide + 4, console, options)


def _hanging(text: Text, indent: int, console: Console, options: Any) -> Iterator[Text]:
    """Yield a text in lines that fit; those after the first are indented."""
    lines = text.wrap(console, max(20, options.max_width))
    yield lines[0]
    if len(lines) > 1:
        rest = Text(" ").join(line for line in lines[1:])
        for line in rest.wrap(console, max(20, options.max_width - indent)):
            yield Text(" " * indent).append_text(line)


def draw(result: RunResult[Any], reasons: Mapping[str, str], report: Report) -> Group:
    """Return the tree of a finished run with its last lines."""
    rows = layout(tree_of(result, reasons), result.started_at + result.latency_s, _MOST_ROWS)
    return Group(Frame(rows), Ending(report))


def render_tree(result: RunResult[Any]) -> RenderableType:
    """Return a finished run as a rich renderable: the tree of its steps, then how it ended.

    Print it on any rich console. Inputs and outputs do not appear; long fan-outs are collapsed.
    """
    safe = safe_for(result)
    return draw(result, reasons_of(result.walk(), safe, {}), report_of(result, safe))


def run_tree(result: RunResult[Any], *, width: int = 80) -> str:
    """Return a finished run as plain text of at most `width` columns, without control codes.

    >>> from flow import Flow, Step
    >>> text = run_tree(Flow(Step("upper", str.upper) >> Step("strip", str.strip)).run("hello"))
    >>> [line[:10].rstrip() for line in text.splitlines()[:3]]
    ['✓ pipeline', '├─ ✓ upper', '└─ ✓ strip']
    """
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=False,
        force_jupyter=False,
        color_system=None,
        legacy_windows=False,
    )
    with console.capture() as captured:
        console.print(render_tree(result))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
