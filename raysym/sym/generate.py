"""Symbolic functions made from op pages, with their real signatures and manual pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from raysym.op import Op
from raysym.opdoc import doc_of, functions_below, lazily, signature_of
from raysym.symbol import Symbol, create

Function: TypeAlias = Callable[..., Any]


def function_of(python_name: str, page: type[Op]) -> Function:
    """The function that composes the op of `page`; its nodes are named after `python_name`."""

    def compose(*args: Any, name: Any = None, attr: Any = None, **kwargs: Any) -> Symbol:
        kwargs.pop("out", None)
        return create(page, python_name, args, kwargs, name, attr)

    compose.__name__ = compose.__qualname__ = python_name
    compose.__module__ = "raysym.sym"
    compose.__doc__ = doc_of(page, "Symbol")
    compose.__signature__ = signature_of(page, "name", "attr", "out")  # type: ignore[attr-defined]
    return compose


def lazy_functions(
    names: dict[str, Any], namespace: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module of symbolic functions (see `opdoc`)."""
    get, _ = lazily(names, namespace, function_of)

    def listed() -> list[str]:
        return sorted({*names.get("__all__", ()), *functions_below(namespace)})

    return get, listed
