"""Methods that arrays and symbols share: ``x.relu()`` is ``relu(x)``, for every fluent op.

The methods are made from the op pages; `fluent.pyi` lists them for type checkers and is generated
by ``python -m raysym.stubs``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any

from raysym.op import REGISTRY, Op
from raysym.opdoc import FLUENT_METHODS, doc_of, signature_of


class Fluent:
    """One method for each fluent op, in terms of `_fluent`."""

    __slots__ = ()

    def _fluent(
        self, page: type[Op], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call the op of `page` with this object as its first input."""
        raise NotImplementedError(name)


def method_of(name: str, page: type[Op]) -> Callable[..., Any]:
    """The method `name`, with the signature and the manual page of its op."""

    def method(self: Fluent, *args: Any, **kwargs: Any) -> Any:
        return self._fluent(page, name, args, kwargs)

    method.__name__ = name
    method.__qualname__ = f"Fluent.{name}"
    method.__doc__ = doc_of(page, "this object")
    method.__signature__ = method_signature(page)  # type: ignore[attr-defined]
    return method


def method_signature(page: type[Op]) -> Signature:
    """The op's signature with ``self`` in the place of the first input."""
    parameters = list(signature_of(page).parameters.values())[1:]
    return Signature([Parameter("self", Parameter.POSITIONAL_OR_KEYWORD), *parameters])


for _name in FLUENT_METHODS:
    setattr(Fluent, _name, method_of(_name, REGISTRY[_name]))
