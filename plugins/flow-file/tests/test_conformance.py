"""Files do what every state backend must do."""

from __future__ import annotations

from flow_testkit import StateBackendSuite


class TestFileState(StateBackendSuite):
    def make_state(self) -> str:
        return f"file://{self.tmp_path}/store"


class TestFileStateThatDoesNotSync(StateBackendSuite):
    def make_state(self) -> str:
        return f"file://{self.tmp_path}/store?synchronous=off"
