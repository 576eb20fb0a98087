"""Imperative functions made from op pages, with their real signatures and manual pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from raysym.errors import MXNetError, RuleError, did_you_mean
from raysym.ndarray import NDArray, invoke
from raysym.op import Op, in_words, make_op
from raysym.opdoc import doc_of, functions_below, signature_of

Function: TypeAlias = Callable[..., Any]


def function_of(name: str, page: type[Op]) -> Function:
    """The function that runs the op of `page` at once."""

    def run(*args: Any, out: Any = None, name: Any = None, **kwargs: Any) -> Any:
        return call_page(page, args, kwargs, out)

    run.__name__ = run.__qualname__ = name
    run.__module__ = "raysym.nd"
    run.__doc__ = doc_of(page)
    run.__signature__ = signature_of(page, "out", "name")  # type: ignore[attr-defined]
    return run


def call_page(
    page: type[Op], args: Sequence[Any], kwargs: Mapping[str, Any], out: Any = None
) -> Any:
    """Sort arguments into inputs and parameters, then run. `ctx` may be a Context.

    AssertionError for an input that is no NDArray, TypeError for too many arguments, MXNetError
    for parameters that the op does not know or does not take.
    """
    params = dict(kwargs)
    given = _inputs_by_position(page, args, params)
    if out is None:
        out = params.pop("out", None)
    params.pop("name", None)
    given.update((key, params.pop(key)) for key in list(params) if _is_input(page, key, params))
    for key, value in given.items():
        if not isinstance(value, NDArray):
            raise AssertionError(
                f"{page.name}: argument {key} must have NDArray type, but got {value!r}"
            )
    if page.variadic and page.variadic not in params:
        params[page.variadic] = len(given)
    return invoke(page.name, _in_order(page, given, params), params, out=out)


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


def _is_input(page: type[Op], key: str, params: Mapping[str, Any]) -> bool:
    if page.variadic:
        return key.startswith("arg") and key[3:].isdigit() and key not in page.params
    return key in page.inputs and (key not in page.params or isinstance(params[key], NDArray))


def _in_order(
    page: type[Op], given: Mapping[str, NDArray], params: Mapping[str, Any]
) -> list[NDArray]:
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


def lazy_functions(
    names: dict[str, Any], namespace: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module whose functions are made when first used.

    `names` is the module's own dict, where a made function stays; `namespace` as in `opdoc`.
    """

    def get(name: str) -> Any:
        page = None if name.startswith("__") else functions_below(namespace).get(name)
        if page is None:
            hint = did_you_mean(name, functions_below(namespace))
            raise AttributeError(f"module '{names['__name__']}' has no attribute '{name}'. {hint}")
        names[name] = function_of(name, page)
        return names[name]

    def listed() -> list[str]:
        return sorted({*names, *functions_below(namespace)})

    return get, listed
