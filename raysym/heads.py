"""Head gradients: what a user gives to `backward` for the outputs, as a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysym.errors import did_you_mean, sentence, some
from raysym.ndarray import NDArray


def head_list(given: Any, names: Sequence[str]) -> Sequence[NDArray]:
    """One NDArray, a list of them, or a dict by output name; TypeError or KeyError if not."""
    if given is None:
        return []
    if isinstance(given, NDArray):
        return [given]
    if isinstance(given, dict):
        given = [_head_of(name, given) for name in names]
    if not isinstance(given, (list, tuple)):
        wanted = "an NDArray, a list or a dict"
        raise TypeError(sentence("backward: out_grads: wrong type", type(given).__name__, wanted))
    for i, grad in enumerate(given):
        if not isinstance(grad, NDArray):
            got = f"{type(grad).__name__} at position {i}"
            raise TypeError(sentence("backward: out_grads must be NDArrays", got, "an NDArray"))
    return given


def _head_of(name: str, given: Mapping[str, Any]) -> Any:
    if name not in given:
        got, fix = some(list(given)) or "none", did_you_mean(name, given)
        raise KeyError(sentence("backward: no head gradient of an output", got, name, fix))
    return given[name]
