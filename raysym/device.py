"""The one door to CuPy: which array library a context computes with, and moves between them."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import numpy as np

from raysym.context import Context
from raysym.convert import host_copy, host_row
from raysym.errors import MXNetError
from raysym.types import TensorType


def array_module(ctx: Context) -> Any:
    """numpy for a CPU context, cupy for a GPU; MXNetError where there is no such device."""
    if ctx.device_type != "gpu":
        return np
    cupy = _cupy()
    if cupy is None:
        raise MXNetError(
            f"{ctx}: CuPy is not installed. Install raysym[cuda12] or raysym[cuda13], or use cpu()"
        )
    count = num_gpus()
    if ctx.device_id >= count:
        found = f"only {count} CUDA devices" if count else "no CUDA device"
        raise MXNetError(f"{ctx}: {found} on this machine")
    return cupy


def has_device(ctx: Context) -> bool:
    """Whether arrays can live on `ctx` in this process."""
    return ctx.device_type != "gpu" or ctx.device_id < num_gpus()


def on_device(ctx: Context) -> AbstractContextManager[Any]:
    """A block in which new cupy arrays are made on the GPU of `ctx`; nothing on a CPU."""
    if ctx.device_type != "gpu":
        return contextlib.nullcontext()
    device: AbstractContextManager[Any] = array_module(ctx).cuda.Device(ctx.device_id)
    return device


def to_numpy(array: Any) -> np.ndarray[Any, Any]:
    """The array in host memory: itself if it is there already."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.get())


def to_pinned(array: Any) -> np.ndarray[Any, Any]:
    """A copy of a cupy array in page-locked memory, which the device fills without the processor.

    The memory comes from CuPy's pool and goes back when the copy is gone. (The way in needs no
    such thing: `cupy.array` stages in page-locked memory by itself.)
    """
    memory = _cupy().cuda.alloc_pinned_memory(max(array.nbytes, 1))
    made = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    if array.size:
        array.get(out=made)
    return made


def place(array: Any, ctx: Context) -> Any:
    """A C-contiguous copy of a numpy or cupy array in the memory of `ctx`, owned by it."""
    xp = array_module(ctx)
    if xp is np:
        return host_copy(to_numpy(array))
    with on_device(ctx):
        return xp.array(array, order="C", copy=True)


def place_row(arrays: Mapping[str, Any], ctx: Context) -> dict[str, Any]:
    """Copies as `place` makes them; in host memory they follow each other in one block."""
    if array_module(ctx) is not np:
        return {name: place(array, ctx) for name, array in arrays.items()}
    kinds = [TensorType(tuple(array.shape), str(array.dtype)) for array in arrays.values()]
    row = dict(zip(arrays, host_row(kinds), strict=True))
    for name, array in arrays.items():
        row[name][...] = to_numpy(array)
    return row


def import_dlpack(source: Any) -> tuple[Any, Context]:
    """An array over the memory that `source` exports by DLPack, and the context it lives on."""
    kind, number = source.__dlpack_device__()
    ctx = Context("gpu", number) if int(kind) == _DLPACK_CUDA else Context("cpu")
    return array_module(ctx).from_dlpack(source), ctx


_DLPACK_CUDA = 2


@lru_cache(maxsize=1)
def _cupy() -> Any:
    try:
        return importlib.import_module("cupy")
    except ImportError:
        return None


@lru_cache(maxsize=1)
def num_gpus() -> int:
    """Number of CUDA devices that CuPy finds; 0 where there is no CuPy or no driver."""
    cupy = _cupy()
    if cupy is None:
        return 0
    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:  # a machine without a driver
        return 0
