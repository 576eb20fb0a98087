"""Python's operators on lazy arrays, and the methods that other files than lazy.py have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raysym.kernels.expressions import Leaf
from raysym.kernels.lazy import Lazy, call, whole
from raysym.kernels.lazy_matrices import matmul
from raysym.kernels.lazy_places import cumsum, fetched, first
from raysym.types import Shape


def strides_of(x: Lazy) -> tuple[int, ...]:
    """Bytes between neighbours along each axis."""
    return tuple(step * x.dtype.itemsize for step in whole(x.stored()).strides)


def as_strided(x: Lazy, shape: Shape, strides: tuple[int, ...]) -> Lazy:
    """A view of what begins where the array does."""
    leaf = whole(x.stored())
    steps = tuple(step // x.dtype.itemsize for step in strides)
    return Lazy(x.recorder, Leaf(leaf.buffer, leaf.dtype, leaf.offset, steps), shape, x)


def _operator(name: str) -> tuple[Callable[..., Lazy], Callable[..., Lazy]]:
    return (lambda a, b: call(name, a, b)), (lambda a, b: call(name, b, a))


def _in_place(name: str) -> Callable[..., Lazy]:
    def run(a: Lazy, b: Any) -> Lazy:
        return a.become(call(name, a, b))

    return run


for _name, _function in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide",
    "floordiv": "floor_divide", "mod": "remainder", "and": "logical_and", "or": "logical_or",
    "xor": "logical_xor",
}.items():  # fmt: skip
    _plain, _turned = _operator(_function)
    setattr(Lazy, f"__{_name}__", _plain)
    setattr(Lazy, f"__r{_name}__", _turned)
    setattr(Lazy, f"__i{_name}__", _in_place(_function))
for _name, _function in {
    "eq": "equal", "ne": "not_equal", "gt": "greater", "ge": "greater_equal", "lt": "less",
    "le": "less_equal",
}.items():  # fmt: skip
    setattr(Lazy, f"__{_name}__", _operator(_function)[0])
Lazy.__rpow__ = _operator("power")[1]  # type: ignore[attr-defined]
Lazy.__hash__ = object.__hash__  # type: ignore[method-assign]
for _name, _method in {
    "fetched": fetched, "__matmul__": matmul, "strides": property(strides_of),
    "cumsum": cumsum, "argmax": first("maximum"), "argmin": first("minimum"),
}.items():  # fmt: skip
    setattr(Lazy, _name, _method)
