"""Imperative functions made from op pages, with their real signatures and manual pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from raysym.ndarray import call
from raysym.op import Op
from raysym.opdoc import doc_of, lazily, signature_of

Function: TypeAlias = Callable[..., Any]


def function_of(python_name: str, page: type[Op]) -> Function:
    """The function that runs the op of `page` at once."""

    def run(*args: Any, out: Any = None, name: Any = None, **kwargs: Any) -> Any:
        return call(page, args, kwargs, out)

    run.__name__ = run.__qualname__ = python_name
    run.__module__ = "raysym.nd"
    run.__doc__ = doc_of(page)
    run.__signature__ = signature_of(page, "out", "name")  # type: ignore[attr-defined]
    return run


def lazy_functions(
    names: dict[str, Any], namespace: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module of imperative functions (see `opdoc`)."""
    return lazily(names, namespace, function_of)
