"""A turn: one step of all workers as the driver follows it."""

from __future__ import annotations

from typing import NamedTuple

from raysym.errors import WorkerError
from raysym.runtime.orders import DRIVER, Report, unpickled
from raysym.runtime.protocol import Tap


class Turn(NamedTuple):
    """A step under way: who must report, and who has."""

    number: int
    waiting: set[str]
    reports: dict[str, Report]
    wanted: dict[str, tuple[str, ...]]
    tap: Tap | None
    aside: bool = False  # what is wanted is laid aside by the workers


def first_failure(turn: Turn) -> BaseException | None:
    """What went wrong in a step: an error, else a lost worker; None when it went well."""
    for report in turn.reports.values():
        if report.failure is not None:
            return unpickled(report.failure)
    for name, report in turn.reports.items():
        if report.lost not in ("", DRIVER):
            return WorkerError(f"worker {report.lost} died: {name} lost its channel to it")
        if report.lost == DRIVER:
            return WorkerError(f"step {turn.number} was given up")
    return None
