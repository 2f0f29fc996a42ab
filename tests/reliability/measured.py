"""Figures of the long form: written down, so that the page about reliability can say what was measured."""

from __future__ import annotations

from pathlib import Path

from tests.reliability.scale import SOAK

FIGURES = Path(__file__).resolve().parents[2] / "build" / "reliability.txt"


def note(campaign: str, what: str, figures: object) -> None:
    """Print what a campaign has measured; the long form keeps it in a file, too."""
    line = f"{campaign}  {what}: {figures}"
    print(line)
    if SOAK:
        FIGURES.parent.mkdir(exist_ok=True)
        with FIGURES.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
