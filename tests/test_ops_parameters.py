"""Every op we carry against MXNet's own list: names, inputs, parameters, defaults and spellings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wrong_values import wrong_values

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.errors import MXNetError, RuleError
from raysym.op import CANONICAL, REGISTRY, Op, make_op
from raysym.params import REQUIRED, Dims, DType, Floats, OptDims, Param

LIST = Path(__file__).parent.parent.parent / "shared" / "reference" / "mxnet_ops.json"
REFERENCE: dict[str, dict[str, Any]] = json.loads(LIST.read_text()) if LIST.exists() else {}

needs_list = pytest.mark.skipif(not REFERENCE, reason="MXNet's list of operators is not at hand")

PUBLIC = [name for name, page in CANONICAL.items() if not page.internal]
CARRIED = [name for name in PUBLIC if name in REFERENCE]
PARAMS = [
    pytest.param(page, param, id=f"{name}.{param.name}")
    for name, page in CANONICAL.items()
    if not page.internal
    for param in page.params.values()
]

# Where our page differs from the list on purpose: (op, what) -> why.
DIFFERENCES: dict[tuple[str, str], str] = {
    ("Custom", "variadic"): "the count is found from the inputs; the page marks it with *",
    ("add_n", "aliases"): "the list has one alias, MXNet's C++ registers two more",
    ("add_n", "num_args"): "counts the inputs; the list leaves it out",
    ("khatri_rao", "num_args"): "counts the inputs; the list leaves it out",
    ("amp_multicast", "variadic"): "num_outputs counts the inputs, so that it can be left out",
    ("multi_all_finite", "variadic"): "num_arrays counts the inputs, so that it can be left out",
    ("multi_sum_sq", "variadic"): "num_arrays counts the inputs, so that it can be left out",
    ("_linspace", "num"): "the list describes _arange; mx.sym.linspace passes num",
    ("_linspace", "endpoint"): "the list describes _arange; mx.sym.linspace passes endpoint",
    ("_full", "shape"): "an unknown shape is written (), as in _zeros",
    ("_zeros_without_dtype", "shape"): "an unknown shape is written (), as in _zeros",
    ("BatchNorm_v1", "inputs"): "the list leaves out auxiliary states of operators of the old kind",
    ("IdentityAttachKLSparseReg", "inputs"): "as for BatchNorm_v1",
}

# Control flow keeps its graphs in a parameter and counts its inputs by num_args.
DIFFERENCES |= {
    (name, what): "graphs are a parameter here, beside them in MXNet"
    for name in ("_foreach", "_while_loop", "_cond")
    for what in ("graphs", "inputs", "variadic")
}

# Ops that MXNet has and the list lacks.
UNLISTED = {"_np_cumsum": "registered with the numpy operators; mx.sym.cumsum is an alias of it"}


# ----- against the list


def differences(name: str) -> Iterator[str]:
    """What differs between a page and the list, by short names."""
    page, listed = CANONICAL[name], REFERENCE[name]
    if set(page.aliases) != set(listed["aliases"]):
        yield "aliases"
    if list(page.inputs) != listed["inputs"]:
        yield "inputs"
    if page.variadic != listed["key_var_num_args"]:
        yield "variadic"
    yield from set(page.params) ^ set(listed["params"])
    for key, text in listed["params"].items():
        if key in page.params and not agrees(page.params[key], text):
            yield key


def agrees(param: Param, text: str) -> bool:
    """True when kind, optionality and default are those of MXNet's description."""
    return kind_agrees(param, text) and default_agrees(param, text)


KINDS = {
    "boolean": (bool,),
    "int": (int,),
    "long": (int,),
    "float": (float,),
    "double": (float,),
    "real_t": (float,),
    "Shape": (Dims, OptDims),
    "tuple of <float>": (Floats,),
    "tuple of <double>": (Floats,),
    "tuple of <long>": (Dims, OptDims),
    "string": (str,),
    "": (Floats, Dims),
}


def kind_agrees(param: Param, text: str) -> bool:
    if text.startswith("{"):
        return choices_agree(param, text)
    word = re.match(r"tuple of <\w+>|\w*", text)
    kinds = KINDS[word.group() if word else ""]
    if "(non-negative)" in text and (param.low is None or param.low < 0):
        return False
    takes_none = " or None" in text.partition(",")[0]
    return param.kind in kinds and (not takes_none or param.optional or param.kind is OptDims)


def choices_agree(param: Param, text: str) -> bool:
    listed = [word.strip(" '") for word in text[1 : text.index("}")].split(",")]
    if param.kind is DType:  # more types may be accepted; bfloat16 is not carried
        return all(accepts(param, word) for word in listed if word != "bfloat16")
    named = {word for word in listed if word != "None"}
    return set(param.choices) - {"None"} == named and (
        "None" not in listed or accepts(param, "None")
    )


def default_agrees(param: Param, text: str) -> bool:
    if "default=" not in text:  # without either word the list does not tell
        return param.default is REQUIRED or "required" not in text
    written = text.partition("default=")[2].strip("'")
    if not accepts(param, written):
        return False
    value, ours = param.parse(written), param.default
    if param.kind in (float, Floats) and value is not None and ours is not None:
        return np.array_equal(np.float32(value), np.float32(ours))  # the list has float32 roundings
    return bool(value == ours)


def accepts(param: Param, raw: Any) -> bool:
    try:
        param.parse(raw)
    except RuleError:
        return False
    return True


@needs_list
@pytest.mark.parametrize("name", CARRIED)
def test_page_agrees_with_mxnet(name: str) -> None:
    assert set(differences(name)) == {what for op, what in DIFFERENCES if op == name}


@needs_list
def test_ops_that_mxnet_lacks_are_few() -> None:
    assert set(PUBLIC) - set(REFERENCE) == set(UNLISTED)


@needs_list
def test_every_name_finds_the_right_page() -> None:
    for name in CARRIED:
        for spelling in (name, *REFERENCE[name]["aliases"]):
            assert REGISTRY[spelling] is CANONICAL[name]


# ----- spellings: strings and values mean the same


def spellings(param: Param) -> list[tuple[Any, Any]]:
    """Pairs of a spelling and the value that it stands for."""
    kind, number = param.kind, inside(param)
    if param.choices and kind is str:
        return [(choice, choice) for choice in param.choices]
    if kind is bool:
        words = {
            True: (True, "True", "true", "TRUE", "1", 1),
            False: (False, "False", "false", "0", 0),
        }
        return [(word, value) for value, several in words.items() for word in several]
    if kind is int:
        return [(number, number), (str(number), number), (np.int64(number), number)]
    if kind is float:
        several = (number, str(number), f"{number:e}", np.float64(number), f" {number}")
        return [(raw, number) for raw in several]
    if kind in (Dims, OptDims, Floats):
        return tuple_spellings(number)
    if kind is DType:
        return dtype_spellings(param)
    return [("some text", "some text")]


def inside(param: Param) -> Any:
    """A number within the parameter's range."""
    low = param.low if param.low is not None else 0
    number = low + 1 if param.high is None or low + 1 <= param.high else (low + param.high) / 2
    return float(number) if param.kind in (float, Floats) else int(number)


def tuple_spellings(n: Any) -> list[tuple[Any, Any]]:
    two = [(n, n), [n, n], f"({n},{n})", f"({n}, {n})", f"[{n}, {n}]", f"[{n},{n}]", f"({n},{n},)"]
    one = [n, str(n), (n,), [n], f"({n},)", f"[{n}]"]
    two += [f"({n}L, {n}L)"] if isinstance(n, int) else []  # as Python 2 wrote it
    return [(raw, (n, n)) for raw in two] + [(raw, (n,)) for raw in one] + [("()", ()), ((), ())]


def dtype_spellings(param: Param) -> list[tuple[Any, Any]]:
    name = param.choices[0] if param.choices else "float32"
    code = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}
    return [
        (name, name),
        (np.dtype(name).type, name),
        (np.dtype(name), name),
        (str(code[name]), name),
    ]


@pytest.mark.parametrize(("page", "param"), PARAMS)
def test_every_spelling_is_understood(page: type[Op], param: Param) -> None:
    for raw, value in spellings(param):
        got = param.parse(raw)
        assert got == value
        assert type(got) is type(value)
    if param.optional:
        assert param.parse(None) is None
        assert param.parse("None") is None


@pytest.mark.parametrize(("page", "param"), [c for c in PARAMS if wrong_values(c.values[1])])
def test_other_values_are_refused(page: type[Op], param: Param) -> None:
    for raw in wrong_values(param):
        with pytest.raises(RuleError) as caught:
            param.parse(raw)
        assert str(caught.value) == (
            f"invalid parameter {param.name}: got {raw!r}, expected {param.describe()}"
        )


# Ops that take any parameter: (op, why).
OPEN = {"Custom": "hands what it does not know to the user's class, as a string"}


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in OPEN])
def test_unknown_and_missing_parameters_are_refused(name: str) -> None:
    page = CANONICAL[name]
    needed = [key for key, param in page.params.items() if param.default is REQUIRED]
    with pytest.raises(MXNetError, match="Cannot find argument 'no_such_thing'"):
        make_op(name, {"no_such_thing": 1})
    if needed:
        with pytest.raises(MXNetError, match=f"Required parameter {needed[0]} is not presented"):
            make_op(name, {"__hint__": "is ignored"})


def test_every_parameter_is_documented_in_sentences() -> None:
    docs = {case.id: case.values[1].doc for case in PARAMS}
    assert not [key for key, doc in docs.items() if not doc.endswith(".") or doc[0].islower()]
