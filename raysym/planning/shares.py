"""Shares: how the resident entries of replicas are related to the arrays that users see.

``part:1:data`` is the second replica's part of ``data``; ``copy:1:fc_weight`` is its copy of
``fc_weight``, whose first copy keeps its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from raysym.types import Shape


def part_name(home: str, replica: int) -> str:
    """The entry that holds a replica's part of `home`."""
    return f"part:{replica}:{home}"


def copy_name(home: str, replica: int) -> str:
    """The entry that holds a replica's copy of `home`."""
    return f"copy:{replica}:{home}" if replica else home


class Share(NamedTuple):
    """What an entry is of the user's array `home`: a part, a further copy, or the array itself."""

    home: str
    replica: int = 0
    is_part: bool = False

    @staticmethod
    def of(entry: str) -> Share:
        """The share that an entry is by its name."""
        kind, _, rest = entry.partition(":")
        number, _, home = rest.partition(":")
        if kind in ("part", "copy") and number.isdigit():
            return Share(home, int(number), kind == "part")
        return Share(entry)

    @property
    def is_copy(self) -> bool:
        """True for a copy beside the first one."""
        return bool(self.replica) and not self.is_part

    def cut(self, whole: Any, shape: Shape) -> Any:
        """A view of what this share, of this shape, holds of the array."""
        if not self.is_part:
            return whole
        axis = axis_of(whole.shape, shape)
        begin = self.replica * shape[axis]
        return whole[(slice(None),) * axis + (slice(begin, begin + shape[axis]),)]


def axis_of(whole: Shape, part: Shape) -> int:
    """The axis along which an array is cut: the one in which its parts are shorter."""
    return next(i for i, (a, b) in enumerate(zip(whole, part, strict=True)) if a != b)


def joined(whole: Shape, parts: Sequence[Any]) -> Any:
    """The array of its parts, in the order of the replicas."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts, axis_of(whole, parts[0].shape))
