"""Captions: what a picture says of an operator in a few short words."""

from __future__ import annotations

from raysym.op import Op

__all__ = ["GLYPHS", "parameter_lines"]

# Operators that everybody knows by a sign.
GLYPHS = {
    "elemwise_add": "+",
    "elemwise_sub": "−",
    "elemwise_mul": "×",
    "elemwise_div": "÷",
}
_MOST_LINES, _LONGEST = 3, 26


def parameter_lines(op: Op) -> list[str]:
    """The parameters that differ from their defaults, one a line; an ellipsis for too many."""
    lines = [_shortened(f"{key}={_plain(value)}") for key, value in op.given().items()]
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "…"]


def _plain(value: object) -> str:
    """``(3, 3)`` -> ``3×3``; words stand without quotes."""
    if isinstance(value, tuple) and value and all(isinstance(dim, int) for dim in value):
        return "×".join(map(str, value)) if len(value) > 1 else f"({value[0]},)"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
