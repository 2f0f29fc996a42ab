"""Fixtures of the kernel's own tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from core.tests.command_line import app, cli, kept  # noqa: F401  fixtures
from core.tests.fake_site import site  # noqa: F401  a fixture
from flow import Event, EventKind, Flow, Kernel, RunResult, Settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As the background jobs of a shell have it; programs that tests start and interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Run each test in an empty directory without FLOW_* variables, so that no settings file of the user is found."""
    for name in [name for name in os.environ if name.startswith("FLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def kernel() -> Kernel:
    """A kernel that sees the kernel's own plugins and nothing else."""
    return Kernel(Settings(), only=[])


@pytest.fixture
def run(kernel: Kernel) -> Callable[..., RunResult[Any]]:
    """Run a pipeline synchronously: ``run(pipeline, data, initial_context=..., **options of Flow)``."""

    def run_once(pipeline: Any, data: Any = None, **options: Any) -> RunResult[Any]:
        names = ("run_id", "trace_id", "initial_context")
        per_run = {name: options.pop(name) for name in names if name in options}
        return Flow(pipeline, **{"kernel": kernel, **options}).run(data, **per_run)

    return run_once


class Recorder:
    """A hook that keeps the events it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events]

    def of(self, kind: EventKind) -> list[Event]:
        return [event for event in self.events if event.kind is kind]


@pytest.fixture
def recorder() -> Recorder:
    """A hook to pass as ``hooks=[recorder]``."""
    return Recorder()


# Programs for type checkers, with mistakes on purpose: test_static_typing gives them to mypy, nobody runs them.
collect_ignore_glob = ["typing/*"]
