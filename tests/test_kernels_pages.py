"""Lazy arrays: views, folds and lookups give NumPy's numbers, and the rest is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_calls import call

from raysym.kernels import staged  # noqa: F401  (enters its maker)
from raysym.kernels.expressions import Untraceable, regrouped
from raysym.kernels.lazy import Lazy, Recorder
from raysym.kernels.lazy_numpy import LazyNumpy
from raysym.kernels.maps import step_of
from raysym.kernels.pages import formula, traced
from raysym.kernels.specs import Spec
from raysym.op import Op, make_op
from raysym.planning.plan import Run
from raysym.types import TensorType

Function = Callable[[Any, Any], Any]


def computed(function: Function, x: np.ndarray) -> np.ndarray:
    """What a function of an array library and an array gives, by generated code."""
    recorder = Recorder()
    made = function(LazyNumpy(recorder), recorder.input(x.shape, x.dtype.name)).copy()
    whole = recorder.buffer(made.shape, made.node.dtype)
    recorder.store([(whole.node, made)])
    memory = [x, *(np.full(size, 99, dtype) for size, dtype in recorder.buffers[1:])]
    for i, known in recorder.tables.items():
        memory[i] = np.frombuffer(known, memory[i].dtype)
    call(Spec("staged", (len(memory), (), tuple(recorder.stages))), *memory)
    return memory[-1].reshape(made.shape)


def numbers(*shape: int, dtype: str = "float32") -> np.ndarray:
    return (np.random.default_rng(len(shape)).normal(size=shape) * 3).astype(dtype)


def random_view(rng: np.random.Generator, shape: tuple[int, ...]) -> Function:
    """A view that an array of this shape has."""
    axis = int(rng.integers(len(shape)))
    lead = (slice(None),) * axis
    begin = int(rng.integers(shape[axis]))
    step = int(rng.choice([1, 2, -1]))
    cut = (*lead, slice(begin, None, step))
    order = [int(i) for i in rng.permutation(len(shape))]
    pieces = [n for size in shape for n in ((2, size // 2) if size % 2 == 0 else (size,))]
    views: list[Function] = [
        lambda xp, a: a[cut],
        lambda xp, a: a.transpose(*order),
        lambda xp, a: a.reshape(pieces),
        lambda xp, a: a.reshape(-1) if a.ndim > 3 else a[..., None, :],
        lambda xp, a: xp.flip(a, axis),
        lambda xp, a: xp.broadcast_to(a, (2, *shape)) if len(shape) < 4 else a.swapaxes(0, -1),
        lambda xp, a: xp.concatenate([a, a[cut]], axis),
        lambda xp, a: a + a.sum(axis=axis, keepdims=True) * 0.5,
    ]
    return views[rng.integers(len(views))]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), dtype=st.sampled_from(["float32", "float64", "int32"]))
def test_chains_of_views_are_those_of_numpy(seed: int, dtype: str) -> None:
    rng, x = np.random.default_rng(seed), numbers(3, 4, 5, dtype=dtype)
    steps: list[Function] = []
    want = x
    for _ in range(5):
        view = random_view(rng, want.shape)
        if want.size > 4000:
            break
        steps.append(view)
        want = view(np, want).astype(dtype)

    def all_steps(xp: Any, a: Any) -> Any:
        for step in steps:
            a = step(xp, a).astype(dtype)
        return a

    # Integers come from fractions in one step, and rounding may differ by one there.
    got = computed(all_steps, x)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 if dtype != "int32" else 1)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_regrouped_strides_are_those_of_a_reshaped_view(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = np.arange(4 * 6 * 5 * 2).reshape(4, 6, 5, 2).transpose(rng.permutation(4))
    seen = base[tuple(slice(None, None, int(s)) for s in rng.choice([1, 1, 2], 4))]
    new = tuple(int(n) for n in rng.permutation(seen.shape)) if rng.random() < 0.3 else (-1,)
    new = (*seen.shape[:2], -1) if rng.random() < 0.4 else new
    want = seen.reshape(new)
    steps = regrouped(seen.shape, [s // 8 for s in seen.strides], want.shape)
    if steps is None:
        assert not np.shares_memory(want, seen)  # NumPy had to copy as well
    else:
        view = np.lib.stride_tricks.as_strided(seen, want.shape, [8 * s for s in steps])
        np.testing.assert_array_equal(view, want)


@pytest.mark.parametrize(
    "function",
    [
        lambda xp, a: a @ a.swapaxes(1, 2),
        lambda xp, a: xp.matmul(a.transpose(2, 0, 1), a[0, :, 1:3]) + 1,
        lambda xp, a: a[:, None] @ (a * 2).transpose(0, 2, 1),
        lambda xp, a: xp.broadcast_to(a[0].T, (3, 5, 4)) @ a,
        lambda xp, a: a @ xp.linspace(0, 1, 10, dtype="float32").reshape(5, 2),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_stacks_are_those_of_numpy(function: Function, dtype: str) -> None:
    x = numbers(3, 4, 5, dtype=dtype)
    np.testing.assert_allclose(computed(function, x), function(np, x), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda xp, a: a[xp.asarray([2, 0, -1])],
        lambda xp, a: a[xp.asarray([[1], [-3]]), xp.asarray([[0, 3, 1]])],
        lambda xp, a: sum(row * i for i, row in enumerate(a)),
        lambda xp, a: xp.arange(-7, 53).reshape(a.shape) // xp.asarray([3, -2, 1, 7, -1]),
        lambda xp, a: xp.arange(-7, 53).reshape(a.shape) % xp.asarray([3, -2, 1, 7, -1]),
        lambda xp, a: xp.split(a, 2, axis=1)[1],
        lambda xp, a: xp.lib.stride_tricks.as_strided(a, (3, 3, 2, 5), (80, 20, 20, 4)),
    ],
)
def test_elements_at_known_places_are_those_of_numpy(function: Function) -> None:
    x = numbers(3, 4, 5)
    np.testing.assert_array_equal(computed(function, x), function(np, x))


@pytest.mark.parametrize(
    "function",
    [
        lambda xp, a: a.sum(axis=(0, 2)),
        lambda xp, a: a.cumsum(axis=1),
        lambda xp, a: xp.cumsum(a > 0, axis=0) * 1.0,
        lambda xp, a: a.max(axis=1),
        lambda xp, a: (1 + a * 0.01).prod(axis=(1, 2)),
        lambda xp, a: a.argmax(axis=1).astype("float32"),
        lambda xp, a: (a > 0).sum(axis=0).astype("float32"),
        lambda xp, a: xp.take(a, xp.clip(a[0, 0], 0, 4).astype("int64"), axis=1)[..., :4],
        lambda xp, a: xp.exp(a) / xp.exp(a).sum(axis=1, keepdims=True),
        lambda xp, a: xp.pad(a, [(0, 0), (1, 2), (2, 0)], mode="reflect"),
    ],
)
def test_functions_are_those_of_numpy(function: Function) -> None:
    x = numbers(3, 5, 70)
    np.testing.assert_allclose(computed(function, x), function(np, x), rtol=1e-5, atol=1e-5)


def test_writing_over_a_view_leaves_the_array() -> None:
    def function(xp: Any, a: Any) -> Any:
        b = a.astype("float32")
        b[1] = 7
        b *= 2
        return a + b

    x = numbers(3, 5)
    np.testing.assert_allclose(computed(function, x), function(np, x), rtol=1e-6)


def test_parts_are_changed_in_place() -> None:
    def function(xp: Any, a: Any) -> Any:
        b = a + 0
        b[1] += a[0]
        b[:, 2] *= 2
        b[..., 1:] -= b[0, 0]
        return b

    x = numbers(3, 5)
    np.testing.assert_allclose(computed(function, x), function(np, x), rtol=1e-6)


def write_view(b: Any, v: Any) -> Any:
    v += 1
    return b


def write_part_of_view(b: Any, v: Any) -> Any:
    v[0] = 7
    return b


def write_array(b: Any, v: Any) -> Any:
    b *= 2
    return v


def write_part_of_array(b: Any, v: Any) -> Any:
    b[2] = 7
    return v


def write_elsewhere(b: Any, v: Any) -> Any:
    v += 1
    b[:2] = v
    return b


@pytest.mark.parametrize(
    "change", [write_view, write_part_of_view, write_array, write_part_of_array, write_elsewhere]
)
def test_writes_that_views_would_share_are_refused(change: Callable[[Any, Any], Any]) -> None:
    recorder = Recorder()
    b = recorder.input((3, 5), "float32") + 0
    with pytest.raises(Untraceable, match="another view"):
        _ = change(b, b[1:]).node


def test_a_condition_along_the_first_axis_is_no_broadcast() -> None:
    op, data = make_op("where", {}), TensorType((5, 5), "float32")
    assert formula(op, (data, data, data), (data,)) is not None
    rows = TensorType((5,), "float32")
    assert formula(op, (rows, data, data), (data,)) is None
    assert traced(op, (rows, data, data), (data,)) is not None


@pytest.mark.parametrize(
    "function",
    [
        lambda xp, a: 1 if (a > 0).any() else 2,
        lambda xp, a: xp.argsort(a),
        lambda xp, a: a[a > 0],
        lambda xp, a: a[:, 0] + xp.linspace(0, 1, 1 << 15),
        lambda xp, a: a @ a[0],
        lambda xp, a: xp.sin(a) if float(a[0, 0]) else a,
    ],
)
def test_what_cannot_be_followed_is_refused(function: Function) -> None:
    recorder = Recorder()
    with pytest.raises(Untraceable):
        function(LazyNumpy(recorder), recorder.input((2, 3), "float32"))


def test_inputs_that_give_only_their_shape_are_not_read() -> None:
    op = make_op("_scale_by_depth", {"depth_of": 6})
    x, like = TensorType((8, 2, 3), "float32"), TensorType((2, 4, 96), "float32")
    step = step_of(Run(("y",), op, ("x", "like")), {"x": x, "like": like, "y": x})
    assert step is not None
    assert step.operands == (0,)


def test_a_page_that_goes_wrong_runs_its_reference() -> None:
    class _odd(Op):
        """A page of no use."""

        def forward(self, xp: Any, *arrays: Any) -> Any:
            raise ZeroDivisionError

    kind = TensorType((2, 3), "float32")
    assert traced(_odd({}), (kind,), (kind,)) is None


def test_a_softmax_is_a_kernel_of_four_stages() -> None:
    kind = TensorType((4, 5, 6), "float32")
    made = traced(make_op("softmax", {"axis": 1}), (kind,), (kind,))
    assert made is not None
    stages = made.spec.args[2]
    assert [stage.fold or "store" for stage in stages] == ["maximum", "store", "add", "store"]


def test_lazy_arrays_say_what_numpy_arrays_say() -> None:
    recorder = Recorder()
    x = recorder.input((2, 3), "float32")
    assert isinstance(x, Lazy)
    assert (x.shape, x.ndim, x.size, len(x), x.dtype) == ((2, 3), 2, 6, 2, np.float32)
    assert x.T.shape == (3, 2)
    assert (x * 2).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float64
    assert (np.float32(1) - x).dtype == np.float32
    assert (x > 0).dtype == np.bool_
