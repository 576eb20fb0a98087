"""Lazy arrays: an op page's kernel runs on them once, and what it would compute is written down.

A lazy array is an expression over buffers; views only change how its leaves step through memory.
Reductions, joined arrays and reshaped expressions become buffers of their own: a `Recorder` keeps
the stages that fill them, in order. Whatever a page asks for beyond that is `Untraceable`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raysym.kernels.expressions import (
    CONDITIONS,
    EXACT,
    IOTA,
    Call,
    Const,
    Expression,
    Leaf,
    Lines,
    Stage,
    Target,
    Untraceable,
    as_view,
    calls_of,
    dtype_of,
    filled,
    is_basic,
    laid,
    leaves_of,
    mapped,
    regrouped,
    viewed,
)
from raysym.types import Shape

MOST_TABLE = 1 << 16  # bytes of a table that is part of a kernel
MOST_STAGES = 64  # a page with more of them is a loop written out: no code for that
COSTLY = frozenset({"exp", "expm1", "log", "log1p", "tanh", "power", "erf", "sin", "cos"})


@dataclass
class Recorder:
    """Buffers by number with their size and dtype, inputs first, and the stages in order.

    ``last``: their axis 1 lies innermost.
    """

    buffers: list[tuple[int, str]] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    tables: dict[int, bytes] = field(default_factory=dict)  # buffers of known numbers
    last: bool = False

    def input(self, shape: Shape, dtype: str) -> Lazy:
        """A new input."""
        return self.buffer(shape, dtype)

    def buffer(self, shape: Shape, dtype: str) -> Lazy:
        """A lazy array that is all of a new buffer."""
        self.buffers.append((math.prod(shape), dtype))
        leaf = Leaf(len(self.buffers) - 1, dtype, 0, laid(shape, self.last))
        return Lazy(self, leaf, shape)

    def constant(self, value: Any, shape: Shape, dtype: str) -> Lazy:
        """The same number everywhere."""
        return Lazy(self, Const(value, dtype), shape)

    def append(self, stage: Stage) -> None:
        """One more stage."""
        if len(self.stages) == MOST_STAGES:
            raise Untraceable("too many stages")
        self.stages.append(stage)

    def table(self, numbers: np.ndarray) -> Lazy:
        """An array of known numbers."""
        if not 0 < numbers.nbytes <= MOST_TABLE:
            raise Untraceable("a large table of numbers")
        made = self.buffer(numbers.shape, numbers.dtype.name)
        seen = np.moveaxis(numbers, 1, -1) if self.last and numbers.ndim > 2 else numbers
        self.tables[len(self.buffers) - 1] = seen.tobytes()
        return made

    def store(self, values: Sequence[tuple[Leaf, Lazy]]) -> None:
        """Write values of one shape to their places, in one loop."""
        if not all(values[0][1].shape):
            return
        lines = Lines()
        results = [lines.add(lazy.node) for _, lazy in values]
        targets = tuple(
            Target(leaf.buffer, leaf.dtype, leaf.offset, leaf.strides, result)
            for (leaf, _), result in zip(values, results, strict=True)
        )
        self.append(Stage(values[0][1].shape, "", targets, tuple(lines.made)))

    def nothing(self, kind: str, lazy: Lazy, axes: Sequence[int], dtype: str) -> Lazy:
        """What a reduction makes of no elements."""
        if kind not in ("add", "multiply"):
            raise Untraceable("an extreme of nothing")
        shape = tuple(1 if i in axes else n for i, n in enumerate(lazy.shape))
        return self.constant(np.dtype(dtype).type(kind == "multiply").item(), shape, dtype)

    def fold(self, kind: str, lazy: Lazy, axes: Sequence[int], dtype: str) -> Lazy:
        """A reduction, its axes kept with length 1."""
        if not all(lazy.shape):
            return self.nothing(kind, lazy, axes, dtype)
        if any(part.name in COSTLY for part in calls_of(lazy.node)):
            lazy = lazy.stored()
        shape = tuple(1 if i in axes else n for i, n in enumerate(lazy.shape))
        made = self.buffer(shape, dtype)
        leaf = whole(made)
        strides = tuple(0 if i in axes else step for i, step in enumerate(leaf.strides))
        lines = Lines()
        result = lines.add(cast(lazy, dtype).node)
        target = Target(leaf.buffer, dtype, 0, strides, result)
        self.append(Stage(lazy.shape, kind, (target,), tuple(lines.made)))
        return made


# ----- the array


class Lazy:
    """What a page's kernel gets for an array.

    Views share no memory here: once an array or one of its views has been written over, the others
    are out of date and refuse to be read. ``x[key] += y`` brings what it has written home.
    """

    __array_ufunc__ = None  # NumPy scalars leave operators to this class

    def __init__(
        self, recorder: Recorder, node: Expression, shape: Shape, seen: Lazy | None = None
    ) -> None:
        self.recorder, self.shape = recorder, tuple(map(int, shape))
        self._node = node
        self._key: Any = None  # of a view that ``root[key]`` has made
        self._root: Lazy = self if seen is None else seen._root  # what this is a view of
        self._writes = 0  # how often a root or one of its views has been written over
        self._known_writes = self._root._writes

    @property
    def node(self) -> Expression:
        """The expression of the elements."""
        if self._known_writes != self._root._writes:
            raise Untraceable("written over through another view")
        return self._node

    def _overwrite(self, node: Expression) -> None:
        self._root._writes += 1
        self._node, self._known_writes = node, self._root._writes

    @property
    def dtype(self) -> Any:
        return np.dtype(self.node.dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def T(self) -> Lazy:
        return self.transpose()

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> bool:
        raise Untraceable("numbers decide what is computed")

    __float__ = __int__ = __index__ = __array__ = __bool__

    def __iter__(self) -> Iterator[Lazy]:
        return (self[i] for i in range(len(self)))

    # ----- elementwise

    def astype(self, dtype: Any, copy: bool = True) -> Lazy:
        made = cast(self, np.dtype(dtype).name)
        return made.copy() if copy else made

    def become(self, made: Lazy) -> Lazy:
        """Written over, as an operator in place or ``out=`` does it."""
        if made.shape != self.shape:
            raise Untraceable("written over with another shape")
        self._overwrite(cast(made, self.node.dtype).node)
        return self

    def copy(self) -> Lazy:
        return Lazy(self.recorder, self.node, self.shape)

    def __neg__(self) -> Lazy:
        return call("negative", self)

    def __abs__(self) -> Lazy:
        return call("abs", self)

    def __invert__(self) -> Lazy:
        return call("logical_not", self, dtype="bool")

    def __pow__(self, other: Any) -> Lazy:
        return call("power", self, other)

    # ----- views

    def view_as(self, view: Callable[[Any], Any]) -> Lazy:
        """Through a NumPy view."""
        shape = view(np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), self.shape,
                                                     (0,) * self.ndim)).shape  # fmt: skip
        node = mapped(self.node, lambda leaf: viewed(leaf, self.shape, view))
        return Lazy(self.recorder, node, shape, self)

    def __getitem__(self, key: Any) -> Lazy:
        if not is_basic(key):
            return self.fetched(key)
        made = self.view_as(lambda a: a[as_view(key)])
        made._key = (key,) if self._root is self else None
        return made

    def fetched(self, key: Any) -> Lazy:
        """Elements at places that other arrays give (see lazy_places.py)."""
        raise Untraceable("indices that are arrays")

    def __setitem__(self, key: Any, value: Any) -> None:
        if not is_basic(key):
            raise Untraceable("indices that are arrays")
        if isinstance(value, Lazy) and value._root is self and value._key == (key,):
            self._known_writes = value._known_writes  # ``x[key] += y`` has changed this part alone
        made = self.recorder.buffer(self.shape, self.node.dtype)
        self.recorder.store([(whole(made), self)])
        part = made[key] if key is not Ellipsis else made
        write(part, value)
        self._overwrite(made.node)

    def transpose(self, *axes: Any) -> Lazy:
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return self.view_as(lambda a: np.transpose(a, order or None))

    def swapaxes(self, a: int, b: int) -> Lazy:
        return self.view_as(lambda array: np.swapaxes(array, a, b))

    def diagonal(self, *place: int) -> Lazy:
        return self.view_as(lambda a: np.diagonal(a, *place))

    def squeeze(self, axis: Any = None) -> Lazy:
        return self.view_as(lambda a: np.squeeze(a, axis))

    def reshape(self, *shape: Any) -> Lazy:
        wanted = (
            shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
        )
        new = filled(tuple(map(int, wanted)), self.size)
        if new == self.shape:
            return self
        steps = {
            id(leaf): regrouped(self.shape, leaf.strides, new) for leaf in leaves_of(self.node)
        }
        if None in steps.values():
            return self._stored_as(new) if self.recorder.last else self.stored().reshape(new)

        def change(leaf: Leaf) -> Leaf:
            return Leaf(leaf.buffer, leaf.dtype, leaf.offset, steps[id(leaf)] or ())

        return Lazy(self.recorder, mapped(self.node, change), new, self)

    def _stored_as(self, shape: Shape) -> Lazy:
        """A copy that lies as one of the new shape does."""
        made = self.recorder.buffer(shape, self.node.dtype)
        leaf = whole(made)
        strides = regrouped(shape, leaf.strides, self.shape)
        if strides is None:
            raise Untraceable("axes that are cut apart where they do not lie together")
        self.recorder.store([(Leaf(leaf.buffer, leaf.dtype, 0, strides), self)])
        return made

    def stored(self) -> Lazy:
        """The same as a buffer of its own, from now on."""
        if not is_whole(self):
            made = self.recorder.buffer(self.shape, self.node.dtype)
            self.recorder.store([(whole(made), self)])
            self._node = made.node
        return self

    # ----- reductions

    def folded(self, kind: str, axis: Any, keepdims: bool, dtype: str) -> Lazy:
        """A reduction in a dtype."""
        axes = range(self.ndim) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
        axes = tuple(a % self.ndim for a in axes)
        made = self.recorder.fold(kind, self, axes, dtype)
        kept = [n for i, n in enumerate(self.shape) if i not in axes]
        return made if keepdims else made.reshape(kept)

    def sum(self, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Lazy:
        return self.folded("add", axis, keepdims, summing(self, dtype))

    def prod(self, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Lazy:
        return self.folded("multiply", axis, keepdims, summing(self, dtype))

    def mean(self, axis: Any = None, keepdims: bool = False) -> Lazy:
        total = self.sum(axis, keepdims)
        return call("divide", total, self.size // max(1, total.size))

    def max(self, axis: Any = None, keepdims: bool = False) -> Lazy:
        return self.folded("maximum", axis, keepdims, self.node.dtype)

    def min(self, axis: Any = None, keepdims: bool = False) -> Lazy:
        return self.folded("minimum", axis, keepdims, self.node.dtype)

    def any(self, axis: Any = None, keepdims: bool = False) -> Lazy:
        return self.folded("logical_or", axis, keepdims, "bool")

    def all(self, axis: Any = None, keepdims: bool = False) -> Lazy:
        return self.folded("logical_and", axis, keepdims, "bool")


def summing(lazy: Lazy, dtype: Any) -> str:
    """The dtype in which NumPy adds up."""
    if dtype is not None:
        return str(np.dtype(dtype).name)
    return "int64" if lazy.dtype.kind in "iub" else lazy.dtype.name


def whole(lazy: Lazy) -> Leaf:
    """The buffer, or the part of one, that an array is."""
    assert isinstance(lazy.node, Leaf)
    return lazy.node


def is_whole(lazy: Lazy) -> bool:
    """True when it is a contiguous buffer from its first element to its last."""
    leaf = lazy.node
    if not isinstance(leaf, Leaf) or leaf.buffer == IOTA or leaf.offset:
        return False
    steps = zip(lazy.shape, leaf.strides, laid(lazy.shape, lazy.recorder.last), strict=True)
    same = all(n == 1 or a == b for n, a, b in steps)
    return same and lazy.recorder.buffers[leaf.buffer][0] == lazy.size


def write(place: Lazy, value: Any) -> None:
    """A stage that stores a value (broadcast) in a part of a buffer."""
    made = broadcast(as_lazy(place.recorder, value, place.dtype), place.shape)
    place.recorder.store([(whole(place), cast(made, place.node.dtype))])


def as_lazy(recorder: Recorder, value: Any, dtype: Any) -> Lazy:
    """A value as a lazy array; numbers get the dtype."""
    if isinstance(value, Lazy):
        return value
    if hasattr(value, "shape") and value.shape:
        return recorder.table(value)
    return recorder.constant(np.dtype(dtype).type(value).item(), (), np.dtype(dtype).name)


def broadcast(lazy: Lazy, shape: Shape) -> Lazy:
    """Repeated to a shape."""
    if lazy.shape == tuple(shape):
        return lazy
    return lazy.view_as(lambda a: np.broadcast_to(a, shape))


def cast(lazy: Lazy, dtype: str) -> Lazy:
    """In another dtype."""
    if lazy.node.dtype == dtype:
        return lazy
    return Lazy(lazy.recorder, Call("cast", dtype, (lazy.node,)), lazy.shape)


# ----- calls


def call(name: str, *values: Any, dtype: str | None = None) -> Lazy:
    """An elementwise function of arrays and numbers, with NumPy's rules for dtypes and shapes."""
    lazies = [v for v in values if isinstance(v, Lazy)]
    recorder = lazies[0].recorder
    common = np.result_type(*map(dtype_of, values))
    if name in ("logical_and", "logical_or", "logical_xor", "logical_not"):
        common = np.dtype("bool")
    elif name not in CONDITIONS and common.kind != "f" and name not in EXACT:
        common = np.dtype("float64")
    parts = [as_lazy(recorder, v, common) for v in values]
    shape = np.broadcast_shapes(*(p.shape for p in parts))
    nodes = tuple(cast(broadcast(p, shape), common.name).node for p in parts)
    made = "bool" if name in CONDITIONS else common.name
    return Lazy(recorder, Call(name, dtype or made, nodes), shape)
