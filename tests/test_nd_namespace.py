"""mx.nd: creation, functions made from pages with signatures and manual pages, random numbers."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

from raysym import nd
from raysym.context import cpu
from raysym.errors import MXNetError
from raysym.graph import apply
from raysym.op import CANONICAL, REGISTRY, Op
from raysym.opdoc import FLUENT_METHODS, doc_of, public_functions, python_name, signature_of
from raysym.random_state import generator, next_draw, seed


def same(got, want):
    np.testing.assert_array_equal(got.asnumpy(), want)


# ----- creation


@pytest.mark.parametrize(
    "source",
    [np.array([1, 2]), np.array([1.0, 2.0]), np.array([1, 2], np.float16), [1, 2], (1, 2)],
)
def test_array_gives_float32(source):
    made = nd.array(source)
    assert made.dtype is np.float32
    same(made, [1, 2])


def test_array_keeps_the_dtype_of_arrays_and_obeys_dtype():
    source = nd.array([1], dtype="int32")
    assert nd.array(source).dtype is np.int32
    assert nd.array(source, dtype="float64").dtype is np.float64
    assert nd.array([1.9], dtype=np.int8).asnumpy()[0] == 1
    assert nd.array(3).shape == ()
    assert nd.array([1], ctx=cpu(1)).context == cpu(1)


@pytest.mark.parametrize("source", ["abc", [[1], [2, 3]], object()])
def test_array_refuses_what_is_no_array(source):
    with pytest.raises(TypeError, match="source_array must be array like"):
        nd.array(source)


def test_array_refuses_wrong_arguments():
    with pytest.raises(KeyError, match="complex64"):
        nd.array([1], dtype="complex64")
    with pytest.raises(TypeError, match="ctx: got 'cpu', expected a Context"):
        nd.array([1], ctx="cpu")


def test_constant_arrays():
    same(nd.zeros(3), [0, 0, 0])
    same(nd.ones((1, 2), dtype="int8"), [[1, 1]])
    same(nd.full((2,), 3.5), [3.5, 3.5])
    assert nd.full(2, 3, dtype="int32").dtype is np.int32
    assert nd.empty([2, 3]).shape == (2, 3)
    target = nd.zeros(2)
    assert nd.ones(2, out=target) is target
    same(target, [1, 1])
    for shape in [(0, 2), (2, -1)]:
        with pytest.raises(MXNetError, match="every dimension must be at least 1"):
            nd.zeros(shape)


def test_ranges():
    same(nd.arange(3), [0, 1, 2])
    same(nd.arange(2, 6, 2, repeat=2, dtype="int32"), [2, 2, 4, 4])
    same(nd.linspace(0, 1, 5), [0, 0.25, 0.5, 0.75, 1])
    same(nd.linspace(0, 1, 4, endpoint=False), [0, 0.25, 0.5, 0.75])
    same(nd.eye(2, 3, 1), [[0, 1, 0], [0, 0, 1]])
    with pytest.raises(MXNetError, match="no elements"):
        nd.arange(5, 2)


# ----- functions of two operands


def test_functions_take_arrays_and_numbers():
    a, b = nd.array([1, 4]), nd.array([[3], [2]])
    same(nd.add(a, b), [[4, 7], [3, 6]])
    same(nd.subtract(1, a), [0, -3])
    same(nd.divide(2, a), [2, 0.5])
    same(nd.modulo(5, a), [0, 1])
    same(nd.power(2, a), [2, 16])
    same(nd.maximum(a, b), [[3, 4], [2, 4]])
    same(nd.minimum(2, a), [1, 2])
    same(nd.greater(2, a), [1, 0])
    same(nd.lesser_equal(a, 1), [1, 0])
    same(nd.logical_xor(a, 0), [1, 1])
    assert nd.maximum(1, 3) == 3
    assert nd.equal(1, 3) == 0
    with pytest.raises(TypeError, match=r"nd\.add: got NDArray and str"):
        nd.add(a, "x")


def test_functions_that_are_no_single_op():
    a = nd.array(np.arange(6).reshape(2, 3))
    same(nd.concatenate([a, a], axis=1), np.concatenate([a.asnumpy()] * 2, 1))
    assert nd.concatenate([a], always_copy=False) is a
    assert nd.moveaxis(nd.zeros((3, 4, 5)), [0, 1], [-1, -2]).shape == (5, 4, 3)
    same(nd.onehot_encode(nd.array([1, 0]), nd.zeros((2, 3))), [[0, 1, 0], [1, 0, 0]])
    with pytest.raises(ValueError, match="got no arrays"):
        nd.concatenate([])


def test_split_v2_and_histogram():
    parts = nd.split_v2(nd.arange(6), (2, 3))
    assert [part.shape for part in parts] == [(2,), (1,), (3,)]
    counts, edges = nd.histogram(nd.array([0, 1, 1, 3]), bins=2, range=(0, 4))
    same(counts, [3, 1])
    same(edges, [0, 2, 4])
    with pytest.raises(ValueError, match="expected an int or a tuple"):
        nd.split_v2(nd.arange(6), [2, 3])
    with pytest.warns(UserWarning, match="range is not specified"):
        nd.histogram(nd.array([0, 1, 1, 3]))


# ----- functions made from pages


def test_inputs_and_parameters_by_position_and_by_name():
    x, w, b = nd.ones((2, 3)), nd.ones((4, 3)), nd.ones(4)
    want = np.full((2, 4), 4)
    same(nd.FullyConnected(x, w, b, 4), want)
    same(nd.FullyConnected(weight=w, bias=b, data=x, num_hidden="4"), want)
    same(nd.FullyConnected(x, w, None, 4, True), want - 1)
    same(nd.FullyConnected(x, w, num_hidden=4, no_bias=True, name="fc"), want - 1)


def test_several_outputs_come_as_a_list():
    parts = nd.split(nd.ones((2, 4)), num_outputs=2)
    assert [part.shape for part in parts] == [(2, 2), (2, 2)]
    assert nd.split(nd.ones((2, 4)), num_outputs=1).shape == (2, 4)


def test_open_dimensions_come_from_out():
    target = nd.ones((2, 3))
    nd._internal._zeros(shape=(0, 3), out=target)
    same(target, np.zeros((2, 3)))
    with pytest.raises(MXNetError, match="no elements, or an undecided shape"):
        nd._internal._zeros(shape=(0, 3))


def test_the_number_of_inputs_may_be_free():
    same(nd.add_n(nd.ones(2), nd.ones(2), nd.ones(2)), [3, 3])
    assert nd.concat(nd.ones((2, 1)), nd.ones((2, 2)), dim=1).shape == (2, 3)
    same(nd.add_n(arg1=nd.ones(2), arg0=nd.zeros(2)), [1, 1])
    with pytest.raises(MXNetError, match="input foo not found: expected arg0, arg1"):
        nd.add_n(nd.ones(2), foo=nd.ones(2))


def test_parameters_may_decide_the_number_of_inputs():
    first, second, grad = nd.ones(2), nd.ones(2), nd.ones(2)
    given = {"lrs": (0.5, 0.25), "wds": (0, 0), "num_weights": 2}
    nd.multi_sgd_update(first, grad, second, grad, out=[first, second], **given)
    same(first, [0.5, 0.5])
    same(second, [0.75, 0.75])
    with pytest.raises(MXNetError, match="got 3, expected 4"):
        nd.multi_sgd_update(first, grad, second, **given)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: nd.exp(2), AssertionError, "argument data must have NDArray type, but got 2"),
        (lambda x: nd.exp(np.ones(2)), AssertionError, "must have NDArray type"),
        (lambda x: nd.exp(), MXNetError, r"got 0, expected 1 \(data\)"),
        (lambda x: nd.add_n([x, x]), AssertionError, "argument arg0 must have NDArray type"),
        (lambda x: nd.exp(x, None, None, 1), TypeError, "expected at most 3: data, out, name"),
        (lambda x: nd.FullyConnected(x, num_hidden=4), MXNetError, "got 1, expected 3"),
        (lambda x: nd.FullyConnected(x, x), MXNetError, "Required parameter num_hidden"),
        (lambda x: nd.FullyConnected(x, x, x, 0), MXNetError, "expected an int >= 1"),
        (lambda x: nd.FullyConnected(x, x, foo=1), MXNetError, "Cannot find argument 'foo'"),
        (lambda x: nd.FullyConnected(x, x, x, 3, num_hidden=3), TypeError, "two values"),
        (
            lambda x: nd.FullyConnected(x, x, bias=x, num_hidden=3, no_bias=True),
            MXNetError,
            "input bias not found: expected data, weight",
        ),
        (
            lambda x: nd.FullyConnected(x, nd.ones((4, 5)), num_hidden=4, no_bias=True),
            MXNetError,
            r"weight does not fit: shape does not match: got \(4, 5\), expected \(4, 3\)",
        ),
    ],
)
def test_wrong_calls_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(nd.ones((2, 3)))


def test_every_page_has_its_functions():
    for name, page in REGISTRY.items():
        if page.internal or name == "null":
            continue
        *path, last = python_name(name).split(".")
        module = getattr(nd, path[0]) if path else nd.op
        assert getattr(module, last).__doc__ == doc_of(page), name


def test_prefixes_decide_the_namespace():
    assert python_name("_linalg_gemm2") == "linalg.gemm2"
    assert python_name("linalg_gemm2") == "linalg_gemm2"
    assert python_name("_contrib_CTCLoss") == "contrib.CTCLoss"
    assert python_name("_random_uniform") == "_internal._random_uniform"
    assert python_name("_random_uniform_like") == "random.uniform_like"
    assert python_name("_plus_scalar") == "_internal._plus_scalar"
    assert "null" not in public_functions()


def test_internal_ops_are_no_functions():
    assert not hasattr(nd, "_sum_to")
    assert not hasattr(nd._internal, "_sum_to")
    with pytest.raises(AttributeError, match=r"no attribute 'FullyConected'. Did you mean 'Fully"):
        nd.FullyConected  # noqa: B018  (the access is the test)


def test_modules_list_their_functions():
    assert {"FullyConnected", "array", "exp", "random"} <= set(dir(nd))
    assert {"uniform", "uniform_like"} <= set(dir(nd.random))


def test_signatures_and_manual_pages_tell_everything():
    signature = inspect.signature(nd.FullyConnected)
    assert list(signature.parameters)[:4] == ["data", "weight", "bias", "num_hidden"]
    assert repr(signature.parameters["num_hidden"].default) == "<required>"
    assert signature.parameters["flatten"].default is True
    for page in CANONICAL.values():
        text = doc_of(page, "Symbol")
        for param in page.params.values():
            assert f"{param.name} : {param.describe()}, " in text
            assert param.doc in text
        for slot in page.inputs:
            assert f"{slot} : Symbol" in text
        assert page.variadic or {*page.inputs, *page.params} <= {*signature_of(page).parameters}


def test_methods_are_ops():
    missing = [name for name in FLUENT_METHODS if not hasattr(nd.NDArray, name)]
    assert missing == []


def test_ops_run_as_in_inference():
    x = nd.ones((40,))
    same(nd.Dropout(x, p=0.5), np.ones(40))
    gamma = nd.full((3,), 5)
    data, zeros, ones = nd.full((2, 3), 4), nd.zeros(3), nd.ones(3)
    out = nd.BatchNorm(data, gamma, zeros, ones, ones, eps=1e-5)
    np.testing.assert_allclose(out.asnumpy(), np.full((2, 3), 3), rtol=1e-4)
    # fix_gamma writes ones into gamma, as the reference does.
    same(gamma, [1, 1, 1])


class Step(Op):
    """An update op: a new weight, and a new count of steps as a hidden output."""

    inputs = ("weight", "grad", "count", "seen")
    outputs = ("output", "new_count")
    hidden = 1

    def forward(self, xp, weight, grad, count, seen):
        return weight - grad, count + 1

    def forward_updates(self, ins, outs):
        return {2: outs[1], 3: apply("elemwise_add", ins[3], apply("square", ins[1]))}


def test_ops_write_into_their_inputs(monkeypatch):
    monkeypatch.setitem(REGISTRY, "Step", Step)
    weight, grad, count, seen = nd.ones(2), nd.full(2, 3), nd.zeros(2), nd.ones(2)
    made = nd.Step(weight, grad, count, seen)
    same(made, [-2, -2])
    same(weight, [1, 1])
    same(count, [1, 1])
    same(seen, [10, 10])
    nd.Step(weight, grad, count, seen, out=weight)
    same(weight, [-2, -2])
    same(count, [2, 2])
    del nd.Step


def test_update_ops_write_their_states():
    weight, grad, mom = nd.ones(2), nd.ones(2), nd.zeros(2)
    made = nd.sgd_mom_update(weight, grad, mom, lr=0.1, momentum=0.9)
    np.testing.assert_allclose(mom.asnumpy(), [-0.1, -0.1], rtol=1e-6)
    np.testing.assert_allclose(made.asnumpy(), [0.9, 0.9], rtol=1e-6)
    same(weight, [1, 1])
    nd.sgd_mom_update(weight, grad, mom, lr=0.1, momentum=0.9, out=weight)
    np.testing.assert_allclose(weight.asnumpy(), [0.81, 0.81], rtol=1e-6)


# ----- random numbers


def test_the_seed_decides_all_draws():
    seed(7)
    first = [nd.random.uniform(0, 1, (3,)).asnumpy() for _ in range(2)]
    nd.random.seed(7)
    again = [nd.random.uniform(0, 1, (3,)).asnumpy() for _ in range(2)]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(*first)
    seed(8)
    assert not np.array_equal(first[0], nd.random.uniform(0, 1, (3,)).asnumpy())
    with pytest.raises(TypeError, match=r"random\.seed: got 'x', expected an int"):
        seed("x")


def test_draws_are_counted_and_generators_are_keyed():
    seed(3)
    assert [next_draw(), next_draw()] == [(3, 0), (3, 1)]
    numbers = generator(3, "dropout0", 5).random(4)
    np.testing.assert_array_equal(numbers, generator(3, "dropout0", 5).random(4))
    for other in [(4, "dropout0", 5), (3, "dropout1", 5), (3, "dropout0", 6)]:
        assert not np.array_equal(numbers, generator(*other).random(4))


def test_samplers_take_numbers_or_arrays():
    assert nd.random.uniform().shape == (1,)
    assert nd.random.normal(shape=(2, 3)).shape == (2, 3)
    assert nd.random.randn(2, 3).shape == (2, 3)
    assert nd.random.randint(0, 5, shape=4).dtype is np.int32
    each = nd.random.normal(nd.array([0, 100]), nd.array([1, 1]), shape=50).asnumpy()
    assert each.shape == (2, 50)
    assert each[0].max() < 50 < each[1].min()
    target = nd.zeros(5)
    assert nd.random.exponential(2.0, out=target) is target
    assert (target.asnumpy() > 0).all()
    with pytest.raises(AssertionError, match="only numbers or only NDArrays"):
        nd.random.uniform(nd.array([0]), 1)


def test_multinomial_and_shuffle():
    draws = nd.random.multinomial(nd.array([0, 0, 1]), shape=10)
    same(draws, [2] * 10)
    shuffled = nd.random.shuffle(nd.arange(20)).asnumpy()
    assert sorted(shuffled) == list(range(20))


def test_import_is_light():
    probe = (
        "import sys, raysym.nd; print([m for m in ('ray','cupy','pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ----- control flow


def test_foreach_runs_over_rows():
    outs, states = nd.contrib.foreach(
        lambda row, states: (row + states[0], [states[0] * 2]),
        nd.array([[1, 2], [3, 4], [5, 6]]),
        [nd.ones(2)],
    )
    same(outs, [[2, 3], [5, 6], [9, 10]])
    same(states[0], [8, 8])
    with pytest.raises(AssertionError, match="foreach: data: got int"):
        nd.contrib.foreach(lambda row, states: (row, states), 3, [])


def test_foreach_keeps_the_nesting():
    outs, _ = nd.contrib.foreach(
        lambda rows, states: ([rows[0], [rows[1]]], states),
        [nd.zeros((2, 3)), nd.ones((2, 4))],
        nd.zeros(1),
    )
    assert outs[0].shape == (2, 3)
    assert outs[1][0].shape == (2, 4)


def test_while_loop_pads_with_zeros():
    outs, states = nd.contrib.while_loop(
        lambda i, s: i <= 3,
        lambda i, s: ([i + s], [i + 1, s + i]),
        (nd.array([1]), nd.array([1])),
        max_iterations=5,
    )
    same(outs[0], [[2], [4], [7], [0], [0]])
    assert [state.item() for state in states] == [4, 7]
    with pytest.raises(ValueError, match="max_iterations is needed"):
        nd.contrib.while_loop(lambda i: i, lambda i: (i, i), nd.ones(1))
    with pytest.raises(ValueError, match="loop_vars: got 0, expected 1"):
        nd.contrib.while_loop(lambda i: i, lambda i: (i, None), nd.ones(1), 3)


def test_cond_runs_one_branch():
    x = nd.array([2])
    same(nd.contrib.cond(x > 1, lambda: x * 2, lambda: x / 0), [4])
    same(nd.contrib.cond(x > 3, lambda: x * 2, lambda: x - 1), [1])


def test_special_values():
    x = nd.array([1, np.nan, np.inf, -np.inf])
    same(nd.contrib.isnan(x), [0, 1, 0, 0])
    same(nd.contrib.isinf(x), [0, 0, 1, 1])
    same(nd.contrib.isfinite(x), [1, 0, 0, 0])
