"""Where symbols come from: Variable, Group, and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysym.compose import scoped_attrs
from raysym.errors import MXNetError
from raysym.graph import call_site, variable
from raysym.op import is_dunder
from raysym.symbol import Symbol
from raysym.types import DTYPE_CODES, dtype_name

_STORAGE_TYPES = {"default": 0, "row_sparse": 1, "csr": 2}


def Variable(
    name: str,
    attr: Mapping[str, str] | None = None,
    shape: Any = None,
    lr_mult: float | None = None,
    wd_mult: float | None = None,
    dtype: Any = None,
    init: Any = None,
    stype: str | None = None,
    **kwargs: Any,
) -> Symbol:
    """A named input. Shape, dtype and multipliers are kept as attributes; others need dunders.

    Raises TypeError for a name that is no string, ValueError for attributes that are not strings
    or not dunder-named, KeyError for a dtype or storage type that MXNet does not know.
    """
    if not isinstance(name, str):
        raise TypeError(f"Variable: name: got {name!r}, expects a string")
    attrs = scoped_attrs(None, name, attr)
    given = {"shape": shape, "lr_mult": lr_mult, "wd_mult": wd_mult}
    attrs.update({f"__{key}__": str(value) for key, value in given.items() if value is not None})
    if dtype is not None:
        attrs["__dtype__"] = str(_code("dtype", name, dtype_name(dtype), DTYPE_CODES))
    if init is not None:
        attrs["__init__"] = _initializer(name, init)
    if stype is not None:
        attrs["__storage_type__"] = str(_code("stype", name, stype, _STORAGE_TYPES))
    attrs.update(_extra(name, kwargs))
    return Symbol([variable(name, dict(sorted(attrs.items())), call_site())])


def _initializer(name: str, init: Any) -> str:
    text = init if isinstance(init, str) else init.dumps()
    if not isinstance(text, str):
        raise ValueError(f"Variable '{name}': init: got {init!r}, only accepts string values")
    return text


def _code(what: str, name: str, key: str, codes: Mapping[str, int]) -> int:
    if key not in codes:
        raise KeyError(f"Variable '{name}': {what}: got {key}, expected one of {', '.join(codes)}")
    return codes[key]


def _extra(name: str, attrs: Mapping[str, Any]) -> dict[str, str]:
    for key in attrs:
        if not is_dunder(key):
            raise ValueError(
                f"Variable '{name}': unknown argument {key}: got {key}={attrs[key]!r}, "
                f"expected a name like __{key}__: it must be dunder"
            )
    return {key: str(value) for key, value in attrs.items()}


var = Variable


def Group(symbols: Sequence[Symbol]) -> Symbol:
    """All outputs of all members, in order; TypeError for an empty list or other members."""
    if isinstance(symbols, Symbol) and symbols:  # its truth value says why this is refused
        return symbols
    members = list(symbols) if isinstance(symbols, (list, tuple)) else []
    if not members or any(not isinstance(member, Symbol) for member in members):
        raise TypeError(f"Group: got {symbols!r}, expected a list of symbols")
    return Symbol([entry for member in members for entry in member.entries])


def load_json(json_str: str) -> Symbol:
    """The symbol of a JSON text of any MXNet version since 0.8.

    TypeError for what is no text, MXNetError saying what is wrong with the text.
    """
    if not isinstance(json_str, str):
        raise TypeError(f"load_json: got {type(json_str).__name__}, expected a str")
    return Symbol.from_json(json_str)


def load(fname: str) -> Symbol:
    """The symbol saved in a file; MXNetError when it cannot be read."""
    if not isinstance(fname, str):
        raise TypeError(f"load: fname: got {type(fname).__name__}, expected a str")
    try:
        text = Path(fname).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MXNetError(f"load: cannot read a symbol from {fname!r}: {error}") from None
    return load_json(text)


__all__ = ["Group", "Variable", "load", "load_json", "var"]
