"""Looks: one table of what every kind of mark looks like, and the colours of all the rest."""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "LANE_TINTS",
    "LINE",
    "LINE_ACROSS",
    "LOOKS",
    "PAPER",
    "TEXT",
    "TEXT_QUIET",
    "Look",
]

PAPER, TEXT, TEXT_QUIET = "#fdfdfc", "#1f2933", "#52606d"
# Arrows, and arrows from one group to another: what travels between workers.
LINE, LINE_ACROSS = "#8592a0", "#5a55c9"
# Fill and border of the groups' backdrops, in turn.
LANE_TINTS = (
    ("#eef3fb", "#cfdcf0"),
    ("#eef7f0", "#cbe3d1"),
    ("#f5f0fa", "#dfd2ec"),
    ("#fbf4e8", "#ecdcbd"),
    ("#ecf6f7", "#c6e1e4"),
    ("#fbeff1", "#eecfd4"),
)


@dataclass(frozen=True)
class Look:
    """Shape and colours of one kind of mark, and the words that the legend has for it."""

    shape: Literal["ellipse", "square", "circle"]
    fill: str
    stroke: str
    legend: str
    ink: str = TEXT
    dash: str = ""


# Its order is the legend's order: symbols first, then what an executor holds.
LOOKS = {
    "argument": Look("ellipse", "#fbbf77", "#c2751a", "argument"),
    "aux": Look("ellipse", "#1f6b47", "#134a30", "auxiliary state", ink="#ffffff"),
    "op": Look("ellipse", "#ffffff", "#52606d", "operator"),
    "backward_op": Look("ellipse", "#ffffff", "#52606d", "backward operator", dash="5 3"),
    "arg_array": Look("square", "#fbbf77", "#c2751a", "argument array"),
    "aux_array": Look("square", "#1f6b47", "#134a30", "auxiliary array", ink="#ffffff"),
    "internal_array": Look("square", "#dce1e7", "#7b8794", "internal array"),
    "out_array": Look("square", "#f28b82", "#b3372c", "output array"),
    "head_grad": Look("circle", "#9cc9f5", "#2f6fb3", "head gradient"),
    "grad_array": Look("square", "#a5d79c", "#3f8a3a", "gradient array"),
}
