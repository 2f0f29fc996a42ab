"""URLs of stores, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import pytest
from flow_file import FileState, flow_open_state
from flow_testkit import KernelFactory

from flow import ConfigurationError


@pytest.mark.parametrize(
    ("url", "directory"),
    [
        ("file:///var/lib/runs", "/var/lib/runs"),
        ("file:///var/lib/runs/", "/var/lib/runs"),
        ("file:///with%20space/%23hash", "/with space/#hash"),
        ("file:///ünïcødé?synchronous=off", "/ünïcødé"),
        ("file:///a/../b?synchronous=full", "/b"),
    ],
)
def test_url_names_an_absolute_directory(url: str, directory: str) -> None:
    state = flow_open_state(url, {})
    assert isinstance(state, FileState)
    assert state.directory == Path(directory)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///runs.db", "files:///a", "FILE"])
def test_other_urls_are_of_other_plugins(url: str) -> None:
    assert flow_open_state(url, {}) is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:relative", r"no absolute directory.*three slashes, such as file:///"),
        ("file://relative/dir", r"no absolute directory.*three slashes, such as file:///.*/relative/dir"),
        ("file://", "no absolute directory"),
        ("file:///", "names no directory"),
        ("file:///a?sync=full", "unknown option sync. It takes synchronous"),
        ("file:///a?synchronous=normal", "synchronous is full or off, got 'normal'"),
        ("file:///a?synchronous", "synchronous is full or off, got ''"),
        ("file:///a#b", "has a fragment"),
        ("file:///a%00b", "names no directory"),
    ],
)
def test_wrong_url_says_what_is_right(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        flow_open_state(url, {})


def test_kernel_opens_it(flow_kernel: KernelFactory, tmp_path: Path) -> None:
    assert isinstance(flow_kernel("flow-file").open_state(f"file://{tmp_path}"), FileState)


def test_synchronous_is_checked() -> None:
    with pytest.raises(ConfigurationError, match="synchronous is 'full' or 'off', got 'maybe'"):
        FileState("/a", synchronous="maybe")
