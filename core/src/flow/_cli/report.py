"""What the command line says about a run that has ended: its output, one line of numbers, and what went wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import attrs
import typer
from pydantic_core import PydanticSerializationError, to_json

from .._flow import Flow
from .._results import Pending, RunResult, RunStatus, StepResult, describe_error
from .._stream import StreamChunk
from ..errors import ControlSignal, FlowError, PipelineChanged, RunFailed
from .questions import describe
from .store import Store, stored_in, without_secrets
from .wording import duration, quoted


def print_output(value: Any, streamed: str = "") -> None:
    """Print an output: text and bytes as they are, nothing for ``None``, all else as JSON.

    :param streamed: what stands on the screen already; an output that is the same is not printed again.
    """
    if streamed and not streamed.endswith("\n"):
        typer.echo()
    if streamed and value == streamed:
        return
    if isinstance(value, bytes):
        sys.stdout.flush()
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()
    elif value is not None:
        typer.echo(value if isinstance(value, str) else as_json(value))


def print_result(result: RunResult[Any]) -> None:
    """Print a run as one JSON object with the names of `RunResult`."""
    typer.echo(result_as_json(result))


def result_as_json(result: RunResult[Any]) -> str:
    """Return a run as JSON; where a value cannot be JSON the others are as they are."""
    values = result.to_dict()
    try:
        return _dump(values)
    except PydanticSerializationError:
        return as_json({name: json.loads(as_json(value)) for name, value in values.items()})


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    typer.echo(as_json(value))


def as_json(value: Any) -> str:
    """Return `value` as indented JSON; what JSON cannot hold becomes text."""
    try:
        return _dump(value)
    except PydanticSerializationError:  # a value inside itself, bytes that are no text
        return json.dumps(repr(value))


def _dump(value: Any) -> str:
    return to_json(value, indent=2, inf_nan_mode="null", fallback=_plain).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, StepResult):
        return value.to_dict()
    return attrs.asdict(value, recurse=False) if attrs.has(type(value)) else str(value)


def summary(result: RunResult[Any]) -> str:
    """Say in one line how a run went: ``completed in 12 ms: 3 steps, 120 tokens, $0.0040, run 0193...``."""
    parts = [_steps(len(result.step_history))]
    if result.total_tokens:
        parts.append(f"{result.total_tokens:,} tokens")
    if result.total_cost_usd:
        parts.append(f"${result.total_cost_usd:.4f}")
    return f"{_words(result)} in {duration(result.latency_s)}: {', '.join(parts)}, run {result.run_id}"


def _words(result: RunResult[Any]) -> str:
    return result.status.value.replace("_", " ")


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"


def failure_of(result: RunResult[Any], resume: str | None = None) -> RunFailed:
    """Return the error that says where a run failed, why, and what can be done.

    :param resume: the command that continues the run.
    """
    failed = next((step for step in result.walk() if step.path == result.failed_path), None)
    error = result.error if failed is None or failed.error is None else failed.error
    hint = error.hint if isinstance(error, FlowError) else None
    cause = (failed.feedback if failed else None) or _cause(error)
    if hint:
        cause = cause.removesuffix(hint).rstrip(". ")
    where = f" at {result.failed_path}" if result.failed_path else ""
    hints = [text for text in (hint, resume and f"continue it with: {resume}{options_to_go_on(result.status)}") if text]
    made = RunFailed(f"{_words(result)}{where}: {cause}", hint=". ".join(hints) or None)
    made.__cause__ = result.error
    return made


def _cause(error: BaseException | None) -> str:
    text = str(error) if isinstance(error, ControlSignal) else describe_error(error)
    return text or "no reason was given"


def typed_hint(changed: PipelineChanged) -> PipelineChanged:
    """Return the error with a hint for people who type commands, not Python."""
    hint = "Add --on-change continue to run it with this one: steps are matched by path"
    return PipelineChanged(changed.message, hint=hint)


def print_questions(questions: Sequence[Pending], resume: str | None) -> None:
    """Print what a paused run asks, and how to answer."""
    for question in questions:
        for index, line in enumerate(describe(question)):
            typer.echo(line if index else f"paused at {line}", err=True)
    if resume and questions:
        which = "it" if len(questions) == 1 else "them, in any order,"
        typer.echo(f"answer {which} with: {answering(resume, questions)}", err=True)


def answering(resume: str, questions: Sequence[Pending]) -> str:
    """Return the command that answers questions; with several each is named by its path."""
    if len(questions) < 2:
        return f"{resume} --answer TEXT" if questions else resume
    return " ".join([resume, *(f"--answer {quoted(question.path)}=TEXT" for question in questions)])


def print_interruption(result: RunResult[Any], signal_name: str, resume: str | None) -> None:
    """Print that a run was interrupted, and how to continue it when it was stored."""
    count = sum(step.success for step in result.step_history)
    typer.echo(f"interrupted by {signal_name}: run {result.run_id} is interrupted, {_steps(count)} completed", err=True)
    if resume:
        typer.echo(f"continue it with: {resume}", err=True)


def resume_command(flow: Flow[Any, Any], run_id: str, app: str | None = None) -> str | None:
    """Return the command that continues a stored run; ``None`` when its store ends with this program.

    :param app: the app to name, when the run does not find it by itself.
    """
    url = stored_in(flow)
    return None if url is None else command_for(run_id, url, flow.kernel.settings.state, app)


def command_for(run_id: str, url: str, setting: str | None, app: str | None = None) -> str:
    """Return the command that continues the run in the store at `url`.

    A password is not printed: the URL is left out when the `setting` names it, and has stars otherwise.
    """
    words = ["flow resume", run_id]
    if url != setting or without_secrets(url) == url:
        words += ["--state", quoted(without_secrets(url))]
    return " ".join([*words, *(["--app", quoted(app)] if app else [])])


def command_to_resume(run_id: str, store: Store, app: str | None = None) -> str | None:
    """Return the command that continues a run of a store; ``None`` when the store ends with this program."""
    if not isinstance(store.where, str) or not store.outlives_the_program:
        return None
    return command_for(run_id, store.where, store.kernel.settings.state, app)


def options_to_go_on(status: RunStatus) -> str:
    """Return what must be added to the command that continues a run, for it would end at once again."""
    if status is RunStatus.DEADLINE_EXCEEDED:
        return " --deadline SECONDS"
    return " --limit-cost USD or --limit-tokens N" if status is RunStatus.LIMIT_EXCEEDED else ""


class ChunkPrinter:
    """Prints chunks as they come, those of different steps on lines of their own."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._stream_id: str | None = None

    @property
    def text(self) -> str:
        """What was printed of the stream that came last."""
        return "".join(self._pieces)

    def __call__(self, chunk: StreamChunk) -> None:
        """Print one chunk."""
        restarted = bool(chunk.meta and chunk.meta.get("restart"))
        if restarted or chunk.stream_id != self._stream_id:
            self._begin(chunk.stream_id)
        if restarted:
            typer.echo(f"{chunk.stream_id} failed and starts again:", err=True)
        if chunk.text:
            typer.echo(chunk.text, nl=False)
            self._pieces.append(chunk.text)

    def _begin(self, stream_id: str) -> None:
        if self._pieces and not self._pieces[-1].endswith("\n"):
            typer.echo()
        self._pieces, self._stream_id = [], stream_id
