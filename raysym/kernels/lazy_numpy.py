"""NumPy as op pages see it while they are traced: functions of lazy arrays, the rest NumPy's.

Functions that no lazy array takes part in are NumPy's own: sizes, tables and numbers are known.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from raysym.kernels.expressions import IOTA, Leaf, Untraceable, dtype_of
from raysym.kernels.lazy import Lazy, Recorder, broadcast, call, write
from raysym.kernels.lazy_matrices import matmul
from raysym.kernels.lazy_operators import as_strided
from raysym.kernels.lazy_places import (
    cumsum,
    first,
    places,
    put_along_axis,
    select,
    take,
    take_along_axis,
)
from raysym.types import Shape

_UNARY = (
    "negative", "abs", "sign", "square", "sqrt", "exp", "expm1", "log", "log1p", "log2", "log10",
    "tanh", "sinh", "cosh", "arcsinh", "arccosh", "arctanh", "arcsin", "arccos", "arctan", "cbrt",
    "floor", "ceil", "trunc", "rint", "isnan", "isinf", "isfinite", "logical_not", "sin", "cos",
    "tan",
)  # fmt: skip
_BINARY = (
    "add", "subtract", "multiply", "maximum", "minimum", "fmax", "fmin", "power", "copysign",
    "hypot", "remainder", "floor_divide", "logaddexp", "logical_and", "logical_or", "logical_xor",
    "equal", "not_equal", "greater", "greater_equal", "less", "less_equal",
)  # fmt: skip


class LazyNumpy:
    """The array library of one trace."""

    lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=as_strided))

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __getattr__(self, name: str) -> Any:
        known = getattr(np, name)
        if not callable(known) or isinstance(known, type):
            return known
        function = _FUNCTIONS.get(name)

        def run(*args: Any, **given: Any) -> Any:
            if not any(isinstance(part, Lazy) for part in _flat([*args, *given.values()])):
                return _known(name, known, args, given, self.recorder)
            if function is None:
                raise Untraceable(name)
            return function(*args, **given)

        return run


def _flat(values: Sequence[Any]) -> list[Any]:
    rows = (v if isinstance(v, list | tuple) else [v] for v in values)
    return list(itertools.chain.from_iterable(rows))


def _known(name: str, known: Any, args: Any, given: Any, recorder: Recorder) -> Any:
    if name in ("zeros", "ones", "empty", "full"):
        return _filled(recorder, name, *args, **given)
    if name == "arange":
        return _range(recorder, *args, **given)
    made = known(*args, **given)
    return recorder.table(made) if isinstance(made, np.ndarray) and made.shape else made


def _shape(value: Any) -> Shape:
    return (int(value),) if isinstance(value, int | np.integer) else tuple(map(int, value))


def _filled(recorder: Recorder, name: str, shape: Any, *rest: Any, dtype: Any = None) -> Lazy:
    value = rest[0] if name == "full" else (name == "ones")
    if isinstance(value, Lazy):
        raise Untraceable("filled with what is not known")
    given = rest[1:] if name == "full" else rest
    default = np.asarray(value).dtype if name == "full" else np.float64
    kind = np.dtype(given[0] if given else (dtype or default))
    return recorder.constant(kind.type(value).item(), _shape(shape), kind.name)


def _range(recorder: Recorder, *limits: Any, dtype: Any = None) -> Lazy:
    start, stop, step = {1: (0, *limits, 1), 2: (*limits, 1), 3: limits}[len(limits)]
    if not all(isinstance(n, int | np.integer) for n in (start, stop, step)):
        raise Untraceable("a range of fractions")
    shape = (len(range(start, stop, step)),)
    made = Lazy(recorder, Leaf(IOTA, "int64", int(start), (int(step),)), shape)
    return made if dtype is None else made.astype(dtype)


# ----- elementwise


def _elementwise(name: str) -> Any:
    def run(*values: Any, out: Any = None) -> Lazy:
        made = call(name, *values)
        return made if out is None else out.become(made)

    return run


def _clip(x: Any, low: Any, high: Any) -> Any:
    made = x if low is None else call("maximum", x, low)
    return made if high is None else call("minimum", made, high)


def _asarray(x: Any, dtype: Any = None) -> Any:
    return x if dtype is None else x.astype(dtype)


def _like(value: Any) -> Any:
    def run(x: Lazy, dtype: Any = None) -> Lazy:
        kind = np.dtype(dtype or x.dtype)
        return x.recorder.constant(kind.type(value).item(), x.shape, kind.name)

    return run


def _method(name: str) -> Any:
    return lambda x, *args, **given: getattr(x, name)(*args, **given)


def _view(name: str) -> Any:
    view = getattr(np, name)
    return lambda x, *args, **given: x.view_as(lambda a: view(a, *args, **given))


def _nan_as(value: float, name: str) -> Any:
    def run(x: Lazy, **given: Any) -> Any:
        return getattr(select(call("isnan", x), x.dtype.type(value), x), name)(**given)

    return run


# ----- arrays put together


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Lazy:
    axis %= arrays[0].ndim
    first = arrays[0]
    length = sum(a.shape[axis] for a in arrays)
    common = np.result_type(*map(dtype_of, arrays)).name
    shape = (*first.shape[:axis], length, *first.shape[axis + 1 :])
    made = _recorder(arrays).buffer(shape, common)
    start = 0
    for part in arrays:
        end = start + part.shape[axis]
        write(made[(slice(None),) * axis + (slice(start, end),)], part)
        start = end
    return made


def _recorder(arrays: Sequence[Any]) -> Recorder:
    return next(a.recorder for a in arrays if isinstance(a, Lazy))


def _stack(arrays: Sequence[Any], axis: int = 0) -> Lazy:
    rank = arrays[0].ndim + 1
    return _concatenate([_view("expand_dims")(a, axis % rank) for a in arrays], axis % rank)


def _split(x: Lazy, sections: Any, axis: int = 0) -> list[Lazy]:
    if not isinstance(sections, int):
        raise Untraceable("parts of several lengths")
    axis %= x.ndim
    size = x.shape[axis] // sections
    return [x[(slice(None),) * axis + (slice(i * size, (i + 1) * size),)] for i in range(sections)]


def _tile(x: Lazy, reps: Any) -> Lazy:
    reps = _shape(reps)
    rank = max(x.ndim, len(reps))
    shape = (1,) * (rank - x.ndim) + x.shape
    times = (1,) * (rank - len(reps)) + tuple(reps)
    pairs = [n for pair in zip(times, shape, strict=True) for n in pair]
    seen = x.reshape([n for size in shape for n in (1, size)])
    return broadcast(seen, tuple(pairs)).reshape([r * n for r, n in zip(times, shape, strict=True)])


def _repeat(x: Lazy, repeats: Any, axis: Any = None) -> Lazy:
    if not isinstance(repeats, int):
        raise Untraceable("repeats of several lengths")
    flat = x.reshape(-1) if axis is None else x
    at = 0 if axis is None else axis % x.ndim
    seen = _view("expand_dims")(flat, at + 1)
    shape = (*flat.shape[: at + 1], repeats, *flat.shape[at + 1 :])
    new = (*flat.shape[:at], repeats * flat.shape[at], *flat.shape[at + 1 :])
    return broadcast(seen, shape).reshape(new)


def _pad(x: Lazy, pairs: Any, mode: str = "constant", constant_values: Any = 0) -> Lazy:
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True))
    if mode == "constant":
        made = x.recorder.buffer(shape, x.node.dtype)
        write(made, x.dtype.type(constant_values))
        write(made[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, pairs, strict=True))], x)
        return made
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            x = _bordered(x, axis, before, after, mode)
    return x


def _bordered(x: Lazy, axis: int, before: int, after: int, mode: str) -> Lazy:
    lead, n = (slice(None),) * axis, x.shape[axis]

    def cut(*limits: Any) -> Lazy:
        return x[(*lead, slice(*limits))]

    if mode == "reflect":
        parts = [
            cut(before, 0, -1),
            x,
            cut(n - 2, n - 2 - after if n - 2 - after >= 0 else None, -1),
        ]
    elif mode == "edge":
        sizes = [(*x.shape[:axis], k, *x.shape[axis + 1 :]) for k in (before, after)]
        ends = [broadcast(part, s) for part, s in zip((cut(1), cut(n - 1, n)), sizes, strict=True)]
        parts = [ends[0], x, ends[1]]
    else:
        raise Untraceable(mode)
    return _concatenate([p for p in parts if p.shape[axis]], axis)


# ----- triangles


def _triangle(lower: bool) -> Any:
    def run(x: Lazy, k: int = 0) -> Lazy:
        ahead = call("subtract", places(x, x.ndim - 1), places(x, x.ndim - 2))
        return select(call("less_equal" if lower else "greater_equal", ahead, k), x, 0)

    return run


_FUNCTIONS: dict[str, Any] = {
    **{name: _elementwise(name) for name in (*_UNARY, *_BINARY)},
    **{name: _view(name) for name in ("broadcast_to", "expand_dims", "flip", "moveaxis")},
    **{name: _method(name) for name in ("transpose", "swapaxes", "squeeze", "reshape", "prod")},
    "argmax": first("maximum"),
    "argmin": first("minimum"),
    **{name: _method(name) for name in ("sum", "max", "min", "mean", "any", "all", "copy")},
    "absolute": _elementwise("abs"),
    "true_divide": _elementwise("divide"),
    "divide": _elementwise("divide"),
    "clip": _clip,
    "where": select,
    "asarray": _asarray,
    "ascontiguousarray": _asarray,
    "zeros_like": _like(0),
    "ones_like": _like(1),
    "empty_like": _like(0),
    "nansum": _nan_as(0, "sum"),
    "nanprod": _nan_as(1, "prod"),
    "concatenate": _concatenate,
    "stack": _stack,
    "split": _split,
    "tile": _tile,
    "take": take,
    "take_along_axis": take_along_axis,
    "put_along_axis": put_along_axis,
    "tril": _triangle(True),
    "triu": _triangle(False),
    "repeat": _repeat,
    "pad": _pad,
    "cumsum": cumsum,
    "matmul": matmul,
    "shape": lambda x: x.shape,
    "ndim": lambda x: x.ndim,
}
