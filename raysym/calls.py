"""Sorting the arguments of an imperative call into inputs and parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raysym.convert import short
from raysym.errors import MXNetError, RuleError
from raysym.op import Op, in_words, make_op


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
    given = _inputs_by_position(page, args, params)
    params.pop("name", None)
    keys = [key for key in params if _is_input(page, key, params, kind)]
    given.update((key, params.pop(key)) for key in keys)
    for key, value in given.items():
        if not isinstance(value, kind):
            wanted = f"argument {key} must have {kind.__name__} type"
            raise AssertionError(f"{page.name}: {wanted}, but got {short(value)}")
    if page.variadic and page.variadic not in params:
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
    page: type[Op], args: Sequence[Any], params: dict[str, Any]
) -> dict[str, Any]:
    """Inputs by slot; the positional arguments behind them go into `params`."""
    if page.variadic:
        return {f"arg{i}": value for i, value in enumerate(args)}
    slots = [name for name in page.inputs if name not in page.params]
    rest = [] if page.keyword_only else [*page.params, "out", "name"]
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


def _is_input(page: type[Op], key: str, params: Mapping[str, Any], kind: type) -> bool:
    if page.variadic:
        return key.startswith("arg") and key[3:].isdigit() and key not in page.params
    return key in page.inputs and (key not in page.params or isinstance(params[key], kind))


def _in_order(page: type[Op], given: Mapping[str, Any], params: Mapping[str, Any]) -> list[Any]:
    if page.variadic:
        return list(given.values())
    try:
        slots = make_op(page.name, params).input_names()
    except RuleError as error:
        raise MXNetError(f"{page.name}: {error}") from None
    for key in given:
        if key not in slots:
            raise MXNetError(f"{page.name}: input {key} not found: expected {in_words(slots)}")
    return [given[slot] for slot in slots if slot in given]
