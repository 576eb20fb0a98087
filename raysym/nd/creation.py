"""Making arrays: zeros, ones, full, arange, linspace, eye, empty, and from foreign memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from raysym.chunk import Chunk
from raysym.context import Context, cpu, current_context
from raysym.convert import checked_dtype, host_row, host_zeros
from raysym.device import import_dlpack, place
from raysym.errors import MXNetError, sentence
from raysym.ndarray import NDArray, array, invoke
from raysym.types import TensorType


def zeros(
    shape: int | Sequence[int],
    ctx: Context | None = None,
    dtype: Any = None,
    stype: str | None = None,
    out: NDArray | None = None,
) -> NDArray:
    """An array of zeros, float32 unless `dtype` is given."""
    _check_stype("zeros", stype)
    return _filled("_zeros", shape, ctx, dtype, out)


def ones(
    shape: int | Sequence[int],
    ctx: Context | None = None,
    dtype: Any = None,
    out: NDArray | None = None,
) -> NDArray:
    """An array of ones, float32 unless `dtype` is given."""
    return _filled("_ones", shape, ctx, dtype, out)


def full(
    shape: int | Sequence[int],
    val: float,
    ctx: Context | None = None,
    dtype: Any = None,
    out: NDArray | None = None,
) -> NDArray:
    """An array filled with `val`, float32 unless `dtype` is given."""
    made = _filled("_zeros", shape, ctx, dtype, out)
    made[:] = val
    return made


def empty(
    shape: int | Sequence[int],
    ctx: Context | None = None,
    dtype: Any = None,
    stype: str | None = None,
) -> NDArray:
    """An array to be filled. It holds zeros, so that nothing depends on old memory."""
    return zeros(shape, ctx, dtype, stype)


def _filled(
    op: str,
    shape: int | Sequence[int],
    ctx: Context | None,
    dtype: Any,
    out: NDArray | None,
) -> NDArray:
    dims = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    if any(dim <= 0 for dim in dims):
        wrong = sentence("every dimension must be at least 1", dims)
        raise MXNetError(f"nd.{op.strip('_')}: {wrong}")
    kind = checked_dtype(dtype or np.float32).name
    where = current_context() if ctx is None else ctx
    if out is None and all(map(_is_whole, dims)) and _is_host(where):
        host = host_zeros(dims, kind)  # where kernels find it best
        if op == "_ones":
            host.fill(1)
        return NDArray(Chunk(host, where))
    made: NDArray = invoke(op, [], {"shape": dims, "dtype": kind}, out=out, ctx=ctx)
    return made


def zeros_in_a_row(
    kinds: Sequence[TensorType], contexts: Sequence[Context]
) -> list[Callable[[], NDArray]]:
    """What makes zeros of each type: side by side in host memory, those on GPUs each by itself."""

    def maker(kind: TensorType, memory: Any, ctx: Context) -> Callable[[], NDArray]:
        if _is_host(ctx):
            return partial(NDArray, Chunk(memory, ctx))
        return partial(zeros, kind.shape, ctx, kind.dtype)

    return list(map(maker, kinds, host_row(kinds), contexts))


def _is_whole(dim: Any) -> bool:
    return isinstance(dim, int | np.integer)


def _is_host(where: Any) -> bool:
    return isinstance(where, Context) and where.device_type != "gpu"


def _check_stype(name: str, stype: str | None) -> None:
    if stype not in (None, "default"):
        raise NotImplementedError(f"nd.{name}: stype: got {stype!r}, expected 'default'")


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1.0,
    repeat: int = 1,
    infer_range: bool | None = None,
    ctx: Context | None = None,
    dtype: Any = None,
) -> NDArray:
    """Numbers from `start` (or 0) up to `stop`, exclusive, each repeated `repeat` times.

    `infer_range` is accepted for compatibility: an array made at once has no length to infer.
    """
    params = {"start": start, "stop": stop, "step": step, "repeat": repeat}
    return _ranged("_arange", params, ctx, dtype)


def linspace(
    start: float,
    stop: float,
    num: int,
    endpoint: bool = True,
    ctx: Context | None = None,
    dtype: Any = None,
) -> NDArray:
    """`num` evenly spaced numbers from `start` to `stop`, which is one of them if `endpoint`."""
    params = {"start": start, "stop": stop, "num": num, "endpoint": endpoint}
    return _ranged("_linspace", params, ctx, dtype)


def eye(
    N: int,
    M: int = 0,
    k: int = 0,
    ctx: Context | None = None,
    dtype: Any = None,
) -> NDArray:
    """Ones on the `k`-th diagonal of an N x M matrix (M = 0: square), zeros elsewhere."""
    return _ranged("_eye", {"N": N, "M": M, "k": k}, ctx, dtype)


def _ranged(op: str, params: dict[str, Any], ctx: Context | None, dtype: Any) -> NDArray:
    params["dtype"] = checked_dtype(dtype or np.float32).name
    made: NDArray = invoke(op, [], params, ctx=ctx)
    return made


# ----- foreign memory


def from_numpy(ndarray: np.ndarray[Any, Any], zero_copy: bool = True) -> NDArray:
    """An array over the memory of `ndarray`, which becomes read-only; or a copy of it.

    ValueError if it is not C-contiguous, KeyError for a dtype that arrays cannot have.
    """
    checked_dtype(ndarray.dtype)
    if not zero_copy:
        return array(ndarray, cpu(), ndarray.dtype)
    if not ndarray.flags.c_contiguous:
        raise ValueError("from_numpy: got a strided array, expected a C-contiguous one")
    ours = ndarray.view()
    ndarray.flags.writeable = False
    return NDArray(Chunk(ours, cpu()))


class _Capsule:
    """A bare DLPack capsule in the form that array libraries take: a host array."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def from_dlpack(dlpack: Any) -> NDArray:
    """An array over the memory of anything that speaks DLPack, or of a capsule of host memory.

    Read-only or strided memory is copied.
    """
    source = dlpack if hasattr(dlpack, "__dlpack__") else _Capsule(dlpack)
    data, ctx = import_dlpack(source)
    checked_dtype(data.dtype)
    if not (data.flags.c_contiguous and getattr(data.flags, "writeable", True)):
        data = place(data, ctx)
    return NDArray(Chunk(data, ctx))


def to_dlpack_for_read(data: NDArray) -> Any:
    """A DLPack capsule over the memory of `data`, for reading."""
    return data.to_dlpack_for_read()


def to_dlpack_for_write(data: NDArray) -> Any:
    """A DLPack capsule over the memory of `data`; later writes are not pushed to workers."""
    return data.to_dlpack_for_write()


__all__ = [
    "arange",
    "array",
    "empty",
    "eye",
    "from_dlpack",
    "from_numpy",
    "full",
    "linspace",
    "ones",
    "to_dlpack_for_read",
    "to_dlpack_for_write",
    "zeros",
]
