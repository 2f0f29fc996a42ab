"""Type checkers see what fits: mypy accepts the programs in ``typing/``, where an ``ignore`` marks what it must reject.

An ``ignore`` that nothing needs is an error too, so an expected rejection cannot go missing. The programs are written
for pyright as well: its ``reportUnnecessaryTypeIgnoreComment`` is switched on in each.
"""

from __future__ import annotations

from pathlib import Path

import pytest

PROGRAMS = sorted(Path(__file__).with_name("typing").glob("*.py"))


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says about all the programs, one line each."""
    api = pytest.importorskip("mypy.api", reason="mypy is not installed here; make check has it")
    cache = tmp_path_factory.mktemp("mypy")
    output, trouble, _ = api.run(
        ["--config-file=", "--strict", "--no-error-summary", f"--cache-dir={cache}", *map(str, PROGRAMS)]
    )
    assert not trouble
    return [line for line in output.splitlines() if line]


@pytest.mark.parametrize("program", [pytest.param(path, id=path.stem) for path in PROGRAMS])
def test_mypy_agrees_with_the_program(program: Path, complaints: list[str]) -> None:
    assert [line for line in complaints if Path(line.partition(":")[0]).name == program.name] == []
