"""MXNet's bind, simple_bind and Executor.reshape: what arguments mean and which are refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raysym.binding import REQUESTS, Arrays, Where, make_executor, split_variables, where
from raysym.context import Context, cpu
from raysym.errors import MXNetError, did_you_mean
from raysym.executor import Executor
from raysym.graph import Entry, Graph, Node
from raysym.nd.creation import zeros
from raysym.ndarray import NDArray
from raysym.passes.infer import infer_dtypes, infer_shapes, undecided_error
from raysym.planning.partition import GROUP
from raysym.types import PartialShape, TensorType, dtype_name, is_known


def bind(
    symbol: Any,
    ctx: Context,
    args: Any,
    args_grad: Any = None,
    grad_req: Any = "write",
    aux_states: Any = None,
    group2ctx: Mapping[str, Context] | None = None,
    shared_exec: Executor | None = None,
    **options: Any,
) -> Executor:
    """Bind arrays to a symbol.

    `args`: a list in `list_arguments` order or a dict by name; arrays are aliased, not copied.
    `args_grad`: likewise, may be partial; without it nothing is differentiated. `grad_req`:
    "write", "add" or "null" for all, or a list or dict of them. `aux_states`: like `args`.
    `group2ctx` maps ctx_group tags to contexts. `shared_exec` is accepted: buffers are shared by
    aliasing arrays. Options: `cluster`, `policy`, `runtime`, `threads` (see `binding.Where`).

    Raises TypeError, ValueError, KeyError or MXNetError as MXNet does.
    """
    place = where(ctx, group2ctx, options)
    arg_names, aux_names = symbol.list_arguments(), symbol.list_auxiliary_states()
    arrays = Arrays(
        _required("args", args, arg_names),
        _gradients(args_grad, arg_names),
        _required("aux_states", [] if aux_states is None else aux_states, aux_names),
    )
    requests = _requests(grad_req, arg_names)
    return make_executor(symbol, arrays, requests, place, _rebinder(requests, place))


def _required(what: str, given: Any, names: Sequence[str]) -> list[NDArray]:
    if isinstance(given, Mapping):
        missing = [name for name in names if name not in given]
        if missing:
            raise ValueError(f"bind: {what}: key '{missing[0]}' is missing: expected {names}")
        given = [given[name] for name in names]
    if not isinstance(given, list):
        raise TypeError(f"bind: {what}: got {type(given).__name__}, only accept a list or a dict")
    if len(given) != len(names):
        raise ValueError(f"bind: {what}: got {len(given)} arrays, expected {len(names)}: {names}")
    for name, array in zip(names, given, strict=True):
        if not isinstance(array, NDArray):
            kind = type(array).__name__
            raise TypeError(f"bind: {what}: '{name}': got {kind}, only accept NDArrays")
    return given


def _gradients(given: Any, names: Sequence[str]) -> list[NDArray | None]:
    if given is None:
        return [None] * len(names)
    if isinstance(given, Mapping):
        given = [given.get(name) for name in names]
    if not isinstance(given, list):
        raise TypeError(f"bind: args_grad: got {type(given).__name__}, expected a list or a dict")
    if len(given) != len(names):
        raise ValueError(f"bind: args_grad: got {len(given)} arrays, expected {len(names)}")
    for name, array in zip(names, given, strict=True):
        if array is not None and not isinstance(array, NDArray):
            raise TypeError(f"bind: args_grad: '{name}': got {type(array).__name__}")
    return given


def _requests(given: Any, names: Sequence[str]) -> list[str]:
    if isinstance(given, str):
        _check_request(given, ValueError)
        return [given] * len(names)
    if isinstance(given, Mapping):
        for request in given.values():
            _check_request(request, KeyError)
        return [given.get(name, "null") for name in names]
    if not isinstance(given, list):
        raise TypeError(f"bind: grad_req: got {given!r}, expected a string, a list or a dict")
    for request in given:
        _check_request(request, KeyError)
    if len(given) != len(names):
        raise ValueError(f"bind: grad_req: got {len(given)} requests, expected {len(names)}")
    return list(given)


def _check_request(request: Any, error: type[Exception]) -> None:
    if request not in REQUESTS:
        raise error(f"grad_req must be one of {', '.join(REQUESTS)}: got {request!r}")


# ----- simple_bind


def simple_bind(
    symbol: Any,
    ctx: Context,
    grad_req: Any = "write",
    type_dict: Mapping[str, Any] | None = None,
    stype_dict: Mapping[str, str] | None = None,
    group2ctx: Mapping[str, Context] | None = None,
    shared_arg_names: list[str] | None = None,
    shared_exec: Executor | None = None,
    shared_buffer: dict[str, NDArray] | None = None,
    **kwargs: Any,
) -> Executor:
    """Allocate zero-filled arrays from shapes given by name, and bind them.

    Every argument whose request is not "null" gets a gradient array, data and labels included.
    Arguments are float32 unless `type_dict`, a ``__dtype__`` attribute or inference says
    otherwise. `stype_dict` is accepted: all storage is dense. With a `shared_buffer`, arguments
    in `shared_arg_names` and all auxiliary states are those of `shared_exec`, and the others come
    from the buffer where it has room. Options as for `bind`.

    Raises MXNetError (a RuntimeError) when shapes or dtypes cannot be decided.
    """
    options = {key: kwargs.pop(key) for key in list(kwargs) if key in Where._fields}
    place = where(ctx, group2ctx, options)
    graph: Graph = symbol.graph
    arg_nodes, aux_nodes = split_variables(graph)
    requests = _simple_requests(grad_req, [node.name for node in arg_nodes])
    types = _simple_types(graph, arg_nodes, kwargs, type_dict)
    pool = _Pool(shared_arg_names, shared_exec, shared_buffer)
    args, grads = [], []
    for node, request in zip(arg_nodes, requests, strict=True):
        ctx_of = _context(node, place)
        args.append(pool.argument(node.name, types[Entry(node)], ctx_of))
        wants = request != "null"
        grads.append(pool.gradient(node.name, types[Entry(node)], ctx_of) if wants else None)
    aux = [pool.state(node.name, types[Entry(node)], _context(node, place)) for node in aux_nodes]
    arrays = Arrays(args, grads, aux)
    return make_executor(symbol, arrays, requests, place, _rebinder(requests, place))


def _context(node: Node, place: Where) -> Context:
    if place.is_remote:  # the driver's side of a remote array is in host memory
        return cpu()
    return place.group2ctx.get(node.attrs.get(GROUP, ""), place.ctx)


def _simple_requests(given: Any, names: Sequence[str]) -> list[str]:
    if given is None:
        return ["null"] * len(names)
    if isinstance(given, (list, Mapping)) and not given:
        raise MXNetError("simple_bind: grad_req: got nothing, expected requests")
    try:
        return _requests(given, names)
    except (ValueError, KeyError, TypeError) as error:
        raise MXNetError(f"simple_bind: {error}") from None


def _simple_types(
    graph: Graph,
    arg_nodes: Sequence[Node],
    shapes: Mapping[str, Any],
    type_dict: Mapping[str, Any] | None,
) -> dict[Entry, TensorType]:
    try:
        return _infer_simple(graph, arg_nodes, shapes, type_dict)
    except MXNetError as error:
        given = "\n".join(f"{name}: {shape}" for name, shape in shapes.items())
        raise MXNetError(f"simple_bind error. Arguments:\n{given}\n{error}") from None


def _infer_simple(
    graph: Graph,
    arg_nodes: Sequence[Node],
    shapes: Mapping[str, Any],
    type_dict: Mapping[str, Any] | None,
) -> dict[Entry, TensorType]:
    known = _known_shapes(graph, shapes)
    found = infer_shapes(graph, known)
    dtypes = infer_dtypes(graph, _known_dtypes(arg_nodes, type_dict))
    while True:  # what nothing decides is float32, one argument after the other
        open_args = [Entry(node) for node in arg_nodes if dtypes.get(Entry(node)) is None]
        if not open_args:
            break
        dtypes = infer_dtypes(graph, {**dtypes, open_args[0]: "float32"})
    entries = [Entry(node) for node in graph.variables()]
    undecided = [e for e in entries if not is_known(found.get(e)) or dtypes.get(e) is None]
    if undecided:
        raise undecided_error(graph, undecided, found, dtypes)
    return {e: TensorType(found[e] or (), str(dtypes[e])) for e in entries}


def _known_shapes(graph: Graph, shapes: Mapping[str, Any]) -> dict[Entry, PartialShape]:
    names = [node.name for node in graph.variables()]
    for name in shapes:
        guess = did_you_mean(name, names)
        if name not in names and guess:
            warnings.warn(
                f"simple_bind: '{name}' is no argument and is ignored. {guess}",
                UserWarning,
                stacklevel=6,
            )
    return {
        Entry(node): tuple(max(int(dim), 0) for dim in shapes[node.name]) or None
        for node in graph.variables()
        if isinstance(shapes.get(node.name), tuple)
    }


def _known_dtypes(
    arg_nodes: Sequence[Node], type_dict: Mapping[str, Any] | None
) -> dict[Entry, str | None]:
    if type_dict is None:
        return {Entry(node): "float32" for node in arg_nodes if "__dtype__" not in node.attrs}
    return {
        Entry(node): dtype_name(type_dict[node.name])
        for node in arg_nodes
        if node.name in type_dict
    }


class _Pool:
    """Arrays to reuse: those of a shared executor, and a buffer by name."""

    def __init__(
        self,
        names: list[str] | None,
        shared: Executor | None,
        buffer: dict[str, NDArray] | None,
    ) -> None:
        if names is not None and not isinstance(names, list):
            raise ValueError(f"shared_arg_names: got {names!r}, expected a list")
        self._names = names or []
        self._shared = shared if buffer is not None else None
        self._buffer = buffer

    def argument(self, name: str, kind: TensorType, ctx: Context) -> NDArray:
        if self._shared is not None and name in self._names:
            return _fitting(self._shared.arg_dict[name], name, kind)
        return self._pooled(name, kind, ctx)

    def gradient(self, name: str, kind: TensorType, ctx: Context) -> NDArray:
        if self._shared is not None and name in self._names:
            shared = self._shared.grad_dict[name]
            return zeros(kind.shape, ctx, kind.dtype) if shared is None else shared
        return self._pooled(f"grad of {name}", kind, ctx)

    def state(self, name: str, kind: TensorType, ctx: Context) -> NDArray:
        if self._shared is not None:
            return _fitting(self._shared.aux_dict[name], name, kind)
        return zeros(kind.shape, ctx, kind.dtype)

    def _pooled(self, name: str, kind: TensorType, ctx: Context) -> NDArray:
        held = (self._buffer or {}).get(name)
        if held is not None and held.size >= kind.size and np.dtype(held.dtype) == kind.dtype:
            return first_elements(held, kind)
        if held is not None:
            warnings.warn(
                f"simple_bind: shared_buffer's '{name}' {held.shape} has no room for {kind}",
                UserWarning,
                stacklevel=5,
            )
        made = zeros(kind.shape, ctx, kind.dtype)
        if self._buffer is not None:
            self._buffer[name] = made
        return made


def _fitting(array: NDArray, name: str, kind: TensorType) -> NDArray:
    if array.shape != kind.shape or np.dtype(array.dtype).name != kind.dtype:
        raise MXNetError(
            f"simple_bind: shared array '{name}': got {array.shape} {array.dtype.__name__}, "
            f"expected {kind}"
        )
    return array


def first_elements(array: NDArray, kind: TensorType) -> NDArray:
    """A view of the first elements of `array` in another shape."""
    if array.shape == kind.shape:
        return array
    return array.reshape((-1,))[: kind.size].reshape(kind.shape)


# ----- reshape


def _rebinder(requests: Sequence[str], place: Where) -> Any:
    def rebind(
        old: Executor, shapes: Mapping[str, PartialShape], partial: bool, up_sizing: bool
    ) -> Executor:
        return _reshape(old, requests, place, shapes, partial, up_sizing)

    return rebind


def _reshape(
    old: Executor,
    requests: Sequence[str],
    place: Where,
    shapes: Mapping[str, PartialShape],
    partial: bool,
    up_sizing: bool,
) -> Executor:
    symbol = old.symbol
    graph: Graph = symbol.graph
    arg_nodes, aux_nodes = split_variables(graph)
    if not shapes:
        raise MXNetError("reshape: no shapes were given: expected name=(dims), as in simple_bind")
    known = _known_shapes(graph, shapes)
    found = infer_shapes(graph, known)

    def fit(node: Node, array: NDArray | None) -> NDArray | None:
        if array is None:
            return None
        shape = found.get(Entry(node))
        if shape is None or not is_known(shape):
            raise undecided_error(graph, [Entry(node)], found, {})
        kind = TensorType(shape, np.dtype(array.dtype).name)
        if kind.shape != array.shape and node.name not in shapes and not partial:
            raise MXNetError(
                f"reshape: '{node.name}' changes from {array.shape} to {kind.shape} but was not "
                "named: name it or set partial_shaping=True"
            )
        if kind.size <= array.size:
            return first_elements(array, kind)
        if not up_sizing:
            raise MXNetError(
                f"reshape: '{node.name}' grows from {array.shape} to {kind.shape}: "
                "set allow_up_sizing=True to allocate it anew"
            )
        return zeros(kind.shape, array.context, kind.dtype)

    args = [fit(n, a) for n, a in zip(arg_nodes, old.arg_arrays, strict=True)]
    grads = [fit(n, g) for n, g in zip(arg_nodes, old.grad_arrays, strict=True)]
    aux = [fit(n, a) for n, a in zip(aux_nodes, old.aux_arrays, strict=True)]
    arrays = Arrays([a for a in args if a is not None], grads, [a for a in aux if a is not None])
    return make_executor(symbol, arrays, requests, place, _rebinder(requests, place))
