"""infer_shape and infer_type as symbols offer them: keywords in, three lists out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import Any, Protocol, TypeVar

import numpy as np

from raysym.errors import MXNetError, did_you_mean, in_words, some
from raysym.graph import Entry, Graph, Node, split_variables
from raysym.passes.infer import infer_dtypes, infer_shapes
from raysym.types import DTYPE_CODES, PartialDType, PartialShape, dtype_name, is_known


class HasGraph(Protocol):
    """What inference needs of a symbol."""

    @property
    def graph(self) -> Graph:
        """Everything the outputs depend on."""

    def list_arguments(self) -> list[str]:
        """Names of the arguments."""

    def list_inputs(self) -> list[str]:
        """Names of arguments and auxiliary states."""


_Fact = TypeVar("_Fact")
Three = tuple[list[Any] | None, list[Any] | None, list[Any] | None]


def infer_shape(
    symbol: HasGraph, args: Sequence[Any], kwargs: Mapping[str, Any], *, partial: bool
) -> Three:
    """Shapes of arguments, outputs and aux states from those given by position or name."""
    graph = symbol.graph
    given = _by_name(symbol, args, kwargs, "infer_shape")
    known = _seeds(graph, {name: _as_shape(name, value) for name, value in given.items()})
    shapes = infer_shapes(graph, known)
    if not partial and not _complete(graph, lambda entry: is_known(shapes.get(entry))):
        return _undecided(graph, lambda entry: is_known(shapes.get(entry)), "infer_shape")
    return _three(graph, lambda entry: shapes.get(entry) or ())


def infer_type(
    symbol: HasGraph, args: Sequence[Any], kwargs: Mapping[str, Any], *, partial: bool
) -> Three:
    """Dtypes (numpy types) of arguments, outputs and aux states."""
    graph = symbol.graph
    given = _by_name(symbol, args, kwargs, "infer_type")
    seeds = {name: _as_dtype(value) for name, value in given.items()}
    dtypes = infer_dtypes(graph, _seeds(graph, seeds))

    def known(entry: Entry) -> bool:
        return dtypes.get(entry) is not None

    if not partial and not _complete(graph, known):
        return _undecided(graph, known, "infer_type")
    return _three(graph, lambda entry: _as_numpy(dtypes.get(entry)))


def _by_name(
    symbol: HasGraph, args: Sequence[Any], kwargs: Mapping[str, Any], what: str
) -> dict[str, Any]:
    if args and kwargs:
        raise ValueError(f"{what}: give positions or keywords, not both")
    if args:
        return dict(zip(symbol.list_arguments(), args, strict=False))
    known = symbol.list_inputs()
    for name in kwargs:
        if name not in known:
            raise MXNetError(
                f"{what}: argument {name} not found: expected one of {some(known)}. "
                f"{did_you_mean(name, known)}"
            )
    return dict(kwargs)


def _as_shape(name: str, value: Any) -> PartialShape:
    if value is None:
        return None
    if not isinstance(value, tuple):
        raise TypeError(f"infer_shape: {name}: got {value!r}, expected a tuple")
    try:
        return tuple(max(index(dim), 0) for dim in value) or None
    except TypeError:
        raise TypeError(f"infer_shape: {name}: got {value!r}, expected a tuple of ints") from None


def _as_dtype(value: Any) -> PartialDType:
    if value is None:
        return None
    name = dtype_name(value)
    return name if name in DTYPE_CODES else None


def _as_numpy(dtype: PartialDType) -> Any:
    return None if dtype is None else np.dtype(dtype).type


def _seeds(graph: Graph, given: Mapping[str, _Fact | None]) -> dict[Entry, _Fact]:
    found = {}
    for node in graph.variables():
        value = given.get(node.name)
        if value is not None:
            found[Entry(node)] = value
    return found


def _asked(graph: Graph) -> tuple[list[Entry], list[Entry], list[Entry]]:
    args, states = (list(map(Entry, nodes)) for nodes in split_variables(graph))
    return args, list(graph.outputs), states


def _complete(graph: Graph, known: Callable[[Entry], bool]) -> bool:
    return all(known(entry) for entries in _asked(graph) for entry in entries)


def _three(graph: Graph, fact: Callable[[Entry], Any]) -> Three:
    args, outs, aux = _asked(graph)
    return [fact(e) for e in args], [fact(e) for e in outs], [fact(e) for e in aux]


def _undecided(graph: Graph, known: Callable[[Entry], bool], what: str) -> Three:
    open_args = [node for node in graph.variables() if not known(Entry(node))]
    names = [_label(node) for node in open_args[:10]]
    warnings.warn(
        f"Cannot decide {what} for the following arguments (0s or None mean unknown): "
        f"{in_words(names)}",
        UserWarning,
        stacklevel=4,
    )
    return None, None, None


def _label(node: Node) -> str:
    return node.name or "(unnamed)"
