"""The exception tree and the one template all messages follow.

MXNetError (RuntimeError)
 ├ NotImplementedForSymbol      an operation that a symbol cannot offer
 ├ RuleError                    raised inside an op page, before the node is known
 ├ PlanError                    a plan that cannot run
 │  └ PlacementError            ... because of devices, groups or memory
 ├ WorkerError                  a worker died or cannot be reached
 └ StallError                   a wait passed its deadline
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class MXNetError(RuntimeError):
    """Base of all errors that raysym raises about graphs, operators and execution."""

    entry = ""  # the plan's name of the value that could not be computed, if that is what failed


class NotImplementedForSymbol(MXNetError):
    """An operation that needs numbers was asked of a symbol, which has none."""


class RuleError(MXNetError):
    """What an op page found wrong; the engine adds op and node and raises MXNetError.

    ``what`` says what is wrong, ``got`` what came and ``expected`` what was wanted.
    """

    def __init__(self, what: str, got: Any = None, expected: Any = None, fix: str = "") -> None:
        super().__init__(what, got, expected, fix)
        self.what, self.got, self.expected, self.fix = what, got, expected, fix

    def __str__(self) -> str:
        return sentence(self.what, self.got, self.expected, self.fix)


class PlanError(MXNetError):
    """A plan that would not run: refused before any worker starts."""


class PlacementError(PlanError):
    """Nodes cannot be placed on the devices that were given."""


class WorkerError(MXNetError):
    """A worker died, or its process cannot be reached."""


class StallError(MXNetError):
    """A wait passed its deadline; the message says who waits for whom."""


def sentence(what: str, got: Any = None, expected: Any = None, fix: str = "") -> str:
    """Fill the template ``<what>: got <got>, expected <expected>`` and add the fix."""
    parts = [f"got {got}"] if got is not None else []
    parts += [f"expected {expected}"] if expected is not None else []
    text = f"{what}: {', '.join(parts)}" if parts else what
    return f"{text}. {fix}" if fix else text


def node_message(op: str, node: str, wrong: str, context: Sequence[str] = ()) -> str:
    """``<Op> '<node>': <wrong>`` and at most three indented lines of context."""
    lines = [f"{op} '{node}': {wrong}", *(f"  {line}" for line in context[:3])]
    return "\n".join(lines)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question that offers the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'?" if close else ""


def in_words(words: Iterable[str]) -> str:
    """``a, b, c``."""
    return ", ".join(words)


def some(words: Sequence[str], limit: int = 10) -> str:
    """``a, b, c``; of many words the first `limit` and how many more there are."""
    shown = ", ".join(words[:limit])
    return f"{shown} and {len(words) - limit} more" if len(words) > limit else shown
