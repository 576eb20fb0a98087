"""Misuse of every op: wrong shapes, dtypes and parameters give messages of one form.

The form is ``<Op> '<node>': <what is wrong>: got <this>, expected <that>``, then lines of context.
The cases are generated from the samples and from what the pages say of their parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from op_graphs import compose
from samples import SAMPLES
from wrong_values import wrong_values

import raysym as mx
from raysym.op import CANONICAL
from raysym.params import REQUIRED, DType
from raysym.types import DTYPE_CODES

PUBLIC = [name for name, page in CANONICAL.items() if not page.internal]

# Ops that cannot be composed from a sample alone, and where their misuse is tested.
ELSEWHERE = {
    "Custom": "its rules are the user's: test_custom",
    "_foreach": "its rules are those of its body: test_control_flow",
    "_while_loop": "its rules are those of its body: test_control_flow",
    "_cond": "its rules are those of its branches: test_control_flow",
    "_contrib_boolean_mask": "refused as a whole, since its result has no static shape: see below",
}
COMPOSED = [name for name in PUBLIC if name not in ELSEWHERE]

# An unknown dtype is what numpy makes of it: a TypeError, as in MXNet's Python.
WRONG_DTYPE = (mx.MXNetError, TypeError)

# Shapes that are wrong only for parameters that no sample has.
MORE_SHAPES: dict[str, tuple[dict[str, Any], list[tuple[int, ...]]]] = {
    "Dropout": ({"axes": (5,)}, [(4, 3)]),
    "SwapAxis": ({"dim1": 0, "dim2": 4}, [(2, 3)]),
    "_contrib_index_array": ({"axes": (4,)}, [(2, 3)]),
    "_slice_assign_scalar": ({"begin": (5,), "end": (9,)}, [(3, 4)]),
    "argsort": ({"axis": 3}, [(2, 3)]),
    "diag": ({"k": 9}, [(2, 3)]),
    "expand_dims": ({"axis": 5}, [(2, 3)]),
    "softmin": ({"axis": 3}, [(2, 3)]),
}

# Ops that take every shape.
ANY_SHAPE = {
    "one input, of which every element stands for itself": """
        abs negative sign logical_not square sqrt rsqrt cbrt rcbrt reciprocal exp expm1 log log2
        log10 log1p floor ceil trunc fix round rint relu sigmoid softsign tanh erf erfinv gamma
        gammaln Activation clip smooth_l1 hard_sigmoid Cast amp_cast _copy BlockGrad zeros_like
        ones_like MakeLoss make_loss sin cos tan arcsin arccos arctan sinh cosh arcsinh arccosh
        arctanh degrees radians _contrib_quadratic _contrib_round_ste _contrib_sign_ste
        _contrib_gradientmultiplier _plus_scalar _minus_scalar _rminus_scalar _mul_scalar
        _div_scalar _rdiv_scalar _power_scalar _rpower_scalar _mod_scalar _rmod_scalar
        _maximum_scalar _minimum_scalar _hypot_scalar _equal_scalar _not_equal_scalar
        _greater_scalar _greater_equal_scalar _lesser_scalar _lesser_equal_scalar
        _logical_and_scalar _logical_or_scalar _logical_xor_scalar _scatter_plus_scalar
        _scatter_minus_scalar one_hot _unravel_index""",
    "one input, of which only the last or the first axis counts, or all together": """
        SoftmaxActivation Flatten _contrib_div_sqrt_dim all_finite tile _linalg_makediag
        shape_array size_array _shuffle _sample_multinomial""",
    "several inputs that need not be alike": "amp_multicast multi_all_finite multi_sum_sq",
    "parameters of distributions, one by one": "_sample_exponential _sample_poisson",
    "the shape of numbers to draw": """
        _random_uniform_like _random_normal_like _random_gamma_like _random_exponential_like
        _random_poisson_like _random_negative_binomial_like
        _random_generalized_negative_binomial_like""",
    "no input": """
        _zeros _ones _full _zeros_without_dtype _arange _linspace _eye _random_uniform
        _random_normal _random_gamma _random_exponential _random_poisson _random_negative_binomial
        _random_generalized_negative_binomial _random_randint _sample_unique_zipfian""",
}


def listed(groups: dict[str, str]) -> set[str]:
    return {name for names in groups.values() for name in names.split()}


# ----- composing and checking


def refusals(attempts: Iterator[Callable[[], Any]]) -> list[str]:
    """The messages of those attempts that are refused; any other exception is a failure."""
    found = []
    for attempt in attempts:
        try:
            attempt()
        except mx.MXNetError as error:
            found.append(str(error))
    return found


def check_form(name: str, messages: list[str]) -> None:
    form = re.compile(
        rf"{re.escape(name)} 'node': [^\n]+: got [^\n]+, expected [^\n]+(\n  [^\n]+){{0,3}}$"
    )
    assert [message for message in messages if not form.match(message)] == []


# ----- shapes


def other_shapes(shapes: list[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """One input at a time gets another rank or another length."""
    for i, shape in enumerate(shapes):
        first, last = shape[:1], shape[-1:]
        wrong = [(*shape, 7), shape[:-1], (7,) * (len(shape) + 2), (7,)]
        wrong += [tuple(n + 6 for n in first) + shape[1:], shape[:-1] + tuple(n + 6 for n in last)]
        yield from ([*shapes[:i], w, *shapes[i + 1 :]] for w in wrong if w and w != shape)


def shape_attempts(name: str) -> Iterator[Callable[[], Any]]:
    for sample in SAMPLES[name]:
        symbol = compose(name, sample.params, sample)
        for shapes in other_shapes([array.shape for array in sample.arrays()]):
            given = {f"x{i}": shape for i, shape in enumerate(shapes)}
            yield lambda symbol=symbol, given=given: symbol.infer_shape_partial(**given)
    if name in MORE_SHAPES:
        params, shapes = MORE_SHAPES[name]
        symbol = compose(name, {**SAMPLES[name][0].params, **params})
        yield lambda: symbol.infer_shape_partial(**{f"x{i}": s for i, s in enumerate(shapes)})


@pytest.mark.parametrize("name", [name for name in COMPOSED if name not in listed(ANY_SHAPE)])
def test_wrong_shapes(name: str) -> None:
    messages = refusals(shape_attempts(name))
    assert messages, "no shape is refused: list the op in ANY_SHAPE with the reason"
    check_form(name, messages)


def test_ops_that_take_any_shape_do() -> None:
    for name in sorted(listed(ANY_SHAPE)):
        assert refusals(shape_attempts(name)) == [], name


# ----- dtypes


def dtype_attempts(name: str) -> Iterator[Callable[[], Any]]:
    for sample in SAMPLES[name]:
        symbol = compose(name, sample.params, sample)
        dtypes = [array.dtype.name for array in sample.arrays()]
        for i in range(len(dtypes)):
            for other in DTYPE_CODES:
                given = {f"x{j}": other if j == i else d for j, d in enumerate(dtypes)}
                yield lambda symbol=symbol, given=given: symbol.infer_type_partial(**given)


@pytest.mark.parametrize("name", COMPOSED)
def test_wrong_dtypes(name: str) -> None:
    check_form(name, refusals(dtype_attempts(name)))


# Ops of several inputs of which each may have any dtype; those of one input contradict nobody.
FREE_DTYPES = {
    "of one input only the shape counts":
        "slice_like broadcast_like reshape_like Crop _identity_with_attr_like_rhs",
    "indices, labels or lengths may have any type beside the data": """
        Embedding _contrib_SparseEmbedding take pick batch_take gather_nd scatter_nd
        SequenceMask SequenceReverse SequenceLast""",
    "bins are numbers, whatever is counted": "_histogram",
    "each input is looked at by itself": "multi_all_finite",
}  # fmt: skip


def test_ops_of_several_inputs_have_a_dtype_rule_or_are_listed() -> None:
    several = {name for name in COMPOSED if any(len(s.inputs) > 1 for s in SAMPLES[name])}
    free = {name for name in several if not refusals(dtype_attempts(name))}
    assert free == listed(FREE_DTYPES)


def test_a_result_without_static_shape_is_refused() -> None:
    masked = mx.sym.contrib.boolean_mask(mx.sym.Variable("x"), mx.sym.Variable("mask"))
    with pytest.raises(mx.MXNetError, match=r"mask0': the shape of the output would depend on"):
        masked.infer_shape(x=(4, 3), mask=(4,))


# ----- parameters


def parameter_attempts(name: str) -> Iterator[tuple[str, Any, Callable[[], Any]]]:
    sample = SAMPLES[name][0]
    for key, param in CANONICAL[name].params.items():
        for raw in wrong_values(param) if key != CANONICAL[name].variadic else ():
            yield (
                key,
                raw,
                lambda key=key, raw=raw: compose(name, {**sample.params, key: raw}, sample),
            )


@pytest.mark.parametrize("name", [name for name in COMPOSED if CANONICAL[name].params])
def test_wrong_parameter_values(name: str) -> None:
    for key, raw, attempt in parameter_attempts(name):
        param = CANONICAL[name].params[key]
        with pytest.raises(WRONG_DTYPE if param.kind is DType else mx.MXNetError) as caught:
            attempt()
        said = str(caught.value)
        got = re.escape(repr(raw) if isinstance(raw, str) else repr(str(raw)))
        what = rf"(invalid parameter|data type not understood:) {key}: got {got}"
        wanted = f"expected {re.escape(param.describe())}"
        place = "" if param.kind is DType else r"\n  made at .*:\d+"
        assert re.match(rf"{re.escape(name)} 'node': {what}, {wanted}{place}", said), said


@pytest.mark.parametrize("name", COMPOSED)
def test_unknown_parameters(name: str) -> None:
    sample = SAMPLES[name][0]
    with pytest.raises(mx.MXNetError) as caught:
        compose(name, {**sample.params, "no_such_thing": 1}, sample)
    known = ", ".join(CANONICAL[name].params) or "none"
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"{name} 'node': Cannot find argument 'no_such_thing'")
    assert first.endswith(f"Possible Arguments: {known}")


@pytest.mark.parametrize("name", COMPOSED)
def test_missing_parameters(name: str) -> None:
    page, sample = CANONICAL[name], SAMPLES[name][0]
    for key, param in page.params.items():
        if param.default is REQUIRED and key != page.variadic:
            params = {k: v for k, v in sample.params.items() if k != key}
            with pytest.raises(mx.MXNetError, match=f"Required parameter {key} is not presented"):
                compose(name, params, sample)
