"""Operators of one's own, written in Python: subclass `CustomOp` and `CustomOpProp`, then register.

``mx.sym.Custom(data, op_type="mine")`` and ``mx.nd.Custom`` use what
``@mx.operator.register("mine")`` made known. They see their arrays as NDArrays.
"""

from __future__ import annotations

from typing import Any

from raysym.chunk import Chunk
from raysym.context import Context, cpu
from raysym.ndarray import NDArray
from raysym.ops.user_op import PROPS, CustomOp, CustomOpProp, register, set_wrapper


def get_all_registered_operators() -> list[str]:
    """Names under which property classes are registered."""
    return list(PROPS)


def _as_ndarray(array: Any) -> NDArray:
    """An NDArray over the memory of a numpy or cupy array."""
    device: Any = getattr(array, "device", "cpu")
    ctx = cpu() if device == "cpu" else Context("gpu", device.id)
    return NDArray(Chunk(array, ctx))


set_wrapper(_as_ndarray)

__all__ = ["CustomOp", "CustomOpProp", "get_all_registered_operators", "register"]
