"""Generated convolutions against the reference kernels over random geometries, and their error."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kernel_calls import call, linked_op

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.kernels.columns import has_columns
from raysym.kernels.correlation import (
    data_tiles,
    forward_tiles,
    gradient_plan,
    has_tiles,
    product_plan,
)
from raysym.kernels.geometry import Geometry
from raysym.kernels.specs import Spec
from raysym.kernels.winograd import SIDE, transforms
from raysym.op import call_kernel, make_op
from raysym.types import TensorType


class Case(NamedTuple):
    """Parameters of a Convolution, and shapes of data and weight."""

    params: dict[str, Any]
    data: tuple[int, ...]
    weight: tuple[int, ...]


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3}


def agree(name: str, params: dict[str, Any], arrays: list[np.ndarray]) -> np.ndarray:
    """Both kernels on the same arrays; what the reference makes.

    Tiles cost about half a digit: single elements may be off by 5e-6 of the largest, where the
    op suite allows 2e-6.
    """
    op, dtype = make_op(name, params), arrays[0].dtype.name
    want = call_kernel(op, np, arrays, None)[0]
    got, worker = linked_op(op, arrays, [TensorType(want.shape, dtype)])
    assert worker.found.uncovered == {}
    size, rtol = float(np.abs(want).max(initial=1)), TOLERANCE[dtype]
    np.testing.assert_allclose(got[0], want, rtol=rtol, atol=rtol / 2 * size)
    return want


def all_three_agree(case: Case, dtype: str = "float32") -> None:
    data, weight = drawn(1, *case.data).astype(dtype), drawn(2, *case.weight).astype(dtype)
    bias = drawn(3, case.weight[0]).astype(dtype)
    out = agree("Convolution", case.params, [data, weight, bias])
    grad = drawn(4, *out.shape).astype(dtype)
    shared = {key: value for key, value in case.params.items() if key != "num_filter"}
    is_last = str(case.params.get("layout")).endswith("C")
    spatial = {"spatial": case.data[1:-1] if is_last else case.data[2:]}
    agree("_backward_Convolution_data", {**shared, **spatial}, [grad, weight])
    agree("_backward_Convolution_weight", shared, [grad, data])


def test_single_cells_of_many_channels_agree() -> None:
    params = {"kernel": (1, 1), "num_filter": 40}
    all_three_agree(Case(params, (2, 70, 5, 9), (40, 70, 1, 1)))


COLUMNS = {
    "single cells with gaps": ((1, 1), (2, 2), (0, 0), (2, 330, 5, 9), 400),
    "large filters": ((3, 3), (2, 2), (1, 1), (2, 250, 7, 6), 480),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_weight_gradients_over_columns_agree(name: str) -> None:
    kernel, stride, pad, data, filters = COLUMNS[name]
    params = {"kernel": kernel, "stride": stride, "pad": pad}
    g = Geometry(*data, filters, *kernel, *stride, *pad)
    assert has_columns(g)
    grad = drawn(1, data[0], filters, *g.out)
    agree("_backward_Convolution_weight", params, [grad, drawn(2, *data)])


@st.composite
def square_cases(draw: st.DrawFn) -> Case:
    """Stride 1, 3x3 or 5x5, enough channels: the kernels by tiles."""
    r = draw(st.sampled_from([3, 5]))
    pad = draw(st.integers(0, r - 1)), draw(st.integers(0, r - 1))
    sides = st.integers(r + 2, 14)
    data = draw(st.integers(1, 5)), draw(st.integers(16, 70)), draw(sides), draw(sides)
    filters = draw(st.integers(16, 70))
    params = {"kernel": (r, r), "num_filter": filters, "pad": pad}
    return Case(params, data, (filters, data[1], r, r))


# Kernels take long to compile: few examples, and none to shrink.
SOME = settings(max_examples=5, deadline=None, derandomize=True, phases=[Phase.generate])


@SOME
@given(square_cases())
def test_tiles_agree_with_the_reference(case: Case) -> None:
    all_three_agree(case)


@st.composite
def any_cases(draw: st.DrawFn) -> Case:
    """Images of one to three axes: strides, dilation, groups, padding beyond the kernel."""
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    kernel, stride, dilate, pad, margin = (
        tuple(draw(st.integers(low, high)) for _ in range(rank))
        for low, high in ((1, 4), (1, 3), (1, 3), (0, 5), (0, 5))
    )
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, filters = groups * draw(st.integers(1, 5)), groups * draw(st.integers(1, 6))
    if draw(st.booleans()):
        groups = channels = filters = draw(st.integers(2, 37))
    spans = [d * (k - 1) + 1 for d, k in zip(dilate, kernel, strict=True)]
    sides = [max(1, span - 2 * p) + m for span, p, m in zip(spans, pad, margin, strict=True)]
    params = {"kernel": kernel, "stride": stride, "dilate": dilate, "pad": pad,
              "num_filter": filters, "num_group": groups}  # fmt: skip
    data = (draw(st.integers(1, 3)), channels, *sides)
    return Case(params, data, (filters, channels // groups, *kernel))


@settings(SOME, max_examples=25)
@given(any_cases())
def test_all_geometries_agree_with_the_reference(case: Case) -> None:
    all_three_agree(case)


@settings(SOME, max_examples=15)
@given(any_cases(), st.sampled_from(["float64", "float16"]))
def test_all_geometries_agree_in_other_dtypes(case: Case, dtype: str) -> None:
    all_three_agree(case, dtype)


@settings(SOME, max_examples=15)
@given(any_cases(), st.sampled_from(["float64", "float32"]))
def test_all_geometries_agree_with_channels_last(case: Case, dtype: str) -> None:
    layout = {1: None, 2: "NHWC", 3: "NDHWC"}[len(case.params["kernel"])]
    if layout is not None:
        data, weight = ((shape[0], *shape[2:], shape[1]) for shape in (case.data, case.weight))
        all_three_agree(Case({**case.params, "layout": layout}, data, weight), dtype)


@settings(SOME, max_examples=15)
@given(any_cases())
def test_deconvolutions_agree_with_the_reference(case: Case) -> None:
    params, (n, _, *sides) = case.params, case.data
    inner, outer = case.weight[0], case.weight[1] * params["num_group"]  # channels of data, result
    stride, dilate, pad = params["stride"], params["dilate"], params["pad"]
    made = [s * (x - 1) + d * (k - 1) + 1 - 2 * p for x, k, s, d, p in
            zip(sides, params["kernel"], stride, dilate, pad, strict=True)]  # fmt: skip
    if min(made) < 1:
        params = {**params, "pad": (0,) * len(pad)}
    params = {**params, "num_filter": outer, "adj": tuple(s - 1 for s in stride)}
    data, weight, bias = drawn(1, n, inner, *sides), drawn(2, *case.weight), drawn(4, outer)
    grad = drawn(3, *agree("Deconvolution", params, [data, weight]).shape)
    agree("Deconvolution", {**params, "no_bias": False}, [data, weight, bias])
    agree("_backward_Deconvolution_data", {**params, "spatial": tuple(sides)}, [grad, weight])
    agree("_backward_Deconvolution_weight", params, [grad, data])


BLOCKS = {
    "many blocks": Geometry(6, 64, 20, 20, 33, 3, 3, pad_h=1, pad_w=1),
    "all tiles at once": Geometry(4, 160, 7, 6, 96, 3, 3, pad_h=1, pad_w=1),
    "wide filters": Geometry(3, 48, 11, 12, 40, 5, 5, pad_h=2, pad_w=2),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_error_of_tiles_is_near_that_of_sums(name: str) -> None:
    g = BLOCKS[name]
    assert has_tiles(g)
    x, w = drawn(1, g.n, g.c, g.h, g.w), drawn(2, g.f, g.c, g.r, g.s)
    op = make_op("Convolution", {"kernel": (g.r, g.s), "num_filter": g.f, "no_bias": True,
                                 "pad": (g.pad_h, g.pad_w)})  # fmt: skip
    want = call_kernel(op, np, [x.astype(np.float64), w.astype(np.float64)], None)[0]
    got, _ = linked_op(op, [x, w], [TensorType(want.shape, "float32")])
    error = np.sqrt(np.square(got[0] - want).mean() / np.square(want).mean())
    assert error < 2e-6  # sums in float32 have 4e-7 to 1e-6 here


def test_blocks_cover_both_ways_to_run() -> None:
    plans = [plan for g in BLOCKS.values() for plan in (
        product_plan(forward_tiles(g)), product_plan(data_tiles(g)),
        gradient_plan(forward_tiles(g)))]  # fmt: skip
    assert {plan.is_whole for plan in plans} == {True, False}


def test_rows_of_data_and_taps_at_the_points_give_the_correlation() -> None:
    for m in (2, 4):
        t = transforms(m)
        data, taps = range(3, 3 + SIDE), range(2, 9 - m)
        at_points = [
            sum(a * x for a, x in zip(rows, data, strict=True))
            * sum(b * y for b, y in zip(columns, taps, strict=True))
            for rows, columns in zip(t.data, t.taps, strict=True)
        ]
        made = [
            sum(t.results[p][i] * at_points[p] for p in range(SIDE)) for i in range(m)
        ]  # in fractions: exact
        assert made == [sum(data[i + k] * taps[k] for k in range(7 - m)) for i in range(m)]


def test_tiles_leave_memory_behind_their_workspace_alone() -> None:
    g = BLOCKS["all tiles at once"]
    plan = product_plan(forward_tiles(g))
    space = np.full(plan.space + 64, 7, np.float32)
    y = np.full((g.n, *g.out, g.f + 1), 7, np.float32).ravel()
    call(Spec("tiled_forward", (tuple(g), False)), drawn(1, g.n, g.h, g.w, g.c),
         drawn(2, g.f, g.c, g.r, g.s), y, space)  # fmt: skip
    count = g.n * g.out[0] * g.out[1] * g.f
    assert (space[plan.space :] == 7).all()
    assert (y[count:] == 7).all()
