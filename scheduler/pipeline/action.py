"""Actions of a pipeline as text: `1F0` is the forward of micro-batch 0 on stage 1.

Kinds: F forward, B whole backward, I gradient of the input only, W gradient of the weights only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from scheduler.errors import ScheduleError

_TEXT = re.compile(r"(\d+)([FBIW])(\d+)")


class Action(NamedTuple):
    """One piece of work of one stage on one micro-batch."""

    stage: int
    kind: str
    batch: int

    def __str__(self) -> str:
        return f"{self.stage}{self.kind}{self.batch}"


Order = tuple[tuple[Action, ...], ...]  # what each rank does, in order


def parse_order(text: str) -> Order:
    """One line per rank, actions separated by spaces. Raises ScheduleError for an unknown word."""
    return tuple(tuple(map(_parse, line.split())) for line in text.strip().splitlines())


def print_order(order: Order) -> str:
    """The text that `parse_order` reads."""
    return "\n".join(" ".join(map(str, row)) for row in order)


def _parse(word: str) -> Action:
    match = _TEXT.fullmatch(word)
    if match is None:
        raise ScheduleError(f"pipeline action: got '{word}', expected text such as 1F0 or 0B2")
    return Action(int(match[1]), match[2], int(match[3]))
