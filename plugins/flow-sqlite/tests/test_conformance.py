"""The state store and the cache pass the suites that everybody's must pass."""

from __future__ import annotations

import time

import pytest
from flow_testkit import CacheBackendSuite, StateBackendSuite


class TestSqliteState(StateBackendSuite):
    def make_state(self) -> str:
        return f"sqlite:///{self.tmp_path}/runs.db"


class TestSqliteStateThatSyncsLess(StateBackendSuite):
    def make_state(self) -> str:
        return f"sqlite:///{self.tmp_path}/runs.db?synchronous=normal&busy_timeout=5"


class TestSqliteCache(CacheBackendSuite):
    def make_cache(self) -> str:
        return f"sqlite:///{self.tmp_path}/cache.db"

    async def let_values_expire(self, seconds: float) -> None:
        patch: pytest.MonkeyPatch = self._request.getfixturevalue("monkeypatch")
        then = time.time() + seconds
        patch.setattr(time, "time", lambda: then)
