"""The style sheet of an SVG: colours for light and for dark pages, by the state of a step."""

from __future__ import annotations

from collections.abc import Mapping

from flow_viz._states import State

_FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
# line, fill
_LIGHT: Mapping[State, tuple[str, str]] = {
    State.FAILED: ("#cf222e", "#ffebe9"),
    State.PAUSED: ("#9a6700", "#fff8c5"),
    State.STOPPED: ("#bc4c00", "#fff1e5"),
    State.BEGUN: ("#0969da", "#ddf4ff"),
    State.DONE: ("#1a7f37", "#e6f8ea"),
    State.CACHED: ("#0969da", "#ddf4ff"),
    State.REPLAYED: ("#0969da", "#ddf4ff"),
    State.IDLE: ("#8c959f", "#ffffff"),
}
_DARK: Mapping[State, tuple[str, str]] = {
    State.FAILED: ("#f85149", "#3c1618"),
    State.PAUSED: ("#d29922", "#332a10"),
    State.STOPPED: ("#db6d28", "#33200f"),
    State.BEGUN: ("#58a6ff", "#10243e"),
    State.DONE: ("#3fb950", "#12261a"),
    State.CACHED: ("#58a6ff", "#10243e"),
    State.REPLAYED: ("#58a6ff", "#10243e"),
    State.IDLE: ("#6e7681", "#0d1117"),
}
# page, frame, box, text, muted text, line of frames and boxes, ways, ways that a run went
_LIGHT_BASE = ("#ffffff", "#f6f8fa", "#ffffff", "#1f2328", "#57606a", "#8c959f", "#57606a", "#1a7f37")
_DARK_BASE = ("#0d1117", "#161b22", "#21262d", "#e6edf3", "#9198a1", "#6e7681", "#9198a1", "#3fb950")


def style_sheet(mark: str) -> str:
    """Return the style sheet of the picture with the class `mark`; it touches nothing else on a page."""
    fixed = {
        "text": f"font-family:{_FONT};font-size:11px",
        ".name": "font-size:13px;font-weight:600",
        ".kind": "font-style:italic",
        ".way": "fill:none;stroke-width:1.5",
        ".box": "stroke-width:1.3",
        ".frame": "stroke-width:1.2",
        ".failure": "stroke-dasharray:5 4",
        ".folded,.empty": "stroke-dasharray:5 4",
        ".faint": "opacity:0.45",
        ".way.faint": "stroke-dasharray:2 4",
        ".box.failed,.box.paused": "stroke-width:2.2",
        ".ring": "fill:none;stroke-width:2",
        ".way.ran": "stroke-width:2",
        ".sign": "stroke-width:1.4",
    }
    light = {**_base(_LIGHT_BASE), **_states(_LIGHT)}
    dark = {**_base(_DARK_BASE), **_states(_DARK)}
    return f"{_rules(mark, fixed)}{_rules(mark, light)}@media (prefers-color-scheme:dark){{{_rules(mark, dark)}}}"


def _base(colours: tuple[str, ...]) -> dict[str, str]:
    page, frame, box, text, muted, line, way, ran = colours
    return {
        ".page": f"fill:{page}",
        ".frame": f"fill:{frame};stroke:{line}",
        ".box": f"fill:{box};stroke:{line}",
        ".sign": f"fill:{box};stroke:{way}",
        ".way,.ring": f"stroke:{way}",
        ".head,.dot": f"fill:{way}",
        ".way.ran,.ring.ran": f"stroke:{ran}",
        ".head.ran,.dot.ran": f"fill:{ran}",
        "text": f"fill:{muted}",
        ".name": f"fill:{text}",
        ".label": f"fill:{text}",
    }


def _states(colours: Mapping[State, tuple[str, str]]) -> dict[str, str]:
    rules = {}
    for state, (line, fill) in colours.items():
        name = state.name.lower()
        rules[f".box.{name},.sign.{name}"] = f"stroke:{line};fill:{fill}"
        rules[f".frame.{name}"] = f"stroke:{line}"
        rules[f".name.{name}"] = f"fill:{line}"
    return rules


def _rules(mark: str, rules: Mapping[str, str]) -> str:
    return "".join(
        f"{','.join(f'.{mark} {part}' for part in selector.split(','))}{{{values}}}"
        for selector, values in rules.items()
    )
