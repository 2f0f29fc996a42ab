"""Made-up environments, to put into them what is wrong only now and then in real ones."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.disk import Disk
from audit.models import Assessment, AuditRequest, Outcome, Report
from examples.dependency_audit import app
from flow import Flow, Pipeline, RunResult


class Site:
    """A made-up site-packages folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder.parent / "report"
        folder.mkdir()

    def add(
        self,
        name: str,
        *lines: str,
        version: str = "1.0",
        metadata: str | None = None,
        files: Mapping[str, str] | None = None,
        record: bool = True,
    ) -> Path:
        """Install a distribution: with `lines` more of metadata, or other `metadata`; INFO in `files` is its folder."""
        info = self.folder / f"{name}-{version}.dist-info"
        licence = () if any(line.startswith("License") for line in lines) else ("License-Expression: MIT",)
        text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *licence, *lines, ""])
        contents = {f"{name}.py": "x = 1\n", f"{info.name}/METADATA": text if metadata is None else metadata}
        contents |= {path.replace("INFO", info.name): content for path, content in (files or {}).items()}
        for path, content in contents.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode())
        if record:
            rows = [recorded(path, content.encode()) for path, content in contents.items()]
            (info / "RECORD").write_text("\n".join([*rows, f"{info.name}/RECORD,,"]), encoding="utf-8")
        return info

    def request(self, **request: Any) -> AuditRequest:
        return AuditRequest(paths=(self.folder,), output=self.output, **request)

    def run(self, disk: Disk | None = None, **request: Any) -> RunResult[Outcome]:
        flow = app.flow if disk is None else app.make_flow(disk)
        return flow.run(self.request(**request))

    def report(self, disk: Disk | None = None, **request: Any) -> Report:
        self.run(disk, **request)
        return self.written()

    def written(self, name: str = "report.json") -> Report:
        return Report.model_validate_json((self.output / name).read_bytes())

    def audit(self, name: str, **request: Any) -> Assessment:
        return next(found for found in self.report(**request).distributions if found.name == name)


def flow_with_concurrency(number: int) -> Flow[AuditRequest | None, Outcome]:
    """Return the flow of the example with another number of distributions that are audited at the same time."""
    steps = [step.evolve(max_concurrency=number) if step is app.audit_each else step for step in app.audit_all]
    return app.make_flow(Disk(), Pipeline(steps))


def recorded(path: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}"
