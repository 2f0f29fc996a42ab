"""The demo: an audit is killed in the middle, continued, asks a person, gets its answer, and is looked at.

    python examples/dependency_audit/demo.py

Every command is printed before it is run, so that it can be typed again. Run it from the top of the repository.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

FOLDER = Path("build/dependency-audit")
STORE = FOLDER / "runs.db"
IN_HOUSE = FOLDER / "in-house"
HERE = Path("examples/dependency_audit")
STATE = ["--state", f"sqlite:///{STORE}"]
ENOUGH = 25  # distributions that are audited when the process is killed
WIDTH = 80
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(IN_HOUSE), *filter(None, [os.environ.get("PYTHONPATH")])]),
}
METADATA = """\
Metadata-Version: 2.1
Name: acme-pricing
Version: 2.3
License: see the contract
"""


def main() -> int:
    """Show it all and return the exit code."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    install_what_nobody_knows()
    tell("An audit of everything that is installed here.", f"After {ENOUGH} distributions its process is killed.")
    killed = run_until_killed("run", str(HERE / "app.py"), "--input", f"@{HERE / 'demo.json'}", "--run-id", "demo")
    before = finished_steps(STORE)
    tell(
        "kill -9. The process is gone and could not say goodbye." if killed else "It was quicker than the signal.",
        f"What it has done is in the store: {len(before)} steps; {audited(before)} distributions are complete.",
    )
    flow("runs")
    tell("Another process goes on with this run, until it needs a person:")
    flow("resume", "demo", "--quiet")
    tell("It may be answered today or next week. A third process takes the answer:")
    flow("resume", "demo", "--answer", "yes", "--quiet")
    show_report()
    code = sum_up(before, finished_steps(STORE), killed=killed)
    show_what_happened()
    return code


def sum_up(before: dict[str, float], after: dict[str, float], *, killed: bool) -> int:
    """Say what has happened; the exit code is 0 when nothing was executed again that had finished."""
    again = [path for path, started in before.items() if after[path] != started]
    tell(
        f"Three processes have worked on this audit{', and one of them was killed' if killed else ''}.",
        f"{audited(before)} distributions were audited by the first, {audited(after) - audited(before)} by the second.",
        f"Of the {len(before)} steps that the first had finished, {len(again)} were executed again.",
        f"The whole report: {FOLDER / 'report.md'}",
    )
    return 1 if again else 0


def show_what_happened() -> None:
    """Draw the tree and the waterfall of the run, and say how to look further."""
    tell("What happened when, in all of its processes. The time in between, when nobody worked on it, is cut out:")
    flow("lens", "trace", "demo", "--depth", "2", "--width", str(WIDTH))
    tell("To look further:")
    for words in (["show", "demo"], ["stats"], ["replay", "demo"]):
        command("lens", *words)


def tell(*lines: str) -> None:
    """Print something for the reader."""
    print("", *lines, "", sep="\n", flush=True)


def flow(*arguments: str) -> None:
    """Run a command that has to succeed."""
    subprocess.run(command(*arguments), env=ENVIRONMENT, check=True)  # noqa: S603  its words stand in this file


def command(*arguments: str) -> list[str]:
    """Print a command as one would type it, and return it."""
    words = ["flow", *arguments, *STATE]
    line = shlex.join(words)
    print(f"$ {line}" if len(line) < WIDTH - 2 else "$ " + line.replace(" --", " \\\n    --"), flush=True)
    return [sys.executable, "-m", *words]


def run_until_killed(*arguments: str) -> bool:
    """Run a command with live progress, and kill it as soon as enough is done; False when it had ended before."""
    watched = ["--trace", "console"] if sys.stderr.isatty() else ["--stream"]
    process = subprocess.Popen(command(*arguments, *watched), env=ENVIRONMENT)  # noqa: S603
    while process.poll() is None and audited(finished_steps(STORE)) < ENOUGH:
        time.sleep(0.01)
    process.kill()
    if sys.stderr.isatty():
        print("\033[?25h", file=sys.stderr)  # the display that was killed had hidden the cursor
    return process.wait() == -signal.SIGKILL


def finished_steps(file: Path) -> dict[str, float]:
    """Return when each finished step was started, by its path: what is in the store is plain SQL."""
    if not file.exists():
        return {}
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
        try:
            return dict(store.execute("SELECT path, started_at FROM steps WHERE status = 'completed'"))
        except sqlite3.OperationalError:  # its tables are being made
            return {}


def audited(steps: dict[str, float]) -> int:
    """Count the distributions that are done: `respond` is the last of their steps."""
    return sum(path.startswith("2:audit_each/") and path.endswith("/6:respond") for path in steps)


def install_what_nobody_knows() -> None:
    """Make up a package that says nothing about its licence, as they lie about in most companies."""
    info = IN_HOUSE / "acme_pricing-2.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(METADATA, encoding="utf-8")
    (info / "RECORD").write_text(f"{info.name}/METADATA,,\n{info.name}/RECORD,,\n", encoding="utf-8")


def show_report() -> None:
    """Print how the report begins, as far as it fits on a screen."""
    head, _, _ = (FOLDER / "report.md").read_text(encoding="utf-8").partition("## Maturity")
    tell(*(line if len(line) < WIDTH else f"{line[: WIDTH - 2]}…" for line in head.rstrip().splitlines()))


if __name__ == "__main__":
    sys.exit(main())
