"""Composition: how an operator call becomes a node, with its automatic name and variables.

What users hand over is sorted into inputs and parameters here; nothing below knows of symbols, only
of things that are `Composable`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raysym.errors import MXNetError, RuleError, did_you_mean, in_words, node_message
from raysym.graph import Entry, Node, call_site, node_error, variable
from raysym.names import HIDDEN_KEYS, AttrScope, NameManager
from raysym.op import Op, make_op, to_text_of
from raysym.params import DType
from raysym.types import dtype_name


class Composable:
    """Something that stands for graph values and may be an input of an operator."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The graph values that this stands for."""
        return self._entries


class Call(NamedTuple):
    """The arguments of an operator call, sorted: inputs by position and by slot, parameters."""

    positional: list[Entry | None]
    named: dict[str, Entry]
    params: dict[str, Any]


def call(
    page: type[Op],
    hint: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    name: str | None = None,
    attr: Mapping[str, str] | None = None,
) -> Node:
    """Call an operator: `args` are inputs, then parameters; composables in `kwargs` are inputs.

    Open slots become variables. AssertionError for an input that is not composable, TypeError for
    arguments that Python would refuse as well, MXNetError for what the op page refuses.
    """
    source = call_site()
    if name is not None and not isinstance(name, str):
        raise TypeError(f"{page.name}: name: got {name!r}, expected a string")
    resolved = NameManager.current.get(name, hint.lower())
    given = _sorted_arguments(page, resolved, args, kwargs)
    attrs = {
        **scoped_attrs(page, resolved, attr),
        **_hidden_spelled(page, resolved, _texts(page, resolved, given.params)),
    }
    if page.variadic in page.params and page.variadic not in attrs:
        count = len(given.positional) or len(given.named)
        attrs.update({page.variadic: str(count)} if count else {})
    try:
        op = make_op(page.name, attrs)
        inputs = _fill(op, resolved, given, attrs, source)
    except RuleError as error:
        context = [f"made at {source}"]
        raise MXNetError(node_message(page.name, resolved, str(error), context)) from None
    return Node(op, resolved, inputs, dict(sorted(attrs.items())), source)


# ----- sorting the arguments


def _sorted_arguments(
    page: type[Op], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Call:
    named = {key: single(v, key) for key, v in kwargs.items() if isinstance(v, Composable)}
    params = {key: value for key, value in kwargs.items() if key not in named}
    if page.variadic:
        positional: list[Entry | None] = [_input(page, name, "*args", value) for value in args]
        if positional and named:
            raise TypeError(
                f"{page.name} '{name}': inputs are either all positional or all keywords: "
                f"got {len(positional)} by position and {in_words(named)}"
            )
        return Call(positional, named, params)
    slots = [slot for slot in page.inputs if slot not in page.params]
    pairs = list(zip(slots, args, strict=False))
    _refuse_twice(page, name, [slot for slot, _ in pairs], kwargs)
    positional = [_optional(page, name, slot, value) for slot, value in pairs]
    params = {**_positional_params(page, name, args[len(slots) :], kwargs), **params}
    for slot in slots:
        if slot in params:
            _optional(page, name, slot, params.pop(slot))
    return Call(positional, named, params)


def _positional_params(
    page: type[Op], name: str, values: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    known = [] if page.keyword_only else list(page.params)
    if len(values) > len(known):
        raise TypeError(
            f"{page.name} '{name}': too many positional arguments: got {len(values)} behind the "
            f"inputs, expected at most {len(known)}: {in_words(known)}"
        )
    given = dict(zip(known, values, strict=False))
    _refuse_twice(page, name, given, kwargs)
    return given


def _refuse_twice(
    page: type[Op], name: str, positional: Sequence[str] | Mapping[str, Any], named: Any
) -> None:
    for key in positional:
        if key in named:
            raise TypeError(f"{page.name} '{name}': got multiple values for argument '{key}'")


def _optional(page: type[Op], name: str, slot: str, value: Any) -> Entry | None:
    return None if value is None else _input(page, name, slot, value)


def _input(page: type[Op], name: str, slot: str, value: Any) -> Entry:
    if not isinstance(value, Composable):
        raise AssertionError(
            f"{page.name} '{name}': {slot} must be Symbol instances: got {type(value).__name__}, "
            "expected a Symbol"
        )
    return single(value, f"{page.name} '{name}': {slot}")


def single(value: Composable, what: str = "compose") -> Entry:
    """The one value of a composable; MXNetError, naming `what` it is for, if there are several."""
    if len(value.entries) != 1:
        raise MXNetError(
            f"{what}: {value!r} is a tuple of {len(value.entries)} outputs, single value is "
            "required: pick one by index"
        )
    return value.entries[0]


def _texts(page: type[Op], name: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as the strings that are kept; TypeError for a dtype that numpy does not know."""
    found = {}
    for key, value in params.items():
        declared = page.params.get(key)
        if declared is not None and declared.kind is DType and value is not None:
            value = _dtype_text(page, name, key, value)
        found[key] = to_text_of(page, key, value)
    return found


def _dtype_text(page: type[Op], name: str, key: str, value: Any) -> str:
    try:
        return dtype_name(value)
    except TypeError:
        known = page.params[key].describe()
        wrong = f"data type not understood: {key}: got {value!r}, expected {known}"
        raise TypeError(f"{page.name} '{name}': {wrong}") from None


# ----- filling the input slots


def _fill(
    op: Op, name: str, given: Call, attrs: Mapping[str, str], source: str | None
) -> list[Entry]:
    slots = op.input_names()
    _refuse_extra(slots, given)
    inputs = {**dict(zip(slots, given.positional, strict=False)), **given.named}
    made = [inputs.get(slot) or auto_variable(name, slot, attrs, source) for slot in slots]
    for slot, entry in zip(slots, made, strict=True):
        check_aux(op, slot, entry)
        hint_variable(entry.node, op.variable_attrs(slot))
    return made


def _refuse_extra(slots: Sequence[str], given: Call) -> None:
    """Refuse inputs without a slot: too many, or a slot that these parameters do not call for."""
    if any(entry is not None for entry in given.positional[len(slots) :]):
        wanted = f"at most {len(slots)}: {in_words(slots)}"
        raise RuleError("too many inputs", got=len(given.positional), expected=wanted)
    for slot in given.named:
        if slot not in slots:
            wanted = f"one of {in_words(slots)}"
            fix = did_you_mean(slot, slots)
            raise RuleError(f"input {slot} not found", got=slot, expected=wanted, fix=fix)


def check_aux(op: Op, slot: str, entry: Entry) -> None:
    """RuleError when an auxiliary state is the result of an operator."""
    if slot in op.aux and not entry.node.is_variable:
        raise RuleError(
            f"auxiliary state {slot}: Mutation target can only be Variable",
            got=f"{entry.node.op.name} '{entry.node.name}'",
            expected="a Variable",
        )


def auto_variable(name: str, slot: str, attrs: Mapping[str, str], source: str | None) -> Entry:
    """The variable for an open slot: it inherits a copy of all the op's attributes."""
    return variable(f"{name}_{slot}", dict(sorted(attrs.items())), source)


def hint_variable(node: Node, hints: Mapping[str, str]) -> None:
    """Note on a variable what the op that it feeds wants of it, such as its initial value.

    As in MXNet a variable that users made is marked too, unless it says something else.
    """
    if hints and node.is_variable:
        node.attrs = dict(sorted({**hints, **node.attrs}.items()))


# ----- attributes


def scoped_attrs(
    page: type[Op] | None, name: str, attr: Mapping[str, str] | None
) -> dict[str, str]:
    """Attributes from `attr` and the current AttrScope, hidden keys spelled with underscores.

    `page` is None for variables, which take any key but only strings. TypeError for what is no
    mapping.
    """
    if attr is not None and not isinstance(attr, Mapping):
        raise TypeError(f"'{name}': attr: got {attr!r}, expected a dict of strings")
    given = {key: str(value) for key, value in (attr or {}).items()}
    if page is None:
        check_strings(name, attr or {})
    return _hidden_spelled(page, name, AttrScope.current.get(given))


def check_strings(name: str | None, attrs: Mapping[str, Any]) -> None:
    """ValueError for an attribute that is not a string."""
    for key, value in attrs.items():
        if not isinstance(value, str):
            wrong = f"attribute {key}: only accepts string values: got {value!r}, expected a str"
            raise ValueError(f"'{name}': {wrong}")


def _hidden_spelled(page: type[Op] | None, name: str, attrs: Mapping[str, str]) -> dict[str, str]:
    params = page.params if page else {}
    for key in attrs:
        if key not in params:
            _refuse_moved(page.name if page else "Variable", name, key)
    return {f"__{k}__" if k in HIDDEN_KEYS and k not in params else k: v for k, v in attrs.items()}


def _refuse_moved(op_name: str, name: str, key: str) -> None:
    hidden = next((k for k in HIDDEN_KEYS if key.endswith(k) and key != k), None)
    if hidden:
        slot = key[: -len(hidden)].rstrip("_")
        raise MXNetError(
            f"{op_name} '{name}': attribute {key} is deprecated: set it on the Variable of that "
            f"input: {slot or 'w'} = Variable(..., {hidden}=...)"
        )


def set_attrs(node: Node, attrs: Mapping[str, str]) -> None:
    """Set attributes of a node; a parameter set so really changes its op.

    ValueError unless they are strings, MXNetError for what the op refuses.
    """
    check_strings(node.name, attrs)
    page = None if node.is_variable else type(node.op)
    merged = {**node.attrs, **_hidden_spelled(page, node.name, attrs)}
    if page is not None:
        try:
            node.replace_op(make_op(page.name, merged).with_subgraphs(node.op.subgraphs()))
        except RuleError as error:
            raise node_error(node, error) from None
    node.attrs = dict(sorted(merged.items()))
