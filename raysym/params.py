"""Parameters of op pages: declared as annotated fields, parsed from strings or values.

Every spelling that MXNet reads is accepted (bool ``True/true/1``, tuple ``(3,3)``, ``[3, 3]``,
``(3,)`` or a bare ``3``, ``None`` where the parameter is optional); RuleError says what is wrong.
"""

from __future__ import annotations

import ast
import math
import re
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NewType, TypeAlias, Union, get_args, get_origin

import numpy as np

from raysym.errors import RuleError
from raysym.types import DTYPE_CODES, DTYPE_OF_CODE

Dims: TypeAlias = tuple[int, ...]
OptDims: TypeAlias = tuple[int | None, ...]
Floats: TypeAlias = tuple[float, ...]
DType = NewType("DType", str)

REQUIRED: Any = object()


@dataclass(frozen=True)
class Param:
    """One parameter of an op: type, default (or REQUIRED), range or choices, documentation."""

    default: Any
    doc: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    name: str = ""
    kind: Any = None
    optional: bool = False

    def bind(self, name: str, annotation: Any) -> Param:
        """The same parameter with its field's name and annotated type filled in."""
        members = get_args(annotation) if _is_union(annotation) else (annotation,)
        kinds = [member for member in members if member is not type(None)]
        optional = len(kinds) < len(members)
        return replace(self, name=name, kind=kinds[0], optional=optional)

    def parse(self, raw: Any) -> Any:
        """The value that `raw`, a string or a Python value, stands for."""
        if self.optional and (raw is None or raw == "None"):
            return None
        try:
            value = _PARSERS[self.kind](raw)
        except (ValueError, TypeError, SyntaxError):
            raise self._error(raw) from None
        if not self._in_range(value):
            raise self._error(raw)
        return value

    def _in_range(self, value: Any) -> bool:
        if self.choices and value not in self.choices:
            return False
        members = value if isinstance(value, tuple) else (value,)
        if self.low is not None and any(m is not None and not m >= self.low for m in members):
            return False
        return self.high is None or all(m is None or m <= self.high for m in members)

    def _error(self, raw: Any) -> RuleError:
        return RuleError(f"invalid parameter {self.name}", got=repr(raw), expected=self.describe())

    def describe(self) -> str:
        """Type and range in words: ``an int >= 1``."""
        if self.choices:
            text = "one of " + ", ".join(f"'{choice}'" for choice in self.choices)
        else:
            bounds = ((">=", self.low), ("<=", self.high))
            limits = [f"{sign} {bound:g}" for sign, bound in bounds if bound is not None]
            text = f"{_WORDS[self.kind]} {' and '.join(limits)}".rstrip()
        return text + (" or None" if self.optional else "")


def param(
    default: Any = REQUIRED,
    *,
    doc: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a parameter on an op page: ``num_hidden: int = param(low=1, doc="...")``."""
    return Param(default, doc, low, high, choices)


def to_text(value: Any) -> str:
    """The string that MXNet stores for a parameter value: ``str(value)``, numbers as plain ones."""
    if isinstance(value, tuple):
        return str(tuple(map(_plain, value)))
    return str([_plain(member) for member in value] if isinstance(value, list) else value)


def _plain(value: Any) -> Any:
    """numpy's numbers as Python's, whose text parsers of numbers can read."""
    # A float32 of 0.1 stays 0.1: its text is shorter than that of its double.
    return ast.literal_eval(str(value)) if isinstance(value, np.generic) else value


def _is_union(annotation: Any) -> bool:
    return isinstance(annotation, types.UnionType) or get_origin(annotation) is Union


def _parse_bool(raw: Any) -> bool:
    text = str(raw).lower()
    if text in ("true", "1"):
        return True
    if text in ("false", "0"):
        return False
    raise ValueError(raw)


_INT = re.compile(r"\s*[+-]?\d+\s*$")


def _parse_int(raw: Any) -> int:
    text = str(raw)
    return int(text) if _INT.match(text) else _reject(raw)


def _parse_dim(raw: Any) -> int:
    return _parse_int(str(raw).removesuffix("L"))  # as Python 2 wrote tuples of large numbers


# "inf", "nan" and a trailing "f" are read as in C; "True" is no number.
_NUMBER = re.compile(
    r"\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf(inity)?|nan)f?\s*$", re.I
)


def _parse_float(raw: Any) -> float:
    text = str(raw)
    if not _NUMBER.match(text):
        raise ValueError(raw)
    return float(text.strip().lower().removesuffix("f") if "inf" not in text.lower() else text)


def _parse_members(raw: Any, parse: Callable[[Any], Any]) -> tuple[Any, ...]:
    text = str(raw).strip()
    if text[:1] in "([" and text[-1:] in ")]" and text:
        parts = text[1:-1].split(",")
    else:
        parts = [text]
    if parts and not parts[-1].strip():
        parts.pop()
    return tuple(parse(part.strip()) for part in parts)


def _parse_dims(raw: Any) -> Dims:
    return _parse_members(raw, _parse_dim)


def _parse_opt_dims(raw: Any) -> OptDims:
    return _parse_members(raw, lambda part: None if part == "None" else _parse_dim(part))


def _parse_floats(raw: Any) -> Floats:
    return _parse_members(raw, _parse_float)


def _parse_dtype(raw: Any) -> str:
    text = getattr(raw, "__name__", None) or str(raw)
    if text.lstrip("-").isdigit():
        return DTYPE_OF_CODE.get(int(text), "") or _reject(raw)
    return text if text in DTYPE_CODES else _reject(raw)


def _reject(raw: Any) -> Any:
    raise ValueError(raw)


def parse_literal(text: str) -> Any:
    """A Python literal, as found in plan text."""
    return math.nan if text == "nan" else ast.literal_eval(text)


_PARSERS: dict[Any, Callable[[Any], Any]] = {
    bool: _parse_bool,
    int: _parse_int,
    float: _parse_float,
    str: str,
    Dims: _parse_dims,
    OptDims: _parse_opt_dims,
    Floats: _parse_floats,
    DType: _parse_dtype,
}
_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "an int",
    float: "a number",
    str: "a string",
    Dims: "a tuple of ints",
    OptDims: "a tuple of ints or None",
    Floats: "a tuple of numbers",
    DType: "a dtype (" + ", ".join(DTYPE_CODES) + ")",
}
