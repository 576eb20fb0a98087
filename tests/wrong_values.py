"""Wrong values of a parameter, from what its page says: of another kind, or out of range."""

from __future__ import annotations

from typing import Any

from raysym.params import Dims, DType, Floats, OptDims, Param

_OTHER_KINDS: dict[Any, list[Any]] = {
    bool: ["yes", 2, ""],
    int: ["2.0", 2.5, "abc", "", (1, 2)],
    float: ["abc", "", (1.0, 2.0), True],
    Dims: ["(2.0,)", "(a, b)", "(1, 2", {"a": 1}],
    OptDims: ["(2.0,)", "(a, b)", "(1, 2"],
    Floats: ["(a, b)", "(1, 2", "nothing"],
    DType: ["float33", "complex64", "99"],
}


def wrong_values(param: Param) -> list[Any]:
    """Values that `param` must refuse; none for free text."""
    found = list(_OTHER_KINDS.get(param.kind, []))
    if param.choices:
        found.append("no such choice")
    whole = param.kind in (int, Dims, OptDims)
    if param.low is not None:
        found.append(int(param.low) - 1 if whole else param.low - 0.001)
    if param.high is not None:
        found.append(int(param.high) + 1 if whole else param.high + 0.001)
    return found
