"""NDArray: views, writes, indexing, operators, copies, storage shared with executors."""

import copy
import pickle

import numpy as np
import pytest
from device_array import DeviceArray, StandIn
from hypothesis import given, settings
from hypothesis import strategies as st

from raysym import device, nd
from raysym.chunk import Chunk
from raysym.context import Context, cpu, gpu
from raysym.errors import MXNetError
from raysym.ndarray import NDArray, invoke
from raysym.op import make_op


@pytest.fixture
def x():
    return nd.array(np.arange(6).reshape(2, 3))


@pytest.fixture
def y():
    return nd.array(np.arange(24).reshape(2, 3, 4))


def same(got, want):
    np.testing.assert_array_equal(got.asnumpy(), want)


# ----- what it is


def test_members(x):
    assert (x.shape, x.size, x.ndim, x.stype) == ((2, 3), 6, 2, "default")
    assert x.dtype is np.float32
    assert x.context == x.ctx == cpu(0)
    assert x.grad is None
    assert len(x) == 2
    same(x.T, [[0, 3], [1, 4], [2, 5]])


def test_repr_is_mxnets(x):
    assert repr(x) == "\n[[0. 1. 2.]\n [3. 4. 5.]]\n<NDArray 2x3 @cpu(0)>"
    assert repr(nd.array(3)) == "\n3.0\n<NDArray  @cpu(0)>"


def test_truth_value_needs_one_element(x):
    assert bool(nd.ones(1))
    assert not bool(nd.array(0))
    with pytest.raises(ValueError, match="6 elements is ambiguous"):
        bool(x)


def test_scalars(x):
    assert isinstance(nd.ones((1, 1)).asscalar(), np.float32)
    assert nd.ones(1, dtype="int32").item() == 1
    with pytest.raises(ValueError, match=r"asscalar: got an array of shape \(2, 3\)"):
        x.asscalar()
    with pytest.raises(TypeError):
        float(nd.ones(1))
    with pytest.raises(TypeError):
        [1, 2][nd.ones(1)]


def test_hash_is_identity(x):
    assert {x: 1}[x] == 1
    assert x in [x]


def test_iteration_runs_over_axis_0(x):
    rows = list(x)
    assert [row.shape for row in rows] == [(3,), (3,)]
    with pytest.raises(TypeError, match="0-d"):
        iter(nd.array(3))


# ----- views and writes


@pytest.mark.parametrize(
    ("view", "shows"),
    [
        (lambda x: x[1], [0, 1, 2, -1, -1, -1]),
        (lambda x: x[1, 2], [0, 1, 2, 3, 4, -1]),
        (lambda x: x[-1, ...], [0, 1, 2, -1, -1, -1]),
        (lambda x: x[0:1], [-1, -1, -1, 3, 4, 5]),
        (lambda x: x[0:1, 1:2], [0, -1, 2, 3, 4, 5]),
        (lambda x: x[None], [-1] * 6),
        (lambda x: x[...], [-1] * 6),
        (lambda x: x.reshape(6)[2:4], [0, 1, -1, -1, 4, 5]),
        (lambda x: x.reshape((3, -1))[0][1], [0, -1, 2, 3, 4, 5]),
        (lambda x: x.detach(), [-1] * 6),
        (lambda x: x.astype("float32", copy=False), [-1] * 6),
        (lambda x: x.as_in_context(cpu(0)), [-1] * 6),
    ],
)
def test_views_write_through(x, view, shows):
    view(x)[:] = -1
    same(x.reshape(-1), shows)


@pytest.mark.parametrize(
    "copied",
    [
        lambda x: x[:, 1],
        lambda x: x[:, ::2],
        lambda x: x[::-1],
        lambda x: x[[0, 1]],
        lambda x: x[nd.array([0, 1])],
        lambda x: x.T,
        lambda x: x.copy(),
        lambda x: x.astype("float32"),
        lambda x: x.copyto(cpu(1)),
        lambda x: copy.deepcopy(x),
        lambda x: nd.array(x),
    ],
)
def test_strided_and_fancy_parts_are_copies(x, copied):
    copied(x)[:] = -1
    same(x.reshape(-1), range(6))


def test_asnumpy_is_a_writable_copy(x):
    host = x.asnumpy()
    host[:] = -1
    same(x, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("key", "value", "result"),
    [
        (slice(None), 5, [[5, 5, 5], [5, 5, 5]]),
        (1, [7, 8, 9], [[0, 1, 2], [7, 8, 9]]),
        ((0, 1), 9, [[0, 9, 2], [3, 4, 5]]),
        ((0, 1), np.array([9.0]), [[0, 9, 2], [3, 4, 5]]),
        ((slice(None), 1), [7, 8], [[0, 7, 2], [3, 8, 5]]),
        (slice(None), np.ones((1, 2, 3)), [[1, 1, 1], [1, 1, 1]]),
        (slice(None), np.ones((2, 1)), [[1, 1, 1], [1, 1, 1]]),
        (([0, 1], [1, 2]), 9, [[0, 9, 2], [3, 4, 9]]),
        (np.array([[True, False, True], [False] * 3]), 9, [[9, 1, 9], [3, 4, 5]]),
        (slice(None, None, -1), np.array([[1, 2, 3], [4, 5, 6]]), [[4, 5, 6], [1, 2, 3]]),
        (None, 3, [[3, 3, 3], [3, 3, 3]]),
        (slice(1, 1), 3, [[0, 1, 2], [3, 4, 5]]),
        (0, True, [[1, 1, 1], [3, 4, 5]]),
    ],
)
def test_writes(x, key, value, result):
    x[key] = value
    same(x, result)


def test_writes_take_arrays_of_other_dtypes(x):
    x[1] = nd.array([7, 8, 9], dtype="int32")
    same(x, [[0, 1, 2], [7, 8, 9]])
    whole = nd.zeros(2, dtype="int32")
    whole[:] = 2.7
    same(whole, [2, 2])


def test_writes_wrap_around_as_in_c():
    small = nd.zeros(2, dtype="uint8")
    small[:] = -1
    same(small, [255, 255])


def test_overlapping_writes_see_the_old_content(x):
    x[::-1] = x
    same(x, [[3, 4, 5], [0, 1, 2]])


def test_writes_that_do_not_fit_change_nothing(x):
    with pytest.raises(ValueError, match=r"could not broadcast"):
        x[:] = np.ones((3, 2))
    with pytest.raises(TypeError, match="must be array like: got str 'a'"):
        x[:] = "a"
    same(x, [[0, 1, 2], [3, 4, 5]])


def test_masks_of_bool_dtype_select(x):
    same(x[nd.array([1, 0], dtype="bool")], [[0, 1, 2]])
    same(x[np.array([[True, False, True], [False, True, False]])], [0, 2, 4])
    same(x[[False, True]], [[3, 4, 5]])


def test_comparisons_are_numbers_and_so_no_masks(x):
    assert x[x > 2].shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (2, IndexError),
        (-3, IndexError),
        ((0, 3), IndexError),
        ((0, 0, 0), IndexError),
        ([5], IndexError),
        ("a", ValueError),
        (1.5, ValueError),
        ({}, ValueError),
        (slice(0, 1.5), TypeError),
        (slice(None, None, 0), ValueError),
        ((..., ...), IndexError),
    ],
)
def test_keys_that_make_no_sense_are_refused(x, key, error):
    with pytest.raises(error):
        x[key]
    with pytest.raises(error):
        x[key] = 1


def test_a_scalar_array_takes_only_empty_keys():
    scalar = nd.array(3)
    scalar[()] = 4
    assert scalar[:].item() == scalar[()].item() == 4
    with pytest.raises(IndexError, match="too many indices"):
        scalar[0]


SLICES = st.builds(
    slice,
    st.none() | st.integers(-5, 5),
    st.none() | st.integers(-5, 5),
    st.none() | st.integers(-3, 3).filter(bool),
)
LISTS = st.lists(st.integers(-2, 1), min_size=2, max_size=2)
KEYS = st.lists(st.integers(-2, 1) | SLICES | st.none() | LISTS, max_size=4).map(tuple)


@settings(max_examples=200, deadline=None)
@given(KEYS)
def test_indexing_agrees_with_numpy(key):
    host = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    array = nd.array(host)
    if sum(part is not None for part in key) > host.ndim:
        return
    want = host[key]
    same(array[key], want.reshape(want.shape or (1,)))
    array[key] = -7
    host[key] = -7
    same(array, host)


# ----- reshape


@pytest.mark.parametrize(
    ("shape", "reverse", "result"),
    [
        ((0, -1), False, (2, 12)),
        ((-3, 4), False, (6, 4)),
        ((0, -4, 1, -1, -2), False, (2, 1, 3, 4)),
        ((-4, -1, 2, -2), False, (1, 2, 3, 4)),
        ((-1, 0), True, (6, 4)),
    ],
)
def test_reshape_knows_the_codes(y, shape, reverse, result):
    assert y.reshape(shape, reverse=reverse).shape == result
    assert y.reshape(*shape, reverse=reverse).shape == result
    assert y.reshape(shape=shape, reverse=reverse).shape == result


def test_reshape_of_one_element_to_rank_0():
    assert nd.ones(1).reshape(()).shape == ()


def test_reshape_refuses_what_does_not_fit(x):
    for shape in [(4, 2), (5, -1), (-1, -1), (3,)]:
        with pytest.raises(MXNetError, match=r"reshape of \(2, 3\) to"):
            x.reshape(shape)
    with pytest.raises(ValueError, match=r"into shape \(\)"):
        x.reshape(())
    with pytest.raises(TypeError, match="expected a shape"):
        x.reshape()
    with pytest.raises(TypeError, match="expected a shape"):
        x.reshape((6,), order="C")


# ----- operators


def test_arithmetic_with_numbers():
    a = nd.array([3.0, 5.0])
    same(a + 1, [4, 6])
    same(1 - a, [-2, -4])
    same(2 / a, np.array([2 / 3, 2 / 5], np.float32))
    same(2**a, [8, 32])
    same(5 % a, [2, 0])
    same(-5.0 % a, [1, 0])
    same(-a, [-3, -5])
    same(abs(-a), [3, 5])
    same(np.float32(2) * a, [6, 10])
    same(a + True, [4, 6])


def test_integers_stay_integers():
    a = nd.array([3], dtype="int32")
    assert (a / 2).dtype is np.int32
    same(a / 2, [1])
    same(a + 1.5, [4])


def test_arrays_broadcast(x):
    same(x + nd.array([1, 2, 3]), [[1, 3, 5], [4, 6, 8]])
    same(nd.ones((2, 1)) - nd.ones(3), np.zeros((2, 3)))
    same(x * x, [[0, 1, 4], [9, 16, 25]])


def test_comparisons_give_numbers_of_the_same_dtype(x):
    assert (x > 2).dtype is np.float32
    same(x > 2, [[0, 0, 0], [1, 1, 1]])
    same(2 >= x, [[1, 1, 1], [0, 0, 0]])
    same(x == x, np.ones((2, 3)))
    same(x != nd.zeros(3), [[0, 1, 1], [1, 1, 1]])


@pytest.mark.parametrize("other", ["a", None, [1, 2], np.ones((2, 3)), 1j])
def test_other_operands_are_refused(x, other):
    for combine in [lambda: x + other, lambda: other * x, lambda: x == other, lambda: x < other]:
        with pytest.raises(TypeError):
            combine()


def test_mixed_dtypes_and_shapes_are_refused(x):
    with pytest.raises(MXNetError, match=r"(?s)dtype does not match.*lhs: f32.*rhs: f64"):
        x + x.astype("float64")
    with pytest.raises(MXNetError, match=r"(?s)broadcast.*lhs: f32\[2,3\], rhs: f32\[2\]"):
        x + nd.ones(2)
    with pytest.raises(MXNetError, match=r"different contexts: got cpu\(0\) and cpu\(1\)"):
        x + x.copyto(cpu(1))


def test_operators_that_mxnet_lacks(x):
    for combine in [lambda: x // 2, lambda: x @ x, lambda: ~x, lambda: +x, lambda: divmod(x, 2)]:
        with pytest.raises(TypeError):
            combine()


def test_in_place_operators_keep_the_storage(x):
    row, before = x[0], x
    row += 1
    x *= nd.array([1, 2, 3])
    x -= 1
    x /= 2
    x **= 2
    x %= 4
    assert x is before
    same(x, [[0, 2.25, 0], [1, 0.25, 1]])


def test_in_place_results_must_fit(x):
    with pytest.raises(MXNetError, match="output: shape does not match"):
        x -= nd.ones((2, 2, 3))
    whole = nd.array([1, 2], dtype="int32")
    whole += 1.5
    same(whole, [2, 3])


def test_methods_run_ops(x):
    same(x.sum(axis=1), [3, 12])
    assert x.sum().shape == (1,)
    same(x.clip(1, 2), [[1, 1, 2], [2, 2, 2]])
    same(x.slice(begin=(0, 1), end=(1, None)), [[1, 2]])
    same(x.expand_dims(axis=0), x.asnumpy()[None])


# ----- copies and conversions


def test_astype_and_copyto(x):
    assert x.astype(np.float64).dtype is np.float64
    assert x.astype("float32", copy=False) is x
    target = nd.zeros((2, 3), dtype="int32")
    assert (x + 0.5).copyto(target) is target
    same(target, [[0, 1, 2], [3, 4, 5]])
    assert x.copyto(cpu(1)).context == cpu(1)
    with pytest.raises(TypeError, match="copyto: got int"):
        x.copyto(3)
    with pytest.raises(MXNetError, match=r"copyto: shape does not fit: got \(6,\)"):
        x.copyto(nd.zeros(6))
    with pytest.raises(TypeError):
        x.astype("foo")
    with pytest.raises(KeyError, match="int16"):
        x.astype("int16")


def test_numpy_takes_copies(x):
    host = np.asarray(x)
    host[:] = -1
    assert np.array(x, dtype=np.int64).dtype == np.int64
    same(x, [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match="copy=False"):
        np.array(x, copy=False)


def test_dlpack_shares_memory(x):
    host = np.from_dlpack(x)
    same(x, host)
    back = nd.from_dlpack(x)
    back[0] = 9
    same(x, [[9, 9, 9], [3, 4, 5]])
    assert x.__dlpack_device__() == (1, 0)
    through_capsule = nd.from_dlpack(nd.to_dlpack_for_read(x))
    same(through_capsule, x.asnumpy())
    version = x.chunk.version
    nd.from_dlpack(nd.to_dlpack_for_write(x))[:] = 4
    same(x, np.full((2, 3), 4))
    assert x.chunk.version > version


def test_from_numpy_shares_or_copies():
    host = np.arange(4.0)
    shared = nd.from_numpy(host)
    assert shared.dtype is np.float64
    assert not host.flags.writeable
    shared[0] = 7
    assert host[0] == 7
    with pytest.raises(ValueError, match="C-contiguous"):
        nd.from_numpy(np.zeros((2, 3)).T)
    same(nd.from_numpy(np.arange(4.0)[::2], zero_copy=False), [0, 2])


def test_gradients_are_not_recorded(x):
    with pytest.raises(NotImplementedError, match="bind a Symbol"):
        x.attach_grad()
    with pytest.raises(NotImplementedError, match="bind a Symbol"):
        x.backward()


# ----- ops write into given arrays


def test_out_receives_the_result(x):
    target = nd.zeros((2, 3))
    assert nd.square(x, out=target) is target
    same(target, np.arange(6).reshape(2, 3) ** 2)
    nd.square(x, out=x)
    same(x, target.asnumpy())
    with pytest.raises(MXNetError, match="shape does not match"):
        nd.square(x, out=nd.zeros(6))
    with pytest.raises(MXNetError, match="dtype does not match"):
        nd.square(x, out=nd.zeros((2, 3), dtype="float64"))
    with pytest.raises(MXNetError, match="wrong number of outputs in out: got 2, expected 1"):
        nd.square(x, out=[target, target])


def test_results_never_share_memory_with_inputs(x):
    for name, params in [
        ("_copy", {}),
        ("BlockGrad", {}),
        ("Reshape", {"shape": (3, 2)}),
        ("transpose", {"axes": (0, 1)}),
        ("broadcast_to", {"shape": (2, 3)}),
        ("Cast", {"dtype": "float32"}),
        ("slice_axis", {"axis": 0, "begin": 0, "end": 1}),
    ]:
        made = invoke(name, [x], params)
        made[:] = -1
        same(x, [[0, 1, 2], [3, 4, 5]])


def test_arrays_without_elements_are_no_inputs():
    empty = nd.array([])
    assert empty.shape == (0,)
    with pytest.raises(MXNetError, match=r"data has no elements: got shape \(0,\)"):
        nd.exp(empty)


# ----- storage shared with executors


class Remote:
    """A worker that holds newer content, and counts how often it is asked."""

    def __init__(self, content):
        self.content, self.pulls = np.asarray(content, np.float32), 0

    def pull(self):
        self.pulls += 1
        return self.content


def test_reading_pulls_once_into_the_same_memory(x):
    row, remote = x[1], Remote(np.full((2, 3), 8.0))
    memory = x.chunk.data
    x.chunk.mark_stale(remote.pull)
    assert (row.shape, x.dtype, remote.pulls) == ((3,), np.float32, 0)
    same(row, [8, 8, 8])
    same(x + 0, np.full((2, 3), 8))
    assert x.chunk.data is memory
    assert remote.pulls == 1


def test_partial_writes_pull_first_and_whole_ones_do_not(x):
    remote = Remote(np.full((2, 3), 8.0))
    x.chunk.mark_stale(remote.pull)
    x[0] = 1
    same(x, [[1, 1, 1], [8, 8, 8]])
    x.chunk.mark_stale(remote.pull)
    x[:] = 2
    same(x, np.full((2, 3), 2))
    assert remote.pulls == 1
    x.chunk.mark_stale(remote.pull)
    x += 1
    same(x, np.full((2, 3), 9))


def test_every_change_has_a_new_version(x):
    seen = [x.chunk.version]
    for change in [
        lambda: x.__setitem__(0, 1),
        lambda: x[1].__setitem__(slice(None), 1),
        lambda: x.__iadd__(1),
        lambda: nd.ones((2, 3)).copyto(x),
        lambda: nd.square(x, out=x),
        lambda: x.chunk.mark_stale(Remote(np.ones((2, 3))).pull),
    ]:
        change()
        seen.append(x.chunk.version)
    assert seen == sorted(set(seen))
    x.asnumpy()
    assert x.chunk.version == seen[-1]


def test_a_failed_pull_reaches_the_reader_every_time(x):
    def fail():
        raise MXNetError("worker cpu:1: out of memory")

    x.chunk.mark_stale(fail)
    for read in (x.asnumpy, lambda: x + 1, x.wait_to_read, nd.waitall):
        with pytest.raises(MXNetError, match="out of memory"):
            read()
    x[:] = 0
    same(x, np.zeros((2, 3)))


def test_waiting_need_not_fetch(x):
    remote, waits = Remote(np.ones((2, 3))), []
    x.chunk.mark_stale(remote.pull, lambda: waits.append(1))
    x.wait_to_read()
    nd.waitall()
    assert (len(waits), remote.pulls, x.chunk.is_stale) == (2, 0, True)


# ----- devices


def test_an_absent_gpu_is_refused_clearly(monkeypatch):
    monkeypatch.setattr(device, "_cupy", lambda: None)
    monkeypatch.setattr(device, "num_gpus", lambda: 0)
    with pytest.raises(MXNetError, match=r"gpu\(0\): CuPy is not installed"):
        nd.zeros(2, ctx=gpu(0))
    monkeypatch.setattr(device, "_cupy", lambda: np)
    with pytest.raises(MXNetError, match=r"gpu\(3\): no CUDA device"):
        nd.ones(2).copyto(gpu(3))
    monkeypatch.setattr(device, "num_gpus", lambda: 2)
    with pytest.raises(MXNetError, match=r"gpu\(3\): only 2 CUDA devices"):
        nd.ones(2).as_in_context(gpu(3))


def test_contexts_travel_with_arrays():
    with Context("cpu", 2):
        made = nd.ones(2)
    assert made.context == cpu(2)
    assert (made + 1).context == cpu(2)
    assert made[0:1].context == cpu(2)
    assert NDArray(Chunk(np.zeros(1))).context == cpu(0)


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Contexts gpu(0) and gpu(1), whose arrays refuse to mix with host arrays."""
    monkeypatch.setattr(device, "_cupy", StandIn)
    monkeypatch.setattr(device, "num_gpus", lambda: 2)


@pytest.mark.usefixtures("pretended_gpu")
def test_device_arrays_never_mix_with_host_arrays():
    with pytest.raises(TypeError, match="unsupported type"):
        StandIn().add(StandIn().zeros(2), np.ones(2))
    a = nd.array([[1, 2], [3, 4]], ctx=gpu(1))
    assert isinstance(a.data, DeviceArray)
    exercise_a_gpu_array(a)


def exercise_a_gpu_array(a):
    ctx = a.context
    a[0] = 5
    a[:, 1] = np.array([6, 7])
    a[[1]] = nd.array([[8, 9]])
    same(a, [[5, 6], [8, 9]])
    a += nd.ones((2, 2), ctx=ctx)
    a[0].reshape(2)[:1] = 0
    same(a, [[0, 7], [9, 10]])
    same(a[nd.array([1, 0])] * 2, [[18, 20], [0, 14]])
    same(a[a.astype("bool")], [7, 9, 10])
    same(nd.square(a, out=a.copy()).astype("int32"), [[0, 49], [81, 100]])
    assert (a + 1).context == a[0].context == a.astype("float64").context == ctx
    back = a.as_in_context(cpu())
    assert isinstance(back.data, np.ndarray)
    same(back.copyto(nd.zeros((2, 2), ctx=ctx)), a.asnumpy())
    same(pickle.loads(pickle.dumps(a)), a.asnumpy())
    assert nd.random.uniform(shape=(2,), ctx=ctx).context == ctx
    a.chunk.mark_stale(lambda: np.ones((2, 2), np.float32))
    same(a * 2, [[2, 2], [2, 2]])
    with pytest.raises(MXNetError, match="different contexts"):
        a + back


@pytest.mark.gpu
def test_arrays_on_a_gpu():
    exercise_a_gpu_array(nd.array([[1, 2], [3, 4]], ctx=gpu(0)))


MADE = {
    "zeros": lambda: nd.zeros((3, 5)),
    "ones": lambda: nd.ones((3, 5)),
    "full": lambda: nd.full((3, 5), 7.0, dtype="float16"),
    "array": lambda: nd.array(np.arange(15.0).reshape(3, 5)),
    "copy": lambda: nd.zeros((3, 5)).as_in_context(cpu(1)),
    "pickled": lambda: pickle.loads(pickle.dumps(nd.ones((3, 5)))),
}


@pytest.mark.parametrize("made", MADE)
def test_arrays_begin_with_a_line_of_the_cache(made):
    several = [MADE[made]() for _ in range(4)]
    assert [array.data.ctypes.data % 64 for array in several] == [0] * 4
    assert all(array.data.flags.c_contiguous for array in several)
    assert all(array.data.flags.writeable for array in several)


def test_zero_and_minus_zero_are_two_numbers():
    one = nd.array([1.0])
    signs = [bool(np.signbit((one * zero).asnumpy()[0])) for zero in (0.0, -0.0, 0.0, -0.0)]
    assert signs == [False, True, False, True]


def test_an_operator_travels_with_its_minus_zero():
    op = make_op("one_hot", {"depth": 3, "off_value": -0.0})
    there = pickle.loads(pickle.dumps(op))
    assert there == op != make_op("one_hot", {"depth": 3})
    assert np.signbit(there.off_value)


def test_what_was_written_is_no_longer_the_source(x):
    source = np.zeros((2, 3), np.float32)
    x[:] = source
    source[:] = 7
    same(x, np.zeros((2, 3)))
