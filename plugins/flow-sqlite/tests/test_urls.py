"""URLs say where the file is and how it is used; whatever cannot be meant is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from flow_sqlite import SqliteCache, SqliteState
from flow_sqlite._url import CACHE_OPTIONS, Level, parse_url
from flow_testkit import KernelFactory

from flow import ConfigurationError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///runs.db", "runs.db"),
        ("sqlite:///deep/down/runs.db", "deep/down/runs.db"),
        ("sqlite:////var/lib/runs.db", "/var/lib/runs.db"),
        ("sqlite:///my%20runs%3F.db", "my runs?.db"),
        ("sqlite:///runs#1.db", "runs#1.db"),
    ],
)
def test_path_is_relative_or_absolute(url: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_url(url).path == tmp_path / path


def test_options_have_careful_defaults() -> None:
    target = parse_url("sqlite:///runs.db")
    assert (target.synchronous, target.busy_timeout) == (Level.FULL, 30.0)


def test_options_are_read() -> None:
    target = parse_url("sqlite:///c.db?synchronous=Off&busy_timeout=0.5&max_bytes=10&max_entries=2", CACHE_OPTIONS)
    assert (target.synchronous, target.busy_timeout, target.max_bytes, target.max_entries) == (Level.OFF, 0.5, 10, 2)


def test_settings_are_defaults_for_the_options() -> None:
    settings = {"synchronous": "normal", "busy_timeout": 5, "max_entries": 7}
    target = parse_url("sqlite:///runs.db?busy_timeout=1", settings=settings)
    assert (target.synchronous, target.busy_timeout) == (Level.NORMAL, 1.0)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://runs.db", "names no SQLite file"),
        ("sqlite:///", "names no SQLite file"),
        ("sqlite:////", "names no SQLite file"),
        ("sqlite:///:memory:", "memory:// has no file"),
        ("sqlite:///a%00b", "names no SQLite file"),
        ("sqlite:///runs.db?sync=full", "There are busy_timeout, synchronous"),
        ("sqlite:///runs.db?max_bytes=10", "unknown option max_bytes"),
        ("sqlite:///runs.db?synchronous=maybe", "full, normal, off or extra"),
        ("sqlite:///runs.db?busy_timeout=soon", "a number of seconds"),
        ("sqlite:///runs.db?busy_timeout=-1", "a number of seconds"),
        ("sqlite:///runs.db?busy_timeout=nan", "a number of seconds"),
    ],
)
def test_what_cannot_be_meant_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SqliteState(url)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "", "٣"])
def test_limits_of_a_cache_are_whole_numbers(value: str) -> None:
    with pytest.raises(ConfigurationError, match="a whole number of at least 1"):
        SqliteCache(f"sqlite:///cache.db?max_entries={value}")


def test_kernel_opens_stores_and_caches_without_touching_anything(flow_kernel: KernelFactory, tmp_path: Path) -> None:
    kernel = flow_kernel("flow-sqlite")
    assert isinstance(kernel.open_state(f"sqlite:///{tmp_path}/new/runs.db"), SqliteState)
    assert isinstance(kernel.open_cache(f"sqlite:///{tmp_path}/new/cache.db?max_entries=5"), SqliteCache)
    assert list(tmp_path.iterdir()) == []
