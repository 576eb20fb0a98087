"""Parameters of ops: every spelling that MXNet reads, and the words for what it does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raysym.errors import RuleError
from raysym.params import Dims, DType, Floats, OptDims, param, to_text


def parse(kind: object, raw: object, **rules: object) -> object:
    return param(doc="a parameter", **rules).bind("p", kind).parse(raw)


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (bool, "True", True), (bool, "true", True), (bool, "TRUE", True), (bool, 1, True),
        (bool, False, False), (bool, "0", False), (bool, np.bool_(True), True),
        (int, "3", 3), (int, " -3 ", -3), (int, "010", 10), (int, np.int64(3), 3),
        (float, "1.5", 1.5), (float, "1e-7", 1e-7), (float, ".5", 0.5), (float, "2.", 2.0),
        (float, "1e3f", 1000.0), (float, "-inf", -math.inf), (float, "3", 3.0),
        (str, "relu", "relu"), (str, 3, "3"),
        (Dims, "(3,3)", (3, 3)), (Dims, "[3, 3]", (3, 3)), (Dims, "(3,)", (3,)), (Dims, "3", (3,)),
        (Dims, (3, 4), (3, 4)), (Dims, [3, 4], (3, 4)), (Dims, "()", ()), (Dims, 3, (3,)),
        (Dims, "(3L, 4L)", (3, 4)),
        (OptDims, "(1, None)", (1, None)), (Floats, "(0.1, 1)", (0.1, 1.0)),
        (DType, "float16", "float16"), (DType, "0", "float32"), (DType, np.float64, "float64"),
        (int | None, "None", None), (int | None, None, None), (int | None, "3", 3),
        (Dims | None, "None", None),
    ],
)  # fmt: skip
def test_all_spellings_are_read(kind: object, raw: object, value: object) -> None:
    assert parse(kind, raw) == value


def test_not_a_number_is_a_number_here() -> None:
    assert math.isnan(parse(float, "nan"))


@pytest.mark.parametrize(
    ("kind", "raw", "words"),
    [
        (bool, "yes", "True or False"), (bool, 2, "True or False"), (bool, None, "True or False"),
        (int, "2.0", "an int"), (int, 2.0, "an int"), (int, "3x", "an int"), (int, "", "an int"),
        (int, True, "an int"), (int, "1_0", "an int"), (int, "3L", "an int"),
        (int, "0x1", "an int"),
        (float, "x", "a number"), (float, "1.5x", "a number"), (float, True, "a number"),
        (float, "1j", "a number"), (float, None, "a number"),
        (Dims, "(3", "a tuple of ints"), (Dims, (3.0, 3), "a tuple of ints"),
        (Dims, (3, None), "a tuple of ints"), (Dims, "3 3", "a tuple of ints"),
        (DType, "foo", "a dtype"), (DType, "9", "a dtype"),
        (int | None, "x", "an int or None"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(kind: object, raw: object, words: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(kind, raw)
    assert str(caught.value).startswith(f"invalid parameter p: got {raw!r}, expected {words}")


def test_ranges_and_choices_are_named() -> None:
    with pytest.raises(RuleError, match="got 0, expected an int >= 1"):
        parse(int, 0, low=1)
    with pytest.raises(RuleError, match="got 2, expected a number >= 0 and <= 1"):
        parse(float, 2, low=0, high=1)
    with pytest.raises(RuleError, match="got 5, expected an int <= 4"):
        parse(int, 5, high=4)
    with pytest.raises(RuleError, match="got 'foo', expected one of 'relu', 'tanh'"):
        parse(str, "foo", choices=("relu", "tanh"))
    with pytest.raises(RuleError, match=r"got \(2, 0\), expected a tuple of ints >= 1"):
        parse(Dims, (2, 0), low=1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "True"), (None, "None"), (3, "3"), (1e-7, "1e-07"), (1 / 3, "0.3333333333333333"),
        ((3, 3), "(3, 3)"), ([3, 3], "[3, 3]"), ((3,), "(3,)"), ("relu", "relu"), (-1.0, "-1.0"),
        (np.int64(3), "3"), (np.float32(0.1), "0.1"), ((np.int64(3), np.int64(4)), "(3, 4)"),
        ([np.float32(0.1)], "[0.1]"), ((np.bool_(True), None), "(True, None)"),
    ],
)  # fmt: skip
def test_the_text_of_a_value_is_pythons(value: object, text: str) -> None:
    assert to_text(value) == text
