"""What travels through the pipeline: one model per stage, each saying what is known by then."""

from __future__ import annotations

import enum
import operator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from flow import PipelineContext


class Record(BaseModel):
    """A value that nobody changes after it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Ordered(enum.StrEnum):
    """Words that have an order: later members are worse."""

    @property
    def rank(self) -> int:
        """The position, 0 for the first."""
        return list(type(self)).index(self)


class Family(Ordered):
    """What a licence asks of those who use the code, from nothing to everything."""

    PUBLIC_DOMAIN = "public domain"
    PERMISSIVE = "permissive"
    WEAK_COPYLEFT = "weak copyleft"
    STRONG_COPYLEFT = "strong copyleft"
    PROPRIETARY = "proprietary"
    UNKNOWN = "unknown"


class Risk(Ordered):
    """How much attention a distribution needs."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Stage(Ordered):
    """How far a project is, as far as its metadata tell."""

    SETTLED = "settled"
    YOUNG = "young"
    EARLY = "early"
    DATED = "dated"
    ABANDONED = "abandoned"


# -- what is asked for -------------------------------------------------------------------------------------------------


def _today() -> date:
    return datetime.now(UTC).date()


class AuditRequest(Record):
    """What to audit, how thoroughly, and where the report goes. Everything has a default."""

    paths: tuple[Path, ...] = Field(default=(), description="site-packages folders; empty: this interpreter's own")
    only: tuple[str, ...] = Field(default=(), description="audit just these distributions")
    output: Path = Field(default=Path("dependency-audit"), description="folder of the report")
    policy: Path | None = Field(default=None, description="TOML file with allowed and denied licences and waivers")
    fail_on: Literal["low", "medium", "high", "never"] = Field(default="high", description="risk that fails the run")
    unknown_licences: Literal["report", "ask"] = Field(default="report", description="report them, or ask a person")
    budget: int = Field(default=20_000, ge=1, description="how many files may be read")
    sample: int = Field(default=8, ge=0, description="files per distribution whose hash is verified; others by size")
    today: date = Field(default_factory=_today, description="the day to judge ages by")

    @property
    def partial(self) -> Path:
        """The file for what was found when the budget ends before the audit does."""
        return self.output / "partial.json"


class LicencePolicy(Record):
    """Families (``"strong copyleft"``) or SPDX identifiers (``"AGPL-3.0-only"``); an identifier beats its family."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class Policy(Record):
    """What a team has agreed on. A waiver accepts the risk of one distribution and says why."""

    licences: LicencePolicy = LicencePolicy()
    waivers: dict[str, str] = Field(default_factory=dict)


# -- what is found out about one distribution --------------------------------------------------------------------------


class EntryPoint(Record):
    """Something a distribution offers by name: a script, or a plugin for somebody else."""

    group: str
    name: str
    value: str
    rivals: tuple[str, ...] = ()
    """Other distributions that offer the same name in the same group."""

    @property
    def label(self) -> str:
        """Group and name, as people would say them."""
        return f"script {self.name}" if self.is_script else f"{self.group}: {self.name}"

    @property
    def is_script(self) -> bool:
        """True when installing it puts a program on PATH."""
        return self.group in ("console_scripts", "gui_scripts")


class Installation(Record):
    """A distribution as the survey finds it: by its folder, before its metadata are read."""

    name: str
    version: str
    folder: Path
    twins: tuple[str, ...] = ()
    """Further installations of the same name, which Python may find instead."""
    entry_points: tuple[EntryPoint, ...] = ()
    entry_points_error: str | None = None


class AuditContext(PipelineContext):
    """What all steps share: the request, the policy, what is there, and counters.

    Distributions are audited side by side, each with its own view of this; their counts are added up by the reducers.
    What a step counts in an attempt that fails is not kept.
    """

    request: AuditRequest = Field(default_factory=AuditRequest)
    policy: Policy = Policy()
    installed: dict[str, str] = Field(default_factory=dict)
    """Versions by name, of everything that is installed."""
    chosen: tuple[Installation, ...] = ()
    """What is audited, in this order."""
    files_verified: Annotated[int, operator.add] = 0
    bytes_verified: Annotated[int, operator.add] = 0
    retries: Annotated[int, operator.add] = 0
    fallbacks: Annotated[int, operator.add] = 0


class Metadata(Record):
    """What a distribution says about itself."""

    name: str
    version: str
    metadata_version: str = ""
    summary: str = ""
    licence_expression: str = ""
    licence_field: str = ""
    classifiers: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    requires_python: str = ""
    editable: bool = False
    installed_on: date | None = None


class Licence(Record):
    """The licence and how it is known."""

    family: Family
    expression: str = ""
    source: str


class Integrity(Record):
    """Whether the files are those that were installed, as far as was looked."""

    recorded: int = 0
    verified: int = 0
    missing: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    note: str | None = None


class Wiring(Record):
    """How a distribution is tied to others: what it offers and what it needs, and what is wrong with that."""

    entry_points: int = 0
    requirements: int = 0
    broken: tuple[str, ...] = ()
    """Entry points whose module is not there."""
    contested: tuple[str, ...] = ()
    """Scripts that another distribution installs, too."""
    shared: tuple[str, ...] = ()
    """Plugin names that another distribution uses, too."""
    absent: tuple[str, ...] = ()
    """Requirements that are not installed."""
    conflicting: tuple[str, ...] = ()
    """Requirements that are installed in a version that does not fit."""


class Maturity(Record):
    """A judgement with its evidence: when something was released is not written down anywhere."""

    stage: Stage
    evidence: tuple[str, ...]


class Described(Record):
    """Its metadata are known."""

    installation: Installation
    metadata: Metadata


class Licensed(Described):
    """Its licence is known, too."""

    licence: Licence


class Verified(Licensed):
    """Its files were compared with what was installed."""

    integrity: Integrity


class Wired(Verified):
    """What it offers and needs was compared with what is there."""

    wiring: Wiring


class Judged(Wired):
    """Its maturity was judged: all there is to know."""

    maturity: Maturity


class Reason(Record):
    """One thing that raises the risk."""

    risk: Risk
    about: str
    text: str


class Verdict(Record):
    """What is wrong and what to do about it, in words."""

    explanation: str
    action: str


class Assessment(Record):
    """The risk of one distribution, and everything it rests on. There is a verdict when the risk is not low."""

    name: str
    version: str
    summary: str = ""
    location: str
    risk: Risk
    reasons: tuple[Reason, ...] = ()
    verdict: Verdict | None = None
    waiver: str | None = None
    licence: Licence | None = None
    integrity: Integrity | None = None
    wiring: Wiring | None = None
    maturity: Maturity | None = None


# -- what comes out ----------------------------------------------------------------------------------------------------


class Findings(Record):
    """All assessments, by name, and what a person has decided about unknown licences."""

    assessments: tuple[Assessment, ...]
    accepted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


class Totals(Record):
    """The report in numbers."""

    distributions: int
    high: int
    medium: int
    low: int
    waived: int
    files_read: int
    files_verified: int
    bytes_verified: int
    retries: int
    fallbacks: int


class Report(Record):
    """The content of report.json. ``schema_version`` is raised when a field changes its meaning or goes away."""

    schema_version: Literal[1] = 1
    generated_at: datetime
    python: str
    environment: str
    fail_on: str
    policy: str
    totals: Totals
    violations: tuple[str, ...]
    accepted: tuple[str, ...] = ()
    """Distributions whose unknown licence a person has accepted in this run."""
    distributions: tuple[Assessment, ...]


class Partial(Record):
    """The content of partial.json: what was found before the budget ended, and what was not reached."""

    schema_version: Literal[1] = 1
    generated_at: datetime
    unaudited: tuple[str, ...]
    distributions: tuple[Assessment, ...]


class Outcome(Record):
    """What the run hands back."""

    violations: tuple[str, ...]
    totals: Totals
    report: Path
