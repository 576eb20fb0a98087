"""Composition: how an operator call becomes a node, with its automatic name and variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysym.errors import MXNetError, RuleError, did_you_mean, node_message
from raysym.graph import Entry, Node, call_site, variable
from raysym.names import HIDDEN_KEYS, AttrScope, NameManager
from raysym.op import Op, in_words, is_dunder, make_op, to_text_of


def new_node(
    page: type[Op],
    hint: str,
    positional: Sequence[Entry | None],
    named: Mapping[str, Entry],
    params: Mapping[str, Any],
    name: str | None = None,
    attr: Mapping[str, str] | None = None,
) -> Node:
    """Make the op from its parameters, fill its input slots, make variables for the open ones."""
    source = call_site()
    resolved = NameManager.current.get(name, hint.lower())
    texts = {key: to_text_of(page, key, value) for key, value in params.items()}
    attrs = {**scoped_attrs(page, resolved, attr), **texts}
    count = len(positional) or len(named)
    if page.variadic and count and page.variadic not in attrs:
        if named and not positional:
            raise _error(page, resolved, f"keyword inputs need {page.variadic}", source)
        attrs[page.variadic] = str(count)
    try:
        op = make_op(page.name, attrs)
        inputs = _fill(op, resolved, positional, named, attrs, source)
    except RuleError as error:
        raise _error(page, resolved, str(error), source) from None
    return Node(op, resolved, inputs, dict(sorted(attrs.items())), source)


def _error(page: type[Op], name: str, wrong: str, source: str) -> MXNetError:
    return MXNetError(node_message(page.name, name, wrong, [f"made at {source}"]))


def _fill(
    op: Op,
    name: str,
    positional: Sequence[Entry | None],
    named: Mapping[str, Entry],
    attrs: Mapping[str, str],
    source: str,
) -> list[Entry]:
    slots = op.input_names()
    given = dict(zip(slots, positional, strict=False))
    extra = [e for e in positional[len(slots) :] if e is not None]
    if extra:
        raise RuleError("too many inputs", got=len(positional), expected=f"{len(slots)}: {slots}")
    for slot, entry in named.items():
        if slot not in slots:
            raise RuleError(
                f"{slot} not found among the inputs",
                expected=f"one of {in_words(slots)}",
                fix=did_you_mean(slot, slots),
            )
        given[slot] = entry
    filled = []
    for slot in slots:
        made = given.get(slot) or auto_variable(op, name, slot, attrs, source)
        if slot in op.aux and not made.node.is_variable:
            raise RuleError(
                f"auxiliary state {slot}: Mutation target can only be Variable",
                got=f"{made.node.op.name} '{made.node.name}'",
            )
        filled.append(made)
    return filled


def auto_variable(
    op: Op, name: str, slot: str, attrs: Mapping[str, str], source: str | None
) -> Entry:
    """The variable for an open slot: it inherits a copy of all the op's attributes."""
    merged = {**attrs, **op.variable_attrs(slot)}
    return variable(f"{name}_{slot}", dict(sorted(merged.items())), source)


def scoped_attrs(
    page: type[Op] | None, name: str, attr: Mapping[str, str] | None
) -> dict[str, str]:
    """Attributes from `attr` and the current AttrScope, hidden keys spelled with underscores."""
    for key, value in (attr or {}).items():
        if not isinstance(value, str):
            raise ValueError(f"'{name}': attribute {key}={value!r}: only accepts string values")
    merged = AttrScope.current.get(dict(attr or {}))
    found = {f"__{key}__" if key in HIDDEN_KEYS else key: value for key, value in merged.items()}
    if page is not None:
        for key in found:
            _refuse_moved(page, name, key)
    return found


def _refuse_moved(page: type[Op], name: str, key: str) -> None:
    hidden = next((k for k in HIDDEN_KEYS if key.endswith(f"_{k}")), None)
    if hidden and not is_dunder(key) and key not in page.params:
        raise MXNetError(
            f"{page.name} '{name}': {key} is deprecated on an operator: "
            f"set {hidden} on the Variable of that input instead"
        )
