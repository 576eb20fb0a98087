"""What driver and workers say to each other: orders, reports, and an abort, which is a number."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from raysym.errors import MXNetError
from raysym.op import Op
from raysym.runtime.transport.protocol import INLINE_NBYTES

DRIVER = "driver"
ORDER, REPORT = "an order", "the report"  # what a resting worker waits for, and the driver


class Aborted(Exception):
    """The driver gave a step up because another worker failed in it."""


Tuned: TypeAlias = tuple[str, Op, Op]


class Order(NamedTuple):
    """Run `phases`, then report and send the content of `wanted` along.

    Small feeds travel in the order; those named in `fed` follow as messages of their own.
    ``tuned``: phase, old and new op of updates that get other numbers before all else.
    ``aside``: lay copies of what is wanted aside for a call, and send nothing.
    """

    turn: int
    phases: tuple[str, ...]
    seed: int
    step: int
    feeds: Mapping[str, Any]
    fed: tuple[str, ...]
    wanted: tuple[str, ...]
    watched: bool
    tuned: tuple[Tuned, ...] = ()
    aside: bool = False


class Report(NamedTuple):
    """How an order went: a pickled error, or the peer that was lost (the driver: aborted)."""

    failure: bytes | None
    lost: str
    seen: list[Any]
    seconds: dict[str, float]
    arrays: dict[str, Any]


def pack(what: Order | Report | int) -> Any:
    """As an array of bytes, which is what channels carry."""
    # Plain tuples: a class is looked up by name, in every message.
    plain = (_KINDS[type(what)], *what) if isinstance(what, tuple) else what
    return np.frombuffer(pickle.dumps(plain, 5), np.uint8)


def unpack(array: Any) -> Any:
    """What was packed."""
    plain = pickle.loads(memoryview(array))
    if not isinstance(plain, tuple):
        return plain
    kind, *fields = plain
    return (Order, Report)[kind](*fields)


_KINDS = {Order: 0, Report: 1}


def is_small(arrays: Mapping[str, Any]) -> bool:
    """True when the arrays may travel inside of an order or a report."""
    nbytes: int = sum(array.nbytes for array in arrays.values())
    return nbytes <= INLINE_NBYTES // 2


# ----- errors


def pickled(error: BaseException) -> bytes:
    """The error as bytes, behind its text: it may not travel, or not arrive."""
    text = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    try:
        return pickle.dumps((text, pickle.dumps(error)))
    except Exception:
        return pickle.dumps((text, b""))


def unpickled(failure: bytes) -> BaseException:
    """The error; an MXNetError with its text where its class is unknown or cannot be made anew."""
    text, body = pickle.loads(failure)
    try:
        error = pickle.loads(body)
    except Exception:
        return MXNetError(text)
    return error if isinstance(error, BaseException) else MXNetError(text)
