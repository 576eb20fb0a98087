"""Micro-batches: which axis of each array is the batch, and the bound graph of one micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raysym.errors import MXNetError, PlanError, did_you_mean, in_words, sentence
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


def split_batch(bound: Bound, n: int, given: Mapping[str, int | None] | None, what: str) -> Batches:
    """Cut the batch into `n` equal parts along the axes of data and labels.

    Without `given`, these are the arguments called "...data" or "...label" along axis 0, and those
    with an ``N`` in their ``__layout__``, such as "TNC", along that axis. `given` changes or adds
    the axes of arguments by name; None takes one out: it is read whole by every part. PlanError
    when there are none, when `n` does not divide them, or when the parts do not fit together.
    `what` asks for the parts, in messages.
    """
    axes = _argument_axes(bound, given)
    if not axes and n > 1:
        names = in_words([name for node, name in bound.names.items() if node.is_variable])
        raise PlanError(
            f"micro_batches: no data or label among the arguments {names}: "
            "name the batch axis of each with batch_axes={'x': 0}"
        )
    found = {bound.names[node]: axis for node, axis in axes.items()}
    found.update({f"grad:{name}": axis for name, axis in list(found.items())})
    if n == 1:
        return Batches(1, bound, found)
    known = dict(bound.known)
    for node, axis in axes.items():
        known[Entry(node)] = _part(what, bound.names[node], known[Entry(node)], axis, n)
    micro = replace(bound, known=known, types=_infer_part(what, bound, known, axes))
    for i, entry in enumerate(bound.graph.outputs):
        if not entry.node.is_variable:
            name = bound.names[entry.node]
            axis = _output_axis(what, name, bound.types[entry], micro.types[entry], n)
            found[f"output:{i}"] = found[f"head_grad:{i}"] = axis
    return Batches(n, micro, found)


def _argument_axes(bound: Bound, given: Mapping[str, int | None] | None) -> dict[Node, int]:
    if given is not None:
        _check_axes(given)
    by_name = {name: node for node, name in bound.names.items() if node.is_variable}
    unknown = [name for name in given or {} if name not in by_name]
    if unknown:
        wanted, fix = f"one of {in_words(by_name)}", did_you_mean(unknown[0], by_name)
        raise PlanError(sentence("batch_axes: no such argument", repr(unknown[0]), wanted, fix))
    axes = {name: _default_axis(name, node) for name, node in by_name.items()} | dict(given or {})
    return {by_name[name]: axis for name, axis in axes.items() if axis is not None}


def _check_axes(given: Any) -> None:
    is_mapping = isinstance(given, Mapping)
    if not is_mapping or not all(_is_axis(*item) for item in given.items()):
        wanted = "a dict from names of arguments to axes or None"
        raise PlanError(sentence("batch_axes", repr(given), wanted))


def _is_axis(name: Any, axis: Any) -> bool:
    is_number = isinstance(axis, int) and not isinstance(axis, bool)
    return isinstance(name, str) and (axis is None or is_number)


def _default_axis(name: str, node: Node) -> int | None:
    layout = node.attrs.get(_LAYOUT, "")
    if "N" in layout:
        return layout.index("N")
    return 0 if name.endswith(("data", "label")) else None


def _part(what: str, name: str, kind: TensorType, axis: int, n: int) -> TensorType:
    where = f"{what}: '{name}' is {kind}: batch axis"
    if not 0 <= axis < len(kind.shape):
        raise PlanError(
            sentence(where, axis, f"one of {in_words(map(str, range(len(kind.shape))))}")
        )
    if kind.shape[axis] % n:
        rows = f"{kind.shape[axis]} rows along axis {axis}"
        raise PlanError(sentence(where, rows, f"a multiple of {n}, since all parts are equal"))
    shape = (*kind.shape[:axis], kind.shape[axis] // n, *kind.shape[axis + 1 :])
    return TensorType(shape, kind.dtype)


def _infer_part(
    what: str, bound: Bound, known: Mapping[Entry, TensorType], axes: Mapping[Node, int]
) -> dict[Entry, TensorType]:
    try:
        return infer(bound.graph, known)
    except MXNetError as error:
        cut = in_words(f"'{bound.names[node]}': {axis}" for node, axis in axes.items())
        wrong = f"{what}: the graph does not fit one part, cut along {{{cut}}}"
        fix = "Add the other inputs that have a batch axis to batch_axes; None takes one out"
        raise PlanError(f"{wrong}. {fix}\n{error}") from error


def _output_axis(what: str, name: str, whole: TensorType, part: TensorType, n: int) -> int:
    """The one axis that shrank with the batch."""
    pairs = list(zip(whole.shape, part.shape, strict=True))
    changed = [i for i, (a, b) in enumerate(pairs) if a != b]
    if len(changed) != 1 or pairs[changed[0]][0] != n * pairs[changed[0]][1]:
        raise MXNetError(
            f"{what}: output '{name}' is {whole} for the batch and {part} for a "
            "micro-batch: got no batch axis to gather along, expected one"
        )
    return changed[0]
