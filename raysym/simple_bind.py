"""Binding arrays that are allocated from shapes, and taken from other executors where asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from raysym.bind import requests_of
from raysym.binding import Arrays, Where, make_executor, type_of, where
from raysym.context import Context, cpu
from raysym.errors import MXNetError, did_you_mean, sentence
from raysym.executor import Executor
from raysym.graph import Entry, Graph, Node, split_variables
from raysym.names import GROUP
from raysym.nd.creation import zeros_in_a_row
from raysym.ndarray import NDArray
from raysym.passes.infer import infer_dtypes, infer_shapes, undecided_error
from raysym.rebind import first_elements, known_shapes, rebinder
from raysym.types import TensorType, dtype_name, is_known


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
    from the buffer where it has room. Names that the symbol does not have are ignored. Options as
    for `bind`.

    Raises MXNetError (a RuntimeError) when shapes or dtypes cannot be decided.
    """
    options = {key: kwargs.pop(key) for key in list(kwargs) if key in Where._fields}
    place = where(ctx, group2ctx, options)
    graph: Graph = symbol.graph
    arg_nodes, aux_nodes = split_variables(graph)
    requests = _simple_requests(grad_req, [node.name for node in arg_nodes])
    types = simple_types(graph, arg_nodes, kwargs, type_dict)
    pool = _Pool(shared_arg_names, shared_exec, shared_buffer)
    trained = [n for n, request in zip(arg_nodes, requests, strict=True) if request != "null"]
    given, asked, kept = (_news(row, types, place) for row in (arg_nodes, trained, aux_nodes))
    args = [pool.argument(new) for new in given]
    grad_of = dict(zip(trained, map(pool.gradient, asked), strict=True))
    grads = [grad_of.get(node) for node in arg_nodes]
    arrays = Arrays(args, grads, [pool.state(new) for new in kept])
    return make_executor(symbol, arrays, requests, place, rebinder(requests, place))


class _New(NamedTuple):
    """An array that may have to be made, in a row with its like."""

    name: str
    kind: TensorType
    make: Callable[[], NDArray]


def _news(nodes: Sequence[Node], types: Mapping[Entry, TensorType], place: Where) -> list[_New]:
    kinds = [types[Entry(node)] for node in nodes]
    makers = zeros_in_a_row(kinds, [_context(node, place) for node in nodes])
    return list(map(_New, [node.name for node in nodes], kinds, makers))


def _context(node: Node, place: Where) -> Context:
    if place.is_remote:  # the driver's side of a remote array is in host memory
        return cpu()
    return place.group2ctx.get(node.attrs.get(GROUP, ""), place.ctx)


def _simple_requests(given: Any, names: Sequence[str]) -> list[str]:
    if given is None:
        return ["null"] * len(names)
    if isinstance(given, (list, Mapping)) and not given:
        wanted = "a request for some argument"
        raise MXNetError(sentence("simple_bind: grad_req: nothing requested", given, wanted))
    try:
        return requests_of(given, names)
    except (ValueError, KeyError, TypeError) as error:
        raise MXNetError(f"simple_bind: {error.args[0]}") from None


# ----- types


def simple_types(
    graph: Graph,
    arg_nodes: Sequence[Node],
    shapes: Mapping[str, Any],
    type_dict: Mapping[str, Any] | None,
) -> dict[Entry, TensorType]:
    """The type of every variable; MXNetError, naming what was given, when one stays undecided."""
    try:
        return _infer_simple(graph, arg_nodes, shapes, type_dict)
    except MXNetError as error:
        given = ", ".join(f"{name}: {shape}" for name, shape in shapes.items()) or "none"
        lines = [str(error), f"  simple_bind error. Arguments: {given}", *_misspelt(graph, shapes)]
        raise MXNetError("\n".join(lines)) from None


def _misspelt(graph: Graph, shapes: Mapping[str, Any]) -> Iterator[str]:
    names = [node.name for node in graph.variables()]
    for name in shapes:
        guess = did_you_mean(name, names)
        if name not in names and guess:
            yield f"  '{name}' is no argument. {guess}"


def _infer_simple(
    graph: Graph,
    arg_nodes: Sequence[Node],
    shapes: Mapping[str, Any],
    type_dict: Mapping[str, Any] | None,
) -> dict[Entry, TensorType]:
    found = infer_shapes(graph, known_shapes(graph, shapes))
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


# ----- arrays


class _Pool:
    """Arrays to reuse: of a shared executor those named, from a buffer by name all others."""

    def __init__(
        self,
        names: list[str] | None,
        shared: Executor | None,
        buffer: dict[str, NDArray] | None,
    ) -> None:
        if names is not None and not isinstance(names, list):
            raise ValueError(sentence("simple_bind: shared_arg_names", repr(names), "a list"))
        self._names = names or []
        self._shared = shared if buffer is not None else None
        self._buffer = buffer

    def argument(self, new: _New) -> NDArray:
        if new.name not in self._names:
            return self._pooled(new.name, new)
        if self._shared is None:
            return new.make()
        return _fitting(self._shared.arg_dict[new.name], new)

    def gradient(self, new: _New) -> NDArray:
        if new.name not in self._names:
            return self._pooled(f"grad of {new.name}", new)
        grads = self._shared.grad_dict if self._shared and self._shared.grad_arrays else {}
        shared = grads.get(new.name)
        return new.make() if shared is None else shared

    def state(self, new: _New) -> NDArray:
        shared = self._shared
        return new.make() if shared is None else _fitting(shared.aux_dict[new.name], new)

    def _pooled(self, name: str, new: _New) -> NDArray:
        kind, held = new.kind, (self._buffer or {}).get(name)
        if held is not None and held.size >= kind.size and np.dtype(held.dtype) == kind.dtype:
            return first_elements(held, kind)
        if held is not None:
            warnings.warn(
                f"simple_bind: shared_buffer's '{name}' {held.shape} has no room for {kind}",
                UserWarning,
                stacklevel=5,
            )
        made = new.make()
        if self._buffer is not None:
            self._buffer[name] = made
        return made


def _fitting(array: NDArray, new: _New) -> NDArray:
    if type_of(array) != new.kind:
        what = f"simple_bind: shared array '{new.name}' does not fit"
        raise MXNetError(sentence(what, type_of(array), new.kind))
    return array
