"""NDArray: numbers on a context, with MXNet's operators, views and in-place writes."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from raysym.arithmetic import Arithmetic
from raysym.calls import sort_call, split_v2_params
from raysym.chunk import Chunk
from raysym.context import Context, cpu, current_context
from raysym.convert import checked_dtype, host_array, host_view
from raysym.device import array_module, has_device, on_device, place, to_numpy
from raysym.errors import MXNetError, RuleError, sentence
from raysym.fluent import Fluent
from raysym.imperative import context_of, run_op
from raysym.indexing import covers_all, is_advanced, new_shape, plain_key, shape_argument
from raysym.inplace import InPlace
from raysym.ndarray_file import dump_array, parse_array
from raysym.op import Op, make_op
from raysym.types import Shape, TensorType

# The op that takes over when two operands differ in shape.
_BROADCAST = {
    "elemwise_add": "broadcast_add",
    "elemwise_sub": "broadcast_sub",
    "elemwise_mul": "broadcast_mul",
    "elemwise_div": "broadcast_div",
    "_mod": "broadcast_mod",
    "_power": "broadcast_power",
    "_equal": "broadcast_equal",
    "_not_equal": "broadcast_not_equal",
    "_greater": "broadcast_greater",
    "_greater_equal": "broadcast_greater_equal",
    "_lesser": "broadcast_lesser",
    "_lesser_equal": "broadcast_lesser_equal",
}


class NDArray(Arithmetic, InPlace, Fluent):
    """An array of numbers on one context.

    ``x[i]``, ``x[a:b]`` and ``x.reshape`` are views where the part is contiguous, as in MXNet:
    writing into them writes into `x`. Arrays are made by ``nd.array``, ``nd.zeros`` and by ops,
    never by calling this class.
    """

    __slots__ = ("__weakref__", "_chunk", "_view")
    __array_priority__ = 1000.0  # numpy scalars on the left leave the operation to us
    __hash__ = object.__hash__  # by identity, although == compares elements

    def __init__(self, chunk: Chunk, view: Any = None) -> None:
        self._chunk = chunk
        self._view = chunk.data if view is None else view

    # ----- what it is

    @property
    def chunk(self) -> Chunk:
        """The storage, which views share."""
        return self._chunk

    @property
    def data(self) -> Any:
        """The numpy or cupy array itself, with its newest content. Write through ``x[:]``."""
        self._chunk.read()
        return self._view

    @property
    def shape(self) -> Shape:
        """The dimensions."""
        shape: Shape = self._view.shape
        return shape

    @property
    def dtype(self) -> Any:
        """The numpy type of the elements: ``numpy.float32``."""
        return self._view.dtype.type

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self._view.size)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return int(self._view.ndim)

    @property
    def context(self) -> Context:
        """The device that holds the array."""
        return self._chunk.ctx

    ctx = context

    @property
    def stype(self) -> str:
        """Storage type; always ``default``, which is dense."""
        return "default"

    @property
    def T(self) -> NDArray:
        """A copy with all axes reversed."""
        made: NDArray = invoke("transpose", [self])
        return made

    @property
    def grad(self) -> None:
        """None: gradients of imperative code are not recorded; bind a Symbol."""

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d NDArray")
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        dims = "x".join(map(str, self.shape))
        return f"\n{self.asnumpy()}\n<NDArray {dims} @{self.context}>"

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth value of an NDArray with {self.size} elements is ambiguous"
            )
        return bool(self.asscalar())

    # ----- numbers out

    def asnumpy(self) -> np.ndarray[Any, Any]:
        """A numpy copy."""
        host = to_numpy(self.data)
        return host.copy() if host is self._view else host

    def asscalar(self) -> Any:
        """The only element as a numpy scalar; ValueError if there are more."""
        if self.size != 1:
            raise ValueError(f"asscalar: got an array of shape {self.shape}, expected one element")
        return self.asnumpy().reshape(-1)[0]

    def item(self) -> Any:
        """The only element as a Python number; ValueError if there are more."""
        return self.asscalar().item()

    def wait_to_read(self) -> None:
        """Return when the content is ready; raises what its computation raised."""
        self._chunk.wait()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            raise ValueError("an NDArray gives numpy a copy: got copy=False, expected None or True")
        return self.asnumpy().astype(dtype or self.dtype, copy=False)

    def __dlpack__(self, **kwargs: Any) -> Any:
        """Share the memory by DLPack. Writes from outside are not pushed to remote executors."""
        return self.data.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, number = self._view.__dlpack_device__()
        return int(kind), int(number)

    def to_dlpack_for_read(self) -> Any:
        """A DLPack capsule over the memory, for reading."""
        return self.__dlpack__()

    def to_dlpack_for_write(self) -> Any:
        """A DLPack capsule over the memory; later writes are not pushed to remote executors."""
        self._chunk.version += 1
        # Numpy takes capsules from before version 1.0 of the protocol for read-only.
        return self.__dlpack__(max_version=(1, 0))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (dump_array(self.asnumpy(), self.context),)

    # ----- copies

    def copy(self) -> NDArray:
        """A copy on the same context."""
        return self.copyto(self.context)

    def copyto(self, other: NDArray | Context) -> NDArray:
        """Copy into an array of the same shape (the dtype is cast), or to a new one on a context.

        Returns the target. MXNetError if the shapes differ, TypeError for other targets.
        """
        if isinstance(other, Context):
            return NDArray(Chunk(place(self.data, other), other))
        if not isinstance(other, NDArray):
            kind = type(other).__name__
            raise TypeError(f"copyto: got {kind}, expected an NDArray or a Context")
        if other.shape != self.shape:
            wrong = sentence("copyto: shape does not fit", other.shape, self.shape)
            raise MXNetError(wrong)
        if other is not self:
            other._write((), self._on(other.context))
        return other

    def as_in_context(self, context: Context) -> NDArray:
        """This array if it lives there, else a copy that does."""
        return self if context == self.context else self.copyto(context)

    def astype(self, dtype: Any, copy: bool = True) -> NDArray:
        """A copy of another dtype; itself if nothing changes and `copy` is False."""
        wanted = checked_dtype(dtype)
        if not copy and wanted == self._view.dtype:
            return self
        with on_device(self.context), np.errstate(all="ignore"):
            return NDArray(Chunk(self.data.astype(wanted, order="C"), self.context))

    def tostype(self, stype: str) -> NDArray:
        """Itself: arrays are dense here, so only ``default`` is possible."""
        if stype != "default":
            raise NotImplementedError(f"tostype: got {stype!r}, expected 'default' (dense)")
        return self

    def detach(self) -> NDArray:
        """An array that shares this one's memory."""
        return NDArray(self._chunk, self._view)

    def attach_grad(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered: gradients come from binding a Symbol."""
        raise NotImplementedError("attach_grad: imperative autograd is not offered: bind a Symbol")

    def backward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered: gradients come from `Executor.backward`."""
        raise NotImplementedError("backward: imperative autograd is not offered: bind a Symbol")

    # ----- views and writes

    def reshape(self, *shape: Any, reverse: bool = False, **kwargs: Any) -> NDArray:
        """A view of another shape, given as ints, one tuple or ``shape=``.

        Codes: 0 keeps a dimension, -1 is inferred, -2 keeps all the rest, -3 merges two, -4 splits
        one into the two that follow; `reverse` matches them from the right. MXNetError if the
        number of elements would change or the codes make no sense.
        """
        wanted = shape_argument(shape, kwargs)
        new = new_shape(self.shape, wanted, reverse)
        return NDArray(self._chunk, self._view.reshape(new))

    def __getitem__(self, key: Any) -> NDArray:
        plain = plain_key(key, self.shape)
        if is_advanced(plain):
            return self._gather(plain)
        if covers_all(plain):
            return self
        part = self._view[plain]
        if part.flags.c_contiguous:
            return NDArray(self._chunk, part)
        self._chunk.read()
        return NDArray(Chunk(part.copy(), self.context))

    def _gather(self, key: tuple[Any, ...]) -> NDArray:
        with on_device(self.context):
            return NDArray(Chunk(self.data[self._device_key(key)].copy("C"), self.context))

    def _device_key(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        xp = array_module(self.context)
        return tuple(xp.asarray(part) if isinstance(part, np.ndarray) else part for part in key)

    def __setitem__(self, key: Any, value: Any) -> None:
        plain = plain_key(key, self.shape)
        if covers_all(plain):
            plain = ()
        self._write(self._device_key(plain) if is_advanced(plain) else plain, self._cast(value))

    def _cast(self, value: Any) -> Any:
        """`value` as an array of this dtype on this context."""
        if isinstance(value, NDArray):
            return value._on(self.context)
        host = host_view(value, self._view.dtype, "NDArray[...] = value: value")
        return host if array_module(self.context) is np else place(host, self.context)

    def _write(self, key: tuple[Any, ...], value: Any) -> None:
        with on_device(self.context), np.errstate(all="ignore"):
            if value.dtype != self._view.dtype:
                value = value.astype(self._view.dtype)
            try:
                self._chunk.write(self._view, value, key)
            except ValueError as error:
                raise ValueError(f"NDArray {self.shape}[...] = {value.shape}: {error}") from None

    def _on(self, ctx: Context) -> Any:
        """The content as an array on `ctx`, without a copy if it is there."""
        return self.data if ctx == self.context else place(self.data, ctx)

    # ----- ops as methods and operators (see fluent.py and arithmetic.py)

    def _fluent(
        self, page: type[Op], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        return call(page, (self, *args), kwargs)

    def split_v2(
        self,
        indices_or_sections: int | tuple[int, ...],
        axis: int = 0,
        squeeze_axis: bool = False,
    ) -> Any:
        """Parts along `axis`: so many equal ones, or cut before the given indices."""
        params = split_v2_params(indices_or_sections, axis, squeeze_axis)
        return invoke("_split_v2", [self], params)

    def _combine(self, other: Any, hint: str, op: str, scalar_hint: str, scalar_op: str) -> NDArray:
        return self._binary(other, op, scalar_op, None)

    def _binary(self, other: Any, op: str, scalar_op: str, out: NDArray | None) -> NDArray:
        made: NDArray
        if isinstance(other, NDArray):
            name = op if other.shape == self.shape else _BROADCAST[op]
            made = invoke(name, [self, other], out=out)
            return made
        if isinstance(other, numbers.Real | np.bool_):
            made = invoke(scalar_op, [self], {"scalar": float(other)}, out=out)
            return made
        raise TypeError(f"{op}: got {type(other).__name__}, expected an NDArray or a number")

    def __abs__(self) -> NDArray:
        made: NDArray = invoke("abs", [self])
        return made


# ----- running ops


def invoke(
    op_name: str,
    inputs: Sequence[NDArray],
    params: Mapping[str, Any] | None = None,
    out: NDArray | Sequence[NDArray] | None = None,
    ctx: Context | None = None,
) -> Any:
    """Run an op at once: one NDArray, or a list of the visible outputs if there are several.

    `out` receives the results; it may be one of the inputs. `ctx` says where an op without inputs
    works. MXNetError names the op and its inputs if anything does not fit.
    """
    try:
        op = make_op(op_name, params or {})
    except RuleError as error:
        raise MXNetError(f"{op_name}: {error}") from None
    where = context_of(op, [x.context for x in inputs], ctx)
    targets = [out] if isinstance(out, NDArray) else list(out or ())
    if targets and len(targets) != op.n_visible():
        wrong = sentence("wrong number of outputs in out", len(targets), op.n_visible())
        raise MXNetError(f"{op.name}: {wrong}")
    types = tuple(TensorType(t.shape, t._view.dtype.name) for t in targets) if targets else None
    values, updates = run_op(op, [x.data for x in inputs], where, types)
    for position, value in updates.items():
        inputs[position]._write((), value)
    if targets:
        for target, value in zip(targets, values, strict=True):
            target._write((), value)
        return out
    made = [NDArray(Chunk(value, where)) for value in values]
    return made[0] if len(made) == 1 else made


def call(page: type[Op], args: Sequence[Any], kwargs: Mapping[str, Any], out: Any = None) -> Any:
    """Run the op of `page` on arguments as a user gives them (see `calls.sort_call`)."""
    inputs, params, target = sort_call(page, args, kwargs, NDArray)
    return invoke(page.name, inputs, params, out=target if out is None else out)


# ----- making arrays


def array(source_array: Any, ctx: Context | None = None, dtype: Any = None) -> NDArray:
    """A copy of anything array-like on `ctx` (default: the current context).

    The dtype is that of an NDArray source, else float32 unless `dtype` is given, also for float64
    and integer sources. TypeError if the source is no array, KeyError for a dtype that arrays
    cannot have.
    """
    where = ctx or current_context()
    if not isinstance(where, Context):
        raise TypeError(f"array: ctx: got {where!r}, expected a Context")
    if isinstance(source_array, NDArray):
        return source_array.as_in_context(where).astype(dtype or source_array.dtype)
    host = host_array(source_array, checked_dtype(dtype or np.float32), "array: source_array")
    return NDArray(Chunk(host if where.device_type != "gpu" else place(host, where), where))


def _unpickled(block: bytes) -> NDArray:
    array, ctx = parse_array(block)
    return restored(array, ctx)


def restored(array: Any, ctx: Context) -> NDArray:
    """The NDArray of stored content: on its GPU if there is one, else on cpu(0), as in MXNet."""
    if ctx.device_type == "gpu" and has_device(ctx):
        return NDArray(Chunk(place(array, ctx), ctx))
    return NDArray(Chunk(array, cpu()))
