"""Binding given arrays to a symbol: what the arguments of `bind` mean and which are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysym.binding import REQUESTS, Arrays, make_executor, where
from raysym.context import Context
from raysym.errors import did_you_mean, sentence, some
from raysym.executor import Executor
from raysym.graph import Node, node_text, split_variables
from raysym.ndarray import NDArray
from raysym.rebind import rebinder


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

    TypeError for what is no list, dict, NDArray or Context; ValueError for a missing key, a wrong
    number of arrays or an unknown request, KeyError for one inside a list or dict; MXNetError for
    shapes, dtypes, contexts and groups that do not fit.
    """
    place = where(ctx, group2ctx, options)
    arg_nodes, aux_nodes = split_variables(symbol.graph)
    arrays = Arrays(
        _required("args", args, arg_nodes),
        _gradients(args_grad, arg_nodes),
        _required("aux_states", [] if aux_states is None else aux_states, aux_nodes),
    )
    requests = requests_of(grad_req, [node.name for node in arg_nodes])
    return make_executor(symbol, arrays, requests, place, rebinder(requests, place))


def _required(what: str, given: Any, nodes: Sequence[Node]) -> list[NDArray]:
    if isinstance(given, Mapping):
        given = [_looked_up(what, given, node) for node in nodes]
    _check_list(what, given, nodes)
    for node, array in zip(nodes, given, strict=True):
        if not isinstance(array, NDArray):
            raise TypeError(_wrong_kind(what, node, array))
    return list(given)


def _looked_up(what: str, given: Mapping[str, Any], node: Node) -> Any:
    if node.name not in given:
        fix = did_you_mean(node.name, given)
        wrong = sentence(
            f"bind: {what}: key is missing", f"keys {some(list(given)) or 'none'}", node.name, fix
        )
        raise ValueError(node_text(node, wrong))
    return given[node.name]


def _check_list(what: str, given: Any, nodes: Sequence[Node]) -> None:
    if not isinstance(given, list):
        kind = type(given).__name__
        raise TypeError(sentence(f"bind: {what}: only accept a list or a dict", kind, "one"))
    if len(given) != len(nodes):
        wanted = f"{len(nodes)}: {some([node.name for node in nodes]) or 'none'}"
        raise ValueError(sentence(f"bind: {what}: wrong number of arrays", len(given), wanted))


def _wrong_kind(what: str, node: Node, array: Any) -> str:
    wrong = sentence(f"bind: {what}: only accept NDArrays", type(array).__name__, "an NDArray")
    return node_text(node, wrong)


def _gradients(given: Any, nodes: Sequence[Node]) -> list[NDArray | None] | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        given = [given.get(node.name) for node in nodes]
    _check_list("args_grad", given, nodes)
    for node, array in zip(nodes, given, strict=True):
        if array is not None and not isinstance(array, NDArray):
            raise TypeError(_wrong_kind("args_grad", node, array))
    return list(given)


def requests_of(given: Any, names: Sequence[str]) -> list[str]:
    """One of "null", "write" and "add" for every name, from a string, a list or a dict."""
    if isinstance(given, str):
        _check_request(given, ValueError)
        return [given] * len(names)
    if isinstance(given, Mapping):
        for request in given.values():
            _check_request(request, KeyError)
        return [given.get(name, "null") for name in names]
    if not isinstance(given, list):
        wanted = "a string, a list or a dict"
        raise TypeError(sentence("grad_req: wrong type", repr(given), wanted))
    for request in given:
        _check_request(request, KeyError)
    if len(given) != len(names):
        wanted = f"{len(names)}: {some(names)}"
        raise ValueError(sentence("grad_req: wrong number of requests", len(given), wanted))
    return list(given)


def _check_request(request: Any, error: type[Exception]) -> None:
    if request not in REQUESTS:
        wanted = f"one of {', '.join(REQUESTS)}"
        raise error(sentence("grad_req: unknown request", repr(request), wanted))
