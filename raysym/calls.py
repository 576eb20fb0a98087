"""Sorting the arguments of an imperative call into inputs and parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raysym.convert import short
from raysym.errors import MXNetError, RuleError, in_words
from raysym.op import Op, make_op


class Call(NamedTuple):
    """An op's inputs in order, its parameters as given, and the target that was asked for."""

    inputs: list[Any]
    params: dict[str, Any]
    out: Any


def sort_call(page: type[Op], args: Sequence[Any], kwargs: Mapping[str, Any], kind: type) -> Call:
    """Positional arguments are inputs, then parameters; inputs are of `kind`.

    AssertionError (as in MXNet) for an input that is not, TypeError for too many arguments,
    MXNetError for inputs and parameters that the op does not take.
    """
    params = dict(kwargs)
    given = _inputs_by_position(page, args, params, kind)
    params.pop("name", None)
    keys = [key for key, value in params.items() if _is_input(page, key, value, kind)]
    given.update((key, params.pop(key)) for key in keys)
    for key, value in given.items():
        if not isinstance(value, kind):
            wanted = f"argument {key} must have {kind.__name__} type"
            raise AssertionError(f"{page.name}: {wanted}, but got {short(value)}")
    if page.variadic in page.params and page.variadic not in params:
        params[page.variadic] = len(given)
    out = params.pop("out", None)
    return Call(_in_order(page, given, params), params, out)


def split_v2_params(
    indices_or_sections: int | tuple[int, ...], axis: int, squeeze_axis: bool
) -> dict[str, Any]:
    """Parameters of ``_split_v2``: so many equal parts, or cuts before the given indices."""
    params = {"axis": axis, "squeeze_axis": squeeze_axis}
    if isinstance(indices_or_sections, int):
        return {**params, "indices": (), "sections": indices_or_sections}
    if isinstance(indices_or_sections, tuple):
        return {**params, "indices": (0, *indices_or_sections), "sections": 0}
    kind = type(indices_or_sections).__name__
    raise ValueError(f"split_v2: indices_or_sections: got {kind}, expected an int or a tuple")


def _inputs_by_position(
    page: type[Op], args: Sequence[Any], params: dict[str, Any], kind: type
) -> dict[str, Any]:
    """Inputs by slot; the positional arguments behind them go into `params`."""
    slots = _positional_slots(page, args, kind)
    rest = [] if page.variadic or page.keyword_only else [*page.params, "out", "name"]
    if len(args) > len(slots) + len(rest):
        raise TypeError(
            f"{page.name}: got {len(args)} positional arguments, expected at most "
            f"{len(slots) + len(rest)}: {in_words([*slots, *rest])}"
        )
    for key, value in zip(rest, args[len(slots) :], strict=False):
        if key in params:
            raise TypeError(f"{page.name}: got two values for argument {key}")
        params[key] = value
    return {slot: value for slot, value in zip(slots, args, strict=False) if value is not None}


def _positional_slots(page: type[Op], args: Sequence[Any], kind: type) -> list[str]:
    if page.variadic:
        return [f"arg{i}" for i in range(len(args))]
    declared = [name for name in page.inputs if name not in page.params]
    lead = next((i for i, arg in enumerate(args) if not isinstance(arg, kind)), len(args))
    if lead > len(declared) and page.input_names is not Op.input_names:
        # Parameters, which are yet to be parsed, decide how many inputs there are.
        return [f"arg{i}" for i in range(lead)]
    return declared


def _is_input(page: type[Op], key: str, value: Any, kind: type) -> bool:
    if page.variadic and key != "out":  # such ops have no parameter that could be an array
        return isinstance(value, kind)
    if key in page.params or key == "out":
        return key in page.inputs and isinstance(value, kind)
    return key in page.inputs or isinstance(value, kind)


def _in_order(page: type[Op], given: Mapping[str, Any], params: Mapping[str, Any]) -> list[Any]:
    try:
        slots = make_op(page.name, params).input_names()
    except RuleError as error:
        raise MXNetError(f"{page.name}: {error}") from None
    if "arg0" in given and "arg0" not in slots:
        return list(given.values())
    for key in given:
        if key not in slots:
            raise MXNetError(f"{page.name}: input {key} not found: expected {in_words(slots)}")
    return [given[slot] for slot in slots if slot in given]
