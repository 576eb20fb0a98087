"""Attributes of graphs that older versions of MXNet saved, in the spelling of 1.9.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysym.graph import Entry, Node
from raysym.names import HIDDEN_KEYS
from raysym.op import REGISTRY, is_dunder


def hidden_suffix(key: str) -> str | None:
    """The hidden key that `key` is or ends in: ``weight_lr_mult`` -> ``lr_mult``."""
    if is_dunder(key):
        return None
    return next((k for k in HIDDEN_KEYS if key == k or key.endswith(f"_{k}")), None)


def upgraded(op_name: str, attrs: Mapping[str, str], inputs: Sequence[Entry]) -> dict[str, str]:
    """Hidden keys with underscores; ``weight_lr_mult`` goes to the variable of that input."""
    kept: dict[str, str] = {}
    for key, value in attrs.items():
        hidden = hidden_suffix(key)
        owner = _owner(op_name, key[: -len(hidden) - 1], inputs) if hidden else None
        if key == hidden:
            kept[f"__{key}__"] = value
        elif owner is not None:
            owner.attrs = dict(sorted({**owner.attrs, f"__{hidden}__": value}.items()))
        else:
            kept[key] = value
    return kept


def _owner(op_name: str, slot: str, inputs: Sequence[Entry]) -> Node | None:
    slots = REGISTRY[op_name].inputs if op_name in REGISTRY else ()
    position = slots.index(slot) if slot in slots else len(inputs)
    if position < len(inputs) and inputs[position].node.is_variable:
        return inputs[position].node
    return None


def without_old_axis(op_name: str, attrs: Mapping[str, str]) -> dict[str, str]:
    """Before 0.9.5 an axis of -1 meant: over all elements."""
    old = op_name in ("argmax", "argmin") and attrs.get("axis") == "-1"
    return {key: value for key, value in attrs.items() if not (old and key == "axis")}
