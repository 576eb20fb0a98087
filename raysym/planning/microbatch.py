"""Micro-batches: which axis of each array is the batch, and the bound graph of one micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from raysym.errors import MXNetError, PlanError, in_words
from raysym.graph import Entry, Node
from raysym.passes.infer import infer
from raysym.planning.step import Bound
from raysym.types import TensorType

_LAYOUT = "__layout__"


@dataclass(frozen=True)
class Batches:
    """How a bound graph is cut into micro-batches.

    ``axes``: the batch axis of each resident entry that has one: data, labels, outputs, head
    gradients, and gradients of data. All others are parameters and states, shared by all.
    """

    n: int
    bound: Bound  # of one micro-batch
    axes: Mapping[str, int]


def split_batch(bound: Bound, n: int, given: Mapping[str, int] | None = None) -> Batches:
    """Cut the batch into `n` equal parts along the axes of data and labels.

    Without `given`, these are the arguments called "data" or "...data" or "...label", or with an
    ``N`` in their ``__layout__``. PlanError when there are none, or when `n` does not divide them.
    """
    if n == 1:
        return Batches(1, bound, {})
    axes = _argument_axes(bound, given)
    known = dict(bound.known)
    for node, axis in axes.items():
        known[Entry(node)] = _part(bound.names[node], known[Entry(node)], axis, n)
    micro = replace(bound, known=known, types=infer(bound.graph, known))
    found = {bound.names[node]: axis for node, axis in axes.items()}
    found.update({f"grad:{name}": axis for name, axis in list(found.items())})
    for i, entry in enumerate(bound.graph.outputs):
        if not entry.node.is_variable:
            axis = _output_axis(bound.names[entry.node], bound.types[entry], micro.types[entry], n)
            found[f"output:{i}"] = found[f"head_grad:{i}"] = axis
    return Batches(n, micro, found)


def _argument_axes(bound: Bound, given: Mapping[str, int] | None) -> dict[Node, int]:
    by_name = {name: node for node, name in bound.names.items() if node.is_variable}
    if given is not None:
        unknown = [name for name in given if name not in by_name]
        if unknown:
            raise PlanError(f"batch_axes: got '{unknown[0]}', expected names among {list(by_name)}")
        return {by_name[name]: axis for name, axis in given.items()}
    axes = {node: _default_axis(name, node) for name, node in by_name.items()}
    found = {node: axis for node, axis in axes.items() if axis is not None}
    if not found:
        raise PlanError(
            f"micro_batches: no data or label among the arguments {in_words(list(by_name))}: "
            "name the batch axis of each with batch_axes={'x': 0}"
        )
    return found


def _default_axis(name: str, node: Node) -> int | None:
    layout = node.attrs.get(_LAYOUT, "")
    if "N" in layout:
        return layout.index("N")
    return 0 if name.endswith(("data", "label")) else None


def _part(name: str, kind: TensorType, axis: int, n: int) -> TensorType:
    if not 0 <= axis < len(kind.shape) or kind.shape[axis] % n:
        raise PlanError(f"micro_batches={n}: '{name}' is {kind}: cannot be cut along axis {axis}")
    shape = (*kind.shape[:axis], kind.shape[axis] // n, *kind.shape[axis + 1 :])
    return TensorType(shape, kind.dtype)


def _output_axis(name: str, whole: TensorType, part: TensorType, n: int) -> int:
    """The one axis that shrank with the batch."""
    pairs = list(zip(whole.shape, part.shape, strict=True))
    changed = [i for i, (a, b) in enumerate(pairs) if a != b]
    if len(changed) != 1 or pairs[changed[0]][0] != n * pairs[changed[0]][1]:
        raise MXNetError(
            f"micro_batches={n}: output '{name}' is {whole} for the batch and {part} for a "
            "micro-batch: got no batch axis to gather along, expected one"
        )
    return changed[0]
