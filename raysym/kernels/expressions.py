"""Expressions over buffers: what is computed, and how its leaves step through memory.

An expression becomes a program, a list of instructions in which nothing is computed twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from raysym.types import Shape

IOTA = -1  # the buffer whose elements are their own offsets
READS = ("load", "fetch")  # instructions that read a buffer
MOST_LINES = 640  # a longer expression is no elementwise formula but a loop written out

# Functions whose results are bools, and those that integers have as well as floats.
CONDITIONS = frozenset({
    "equal", "not_equal", "greater", "greater_equal", "less", "less_equal", "logical_and",
    "logical_or", "logical_xor", "logical_not", "isnan", "isinf", "isfinite",
})  # fmt: skip
EXACT = frozenset({
    "add", "subtract", "multiply", "negative", "abs", "maximum", "minimum", "sign",
    "floor_divide", "remainder",
})  # fmt: skip


class Untraceable(Exception):
    """The page does something that has no generated code."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """Elements of a buffer: offset and strides count elements."""

    buffer: int
    dtype: str
    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Const:
    """A number."""

    value: Any
    dtype: str


@dataclass(frozen=True, eq=False)
class Call:
    """An elementwise function of other nodes."""

    name: str
    dtype: str
    args: tuple[Expression, ...]


@dataclass(frozen=True, eq=False)
class Fetch:
    """Elements of a buffer at places that other nodes give, in steps of so many elements."""

    leaf: Leaf
    index: tuple[Expression, ...]
    steps: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return self.leaf.dtype


Expression: TypeAlias = Leaf | Const | Call | Fetch
# ("load", dtype, buffer, offset, strides), the same with (..., steps, operands) for "fetch",
# ("const", dtype, value) or (function, dtype, *operands).
Program: TypeAlias = tuple[tuple[Any, ...], ...]


class Target(NamedTuple):
    """Where a stage writes; strides are those of its shape, 0 along reduced axes."""

    buffer: int
    dtype: str
    offset: int
    strides: tuple[int, ...]
    result: int = -1  # which value of the program


class Stage(NamedTuple):
    """A loop nest over `shape` that evaluates a program: stores it, or folds it by `fold`."""

    shape: Shape
    fold: str
    targets: tuple[Target, ...]
    program: Program


def dtype_of(value: Any) -> Any:
    """What NumPy's promotion takes for a value: a dtype, or a weak Python number."""
    return np.dtype(value.dtype) if hasattr(value, "dtype") else value


def dense(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous array, in elements."""
    made = [1]
    for size in reversed(shape[1:]):
        made.append(made[-1] * size)
    return tuple(reversed(made))[len(made) - len(shape) :]


def laid(shape: Sequence[int], last: bool) -> tuple[int, ...]:
    """Strides of a contiguous array; `last`: axis 1 lies innermost, as channels of images do."""
    if not last or len(shape) < 3:
        return dense(shape)
    first, *others, innermost = dense((shape[0], *shape[2:], shape[1]))
    return (first, innermost, *others)


class Lines:
    """An expression as a list of instructions in which nothing is computed twice.

    `apart`: numbers that happen to be equal are none the less two.
    """

    def __init__(self, apart: bool = False) -> None:
        self._apart = apart
        self.made: list[tuple[Any, ...]] = []
        self._known: dict[Any, int] = {}
        self._done: dict[int, int] = {}

    def add(self, root: Expression) -> int:
        """The number of the instruction that computes an expression."""
        pending = [root]
        while pending:
            node = pending[-1]
            waiting = [a for a in operands_of(node) if id(a) not in self._done]
            if waiting:
                pending += waiting
                continue
            pending.pop()
            self._done[id(node)] = self._enter(node)
        return self._done[id(root)]

    def _enter(self, node: Expression) -> int:
        match node:
            case Leaf():
                line: tuple[Any, ...] = (
                    "load", node.dtype, node.buffer, node.offset, node.strides,
                )  # fmt: skip
            case Const():
                line = ("const", node.dtype, node.value)
            case Fetch(leaf, index, steps):
                operands = tuple(self._done[id(a)] for a in index)
                place = (leaf.buffer, leaf.offset, leaf.strides)
                line = ("fetch", leaf.dtype, *place, steps, operands)
            case Call():
                line = (node.name, node.dtype, *(self._done[id(a)] for a in node.args))
        key: Any = repr(line)  # NaN, and 0 beside -0 and False, are told apart by their text
        if self._apart and isinstance(node, Const):
            key = id(node)
        if key not in self._known:
            if len(self.made) == MOST_LINES:
                raise Untraceable("too long")
            self._known[key] = len(self.made)
            self.made.append(line)
        return self._known[key]


def operands_of(node: Expression) -> tuple[Expression, ...]:
    """The nodes that a node is computed from."""
    if isinstance(node, Fetch):
        return node.index
    return node.args if isinstance(node, Call) else ()


def calls_of(root: Expression) -> list[Call]:
    """All calls in an expression, each once."""
    return [node for node in nodes_of(root) if isinstance(node, Call)]


def leaves_of(root: Expression) -> list[Leaf]:
    """All leaves of an expression, those inside of fetches too."""
    nodes = nodes_of(root)
    return [n for n in nodes if isinstance(n, Leaf)] + [
        n.leaf for n in nodes if isinstance(n, Fetch)
    ]


def nodes_of(root: Expression) -> list[Expression]:
    """All nodes of an expression, operands before what uses them."""
    found: dict[int, Expression] = {}
    pending = [root]
    while pending:
        node = pending[-1]
        waiting = [a for a in operands_of(node) if id(a) not in found]
        if waiting:
            pending += waiting
        else:
            pending.pop()
            found[id(node)] = node
    return list(found.values())


def mapped(root: Expression, change: Callable[[Leaf], Leaf]) -> Expression:
    """The same expression over other leaves."""
    made: dict[int, Expression] = {}
    for node in nodes_of(root):
        match node:
            case Leaf():
                made[id(node)] = change(node)
            case Const():
                made[id(node)] = node
            case Fetch(leaf, index, steps):
                made[id(node)] = Fetch(change(leaf), tuple(made[id(a)] for a in index), steps)
            case Call():
                args = tuple(made[id(a)] for a in node.args)
                made[id(node)] = Call(node.name, node.dtype, args)
    return made[id(root)]


# ----- views


def viewed(leaf: Leaf, shape: Shape, view: Callable[[Any], Any]) -> Leaf:
    """A leaf seen through a NumPy view, which is asked for its strides and never read."""
    base = np.zeros(1, np.int8)
    before = np.lib.stride_tricks.as_strided(base, shape, leaf.strides)
    after = view(before)
    if after.base is None or after.dtype != np.int8:
        raise Untraceable("no view")
    start = after.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return Leaf(leaf.buffer, leaf.dtype, leaf.offset + start, tuple(after.strides))


def regrouped(shape: Shape, strides: Sequence[int], new: Shape) -> tuple[int, ...] | None:
    """Strides of the same elements in another shape, or None if they do not line up."""
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    made: list[int] = []
    for size in reversed(new):
        if size == 1:
            made.append(0)
            continue
        if not old:
            return None
        while old[-1][0] % size:  # join axes until the new one divides them
            if len(old) < 2 or old[-2][1] != old[-1][0] * old[-1][1]:
                return None
            (n, _), (m, s) = old[-2:]
            old[-2:] = [(n * m, s)]
        n, s = old.pop()
        made.append(s)
        if n != size:
            old.append((n // size, s * size))
    return tuple(reversed(made))


def filled(shape: Shape, size: int) -> Shape:
    """A shape whose -1 is worked out."""
    if -1 not in shape:
        return shape
    rest = math.prod(n for n in shape if n != -1)
    return tuple(size // rest if n == -1 else n for n in shape)


def is_basic(key: Any) -> bool:
    """True for indices that make views."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(p is None or p is Ellipsis or isinstance(p, slice | int) for p in parts)


def as_view(key: Any) -> Any:
    """A basic index that gives an array, also where one number is left."""
    parts = key if isinstance(key, tuple) else (key,)
    return parts if any(p is Ellipsis for p in parts) else (*parts, ...)
