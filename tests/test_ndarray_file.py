"""Files of arrays: bytes as MXNet 1.9.1 writes them, all versions read, damaged files refused."""

import base64
import pickle
import struct

import numpy as np
import pytest

from raysym import nd
from raysym.context import Context
from raysym.errors import MXNetError
from raysym.ndarray_file import V1, V2, V3, dump_array, parse_list

# What mx.nd.save of MXNet 1.9.1 wrote for `named()` and `[array([1, 2]), array([[3]])]`.
NAMED_FILE = base64.b64decode(
    "EgEAAAAAAAAAAAAAAAAAAAgAAAAAAAAAyfqT+QAAAAACAAAAAgAAAAAAAAADAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAA"
    "AIA/AAAAQAAAQEAAAIBAAACgQMn6k/kAAAAAAQAAAAIAAAAAAAAAAQAAAAAAAAAGAAAAAQAAAAAAAAACAAAAAAAAAMn6"
    "k/kAAAAAAQAAAAIAAAAAAAAAAQAAAAAAAAACAAAAADgAwMn6k/kAAAAAAQAAAAMAAAAAAAAAAQAAAAAAAAAHAAAAAQAB"
    "yfqT+QAAAAABAAAAAQAAAAAAAAABAAAAAAAAAAMAAAD/yfqT+QAAAAABAAAAAQAAAAAAAAABAAAAAAAAAAUAAAD/yfqT"
    "+QAAAAABAAAAAQAAAAAAAAABAAAAAAAAAAQAAAAHAAAAyfqT+QAAAAACAAAAAQAAAAAAAAABAAAAAAAAAAEAAAAAAAAA"
    "AQAAAAAAAAAAAPQ/CAAAAAAAAAAFAAAAAAAAAGFyZzp3BgAAAAAAAABhdXg6w6kBAAAAAAAAAGgBAAAAAAAAAGIBAAAA"
    "AAAAAHUCAAAAAAAAAGk4AgAAAAAAAABpNAEAAAAAAAAAZA=="
)
LIST_FILE = base64.b64decode(
    "EgEAAAAAAAAAAAAAAAAAAAIAAAAAAAAAyfqT+QAAAAABAAAAAgAAAAAAAAABAAAAAAAAAAAAAAAAAIA/AAAAQMn6k/kA"
    "AAAAAgAAAAEAAAAAAAAAAQAAAAAAAAABAAAAAAAAAAAAAAAAAEBAAAAAAAAAAAA="
)
# The rows 0 and 3 of a row_sparse (5, 2), and a csr (2, 3), also from MXNet.
SPARSE_FILE = base64.b64decode(
    "EgEAAAAAAAAAAAAAAAAAAAIAAAAAAAAAyfqT+QEAAAACAAAAAgAAAAAAAAACAAAAAAAAAAIAAAAFAAAAAAAAAAIAAAAA"
    "AAAAAQAAAAAAAAABAAAABgAAAAEAAAACAAAAAAAAAAAAAAAAAPA/AAAAAAAAAEAAAAAAAAAIQAAAAAAAABBAAAAAAAAA"
    "AAADAAAAAAAAAMn6k/kCAAAAAQAAAAMAAAAAAAAAAgAAAAIAAAAAAAAAAwAAAAAAAAABAAAAAAAAAAEAAAAGAAAAAQAA"
    "AAMAAAAAAAAABgAAAAEAAAADAAAAAAAAAAAAAAAAAPA/AAAAAAAAAEAAAAAAAAAIQAAAAAAAAAAAAQAAAAAAAAADAAAA"
    "AAAAAAEAAAAAAAAAAAAAAAAAAAACAAAAAAAAAAIAAAAAAAAAAQAAAAAAAAByAQAAAAAAAABj"
)


def named():
    return {
        "arg:w": nd.array(np.arange(6).reshape(2, 3)),
        "aux:é": nd.array([1, 2], dtype="int64"),
        "h": nd.array([0.5, -2], dtype="float16"),
        "b": nd.array([1, 0, 1], dtype="bool"),
        "u": nd.array([255], dtype="uint8"),
        "i8": nd.array([-1], dtype="int8"),
        "i4": nd.array([7], dtype="int32"),
        "d": nd.array([[1.25]], dtype="float64"),
    }


def list_of(*blocks: bytes, names: bytes = struct.pack("<Q", 0)) -> bytes:
    return struct.pack("<QQQ", 0x112, 0, len(blocks)) + b"".join(blocks) + names


def assert_same(got, want):
    assert got.dtype is want.dtype
    np.testing.assert_array_equal(got.asnumpy(), want.asnumpy())


def test_save_writes_the_bytes_that_mxnet_writes(tmp_path):
    nd.save(str(tmp_path / "named"), named())
    nd.save(tmp_path / "list", [nd.array([1, 2]), nd.array([[3]])])
    assert (tmp_path / "named").read_bytes() == NAMED_FILE
    assert (tmp_path / "list").read_bytes() == LIST_FILE


def test_load_gives_names_and_arrays_back(tmp_path):
    (tmp_path / "f").write_bytes(NAMED_FILE)
    loaded = nd.load(str(tmp_path / "f"))
    assert list(loaded) == list(named())
    for name, array in named().items():
        assert_same(loaded[name], array)


def test_lists_single_arrays_and_empty_containers_load_as_lists(tmp_path):
    path = str(tmp_path / "f")
    for data, count in [(nd.array([1.0, 2.0]), 1), ([], 0), ({}, 0)]:
        nd.save(path, data)
        assert isinstance(nd.load(path), list)
        assert len(nd.load(path)) == count
    assert [x.shape for x in nd.load_frombuffer(LIST_FILE)] == [(2,), (1, 1)]


def test_trailing_bytes_are_ignored_as_in_mxnet():
    assert len(nd.load_frombuffer(LIST_FILE + b"abc")) == 2


def test_a_view_is_saved_as_what_it_shows(tmp_path):
    nd.save(tmp_path / "f", nd.array(np.arange(6).reshape(2, 3))[1])
    (loaded,) = nd.load(tmp_path / "f")
    np.testing.assert_array_equal(loaded.asnumpy(), [3, 4, 5])


def test_version_0_and_1_are_read():
    data = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    rest = struct.pack("<iii", 1, 0, 0) + data.tobytes()
    v0 = struct.pack("<III", 2, 2, 3) + rest
    v1 = struct.pack("<IIqq", V1, 2, 2, 3) + rest
    for array in nd.load_frombuffer(list_of(v0, v1)):
        np.testing.assert_array_equal(array.asnumpy(), data)


def test_version_3_holds_scalars_and_empty_arrays():
    scalar = struct.pack("<Iii", V3, 0, 0) + struct.pack("<iii", 1, 0, 0) + struct.pack("<f", 2.5)
    empty = struct.pack("<Iiiq", V3, 0, 1, 0) + struct.pack("<iii", 1, 0, 0)
    first, second = nd.load_frombuffer(list_of(scalar, empty))
    assert first.shape == ()
    assert first.item() == 2.5
    assert second.shape == (0,)


def test_rank_0_goes_through_a_file(tmp_path):
    nd.save(tmp_path / "f", nd.array(3))
    assert nd.load(tmp_path / "f")[0].item() == 3


def test_bfloat16_becomes_float32():
    values = np.array([1.5, -2.0], np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    block = struct.pack("<Iiiqiii", V2, 0, 1, 2, 1, 0, 12) + halves.tobytes()
    (loaded,) = nd.load_frombuffer(list_of(block))
    np.testing.assert_array_equal(loaded.asnumpy(), values)


def test_sparse_arrays_are_read_as_dense():
    loaded = nd.load_frombuffer(SPARSE_FILE)
    rows = [[1, 2], [0, 0], [0, 0], [3, 4], [0, 0]]
    np.testing.assert_array_equal(loaded["r"].asnumpy(), rows)
    np.testing.assert_array_equal(loaded["c"].asnumpy(), [[0, 1, 0], [2, 0, 3]])
    assert loaded["r"].dtype is np.float64


def test_sparse_indices_out_of_range_are_refused():
    damaged = SPARSE_FILE.replace(struct.pack("<qq", 0, 3), struct.pack("<qq", 0, 9), 1)
    with pytest.raises(MXNetError, match="sparse indices do not fit: got 0 to 9"):
        nd.load_frombuffer(damaged)


def test_damaged_row_pointers_are_refused():
    damaged = SPARSE_FILE.replace(struct.pack("<qqq", 0, 1, 3), struct.pack("<qqq", 0, 3, 1), 1)
    with pytest.raises(MXNetError, match="the row pointer counts 1 values, not 3"):
        nd.load_frombuffer(damaged)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("content", [NAMED_FILE, SPARSE_FILE], ids=["dense", "sparse"])
def test_damage_raises_nothing_but_mxnet_errors(content, seed):
    rng, refused = np.random.default_rng(seed), 0
    for _ in range(300):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 2):
            damaged[at] = rng.choice([0, 1, 128, 255])
        try:
            nd.load_frombuffer(bytes(damaged))
        except MXNetError:
            refused += 1
    assert refused > 100


def test_a_sparse_array_that_would_fill_the_memory_is_refused():
    shape = struct.pack("<iqq", 2, 2**31, 2**20)
    stored = struct.pack("<iqq", 2, 0, 2**20)
    block = struct.pack("<Ii", V2, 1) + stored + shape + struct.pack("<iii", 1, 0, 0)
    block += struct.pack("<iiq", 6, 1, 0)
    with pytest.raises(MXNetError, match="dense array needs"):
        nd.load_frombuffer(list_of(block))


def test_gpu_arrays_load_on_the_cpu_where_there_is_no_gpu():
    block = dump_array(np.ones(2, np.float32), Context("gpu", 63))
    (loaded,) = nd.load_frombuffer(list_of(block))
    assert loaded.context == Context("cpu", 0)


@pytest.mark.parametrize("length", range(0, len(LIST_FILE), 7))
def test_truncated_files_are_refused(length):
    with pytest.raises(MXNetError, match="Invalid NDArray file format: buffer: truncated"):
        nd.load_frombuffer(LIST_FILE[:length])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a" * 100, "bad magic number: got 0x6161616161616161, expected 0x112"),
        (struct.pack("<QQQ", 0x112, 0, 2**60), "impossible array count"),
        (list_of(struct.pack("<I", 99)), "impossible rank: got 99"),
        (list_of(struct.pack("<Ii", V2, 7)), "unknown storage type: got 7"),
        (list_of(struct.pack("<Iii", V2, 0, 1 << 20)), "impossible rank"),
        (list_of(struct.pack("<Iiiq", V2, 0, 1, -5)), "negative dimension"),
        (list_of(struct.pack("<Iiiqii", V2, 0, 1, 1, 9, 0)), "unknown device type: got 9"),
        (list_of(struct.pack("<Iiiqiii", V2, 0, 1, 1, 1, 0, 11)), "unknown dtype code: got 11"),
        (list_of(struct.pack("<Iiiqiii", V2, 0, 1, 2**40, 1, 0, 0)), "truncated"),
        (LIST_FILE[:-8] + struct.pack("<QQ", 1, 1) + b"a", "wrong number of names: got 1"),
        (list_of(names=struct.pack("<QQ", 1, 1) + b"\xff"), "a name is not UTF-8"),
    ],
)
def test_damaged_files_are_refused(content, message):
    with pytest.raises(MXNetError, match=message) as caught:
        nd.load_frombuffer(content)
    assert str(caught.value).startswith("Invalid NDArray file format: buffer: ")


def test_an_array_without_a_shape_is_refused():
    with pytest.raises(MXNetError, match="never given a shape"):
        nd.load_frombuffer(list_of(struct.pack("<Iii", V2, 0, 0)))


def test_a_missing_file_and_a_missing_folder(tmp_path):
    with pytest.raises(MXNetError, match=r"load: cannot read .*: No such file"):
        nd.load(tmp_path / "missing")
    with pytest.raises(MXNetError, match=r"save: cannot write .*: No such file"):
        nd.save(tmp_path / "missing" / "f", nd.ones(1))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (3, ValueError),
        (np.ones(2), ValueError),
        ([np.ones(2)], TypeError),
        ({"a": 3}, TypeError),
        ({1: 3}, TypeError),
    ],
)
def test_only_arrays_with_string_names_are_saved(tmp_path, data, error):
    with pytest.raises(error, match="save: "):
        nd.save(tmp_path / "f", data)
    assert not (tmp_path / "f").exists()


def test_file_names_must_be_paths():
    with pytest.raises(TypeError, match="load: fname: got int"):
        nd.load(3)
    with pytest.raises(TypeError, match="save: fname: got int"):
        nd.save(3, nd.ones(1))
    with pytest.raises(TypeError, match="load_frombuffer: buf: got str"):
        nd.load_frombuffer("abc")


def test_parse_list_keeps_the_context():
    block = dump_array(np.ones(2, np.float32), Context("gpu", 1))
    (stored,), names = parse_list(list_of(block))
    assert stored.ctx == Context("gpu", 1)
    assert names == []


@pytest.mark.parametrize("name", list(named()))
def test_pickle_keeps_the_numbers(name):
    assert_same(pickle.loads(pickle.dumps(named()[name])), named()[name])


def test_pickle_keeps_rank_0():
    assert pickle.loads(pickle.dumps(nd.array(3))).shape == ()
