"""Kernels that threads share: the bits of one thread; threads come and go with their owner."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_calls import kernels, linked_op
from random_graphs import assert_same_bits, bind_random, random_symbol, train
from samples import Sample
from test_kernels_link import NETS, steps
from test_kernels_ops import CASES, COVERED, reference, single, uniform
from test_kernels_rnn import VARIANTS, feeds, given_params

import raysym as mx
from raysym.kernels import specs
from raysym.kernels.steps import Buffer, Native
from raysym.kernels.table import flags_of
from raysym.kernels.team import Team
from raysym.op import Op, make_op
from raysym.runtime.engines import engines_for
from raysym.runtime.linked import LinkedRuntime
from raysym.types import TensorType

pytestmark = pytest.mark.usefixtures("everything_shared")
TEAMS = {n: Team(n) for n in (2, 3)}


@pytest.fixture(name="everything_shared")
def _everything_shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Short kernels are shared as well."""
    monkeypatch.setattr(specs, "_ALONE_S", 0.0)
    yield
    for team in TEAMS.values():
        team.close()


def results(op: Op, arrays: list[np.ndarray], team: Team | None) -> list[np.ndarray]:
    outs = [TensorType(w.shape, w.dtype.name) for w in reference(op, arrays)]
    return linked_op(op, arrays, outs, team=team)[0]


def assert_threads_agree(op: Op, arrays: list[np.ndarray], *threads: int) -> None:
    alone = results(op, arrays, None)
    for n in threads:
        for want, got in zip(alone, results(op, arrays, TEAMS[n]), strict=True):
            assert want.tobytes() == got.tobytes()


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_threads_change_no_bit_of_an_op(name: str, sample: Sample) -> None:
    assert_threads_agree(make_op(name, sample.params), single(sample), 2)


LARGE = {
    "many rows": ("FullyConnected", {"num_hidden": 70}, [(300, 33), (70, 33), (70,)]),
    "many columns": ("FullyConnected", {"num_hidden": 300}, [(30, 33), (300, 33), (300,)]),
    "long columns": ("dot", {"transpose_a": True}, [(300, 70), (300, 200)]),
    "few products": ("batch_dot", {}, [(2, 60, 18), (2, 18, 70)]),
    "blocks of tiles": (
        "Convolution", {"kernel": (3, 3), "num_filter": 70, "pad": (1, 1)},
        [(3, 64, 32, 32), (70, 64, 3, 3), (70,)],
    ),
    "all tiles at once": (
        "Convolution", {"kernel": (3, 3), "num_filter": 130, "pad": (1, 1), "no_bias": True},
        [(2, 128, 8, 8), (130, 128, 3, 3)],
    ),
    "gradient by blocks": (
        "_backward_Convolution_weight", {"kernel": (3, 3), "pad": (1, 1)},
        [(3, 70, 32, 32), (3, 64, 32, 32)],
    ),
    "one panel by blocks": (
        "_backward_Convolution_weight", {"kernel": (3, 3), "pad": (1, 1)},
        [(3, 20, 32, 32), (3, 64, 32, 32)],
    ),
    "gradient at once": (
        "_backward_Convolution_weight", {"kernel": (3, 3), "pad": (1, 1)},
        [(2, 130, 8, 8), (2, 128, 8, 8)],
    ),
    "grouped filters": (
        "Convolution", {"kernel": (3, 3), "num_filter": 6, "num_group": 2, "no_bias": True},
        [(3, 4, 9, 8), (6, 2, 3, 3)],
    ),
    "one filter for a channel": (
        "Convolution", {"kernel": (3, 3), "num_filter": 35, "num_group": 35, "pad": (1, 1)},
        [(2, 35, 9, 8), (35, 1, 3, 3), (35,)],
    ),
    "data of one filter for a channel": (
        "_backward_Convolution_data", {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1),
                                       "num_group": 35, "spatial": (9, 8)},
        [(2, 35, 5, 4), (35, 1, 3, 3)],
    ),
    "weight of one filter for a channel": (
        "_backward_Convolution_weight", {"kernel": (3, 3), "pad": (1, 1), "num_group": 35},
        [(2, 35, 9, 8), (2, 35, 9, 8)],
    ),
    "volumes": (
        "Convolution", {"kernel": (2, 3, 3), "num_filter": 40, "stride": (2, 1, 1),
                        "pad": (1, 1, 1)}, [(2, 19, 5, 6, 9), (40, 19, 2, 3, 3), (40,)],
    ),
    "data of volumes": (
        "_backward_Convolution_data", {"kernel": (2, 3, 3), "stride": (2, 1, 1), "pad": (1, 1, 1),
                                       "spatial": (5, 6, 9)},
        [(2, 40, 3, 6, 9), (40, 35, 2, 3, 3)],
    ),
    "weight of volumes": (
        "_backward_Convolution_weight", {"kernel": (2, 3, 3), "stride": (2, 1, 1),
                                         "pad": (1, 1, 1)},
        [(2, 40, 3, 6, 9), (2, 35, 5, 6, 9)],
    ),
    "channels last": (
        "_backward_Convolution_weight", {"kernel": (3, 2), "layout": "NHWC"},
        [(2, 4, 5, 40), (2, 6, 6, 35)],
    ),
    "transposed with a bias": (
        "Deconvolution", {"kernel": (3, 3), "stride": (2, 2), "num_filter": 35, "no_bias": False},
        [(2, 6, 4, 5), (6, 35, 3, 3), (35,)],
    ),
    "windows that are added up": (
        "_backward_Convolution_data", {"kernel": (7, 5), "stride": (2, 1), "pad": (3, 2),
                                       "spatial": (16, 20)},
        [(2, 40, 8, 20), (40, 3, 7, 5)],
    ),
    "products of a page": (
        "_contrib_interleaved_matmul_encdec_qk", {"heads": 2}, [(33, 3, 80), (40, 3, 160)],
    ),
    "columns of windows": (
        "_backward_Convolution_weight", {"kernel": (1, 1)}, [(2, 260, 5, 4), (2, 520, 5, 4)],
    ),
    "even batch": (
        "RNN", {"state_size": 20, "num_layers": 2, "mode": "lstm", "state_outputs": True},
        [(3, 12, 7), (80 * 7 + 80 * 20 * 3 + 320,), (2, 12, 20), (2, 12, 20)],
    ),
    "both directions": (
        "RNN", {"state_size": 20, "num_layers": 2, "mode": "gru", "bidirectional": True},
        [(3, 12, 7), (2 * 60 * (7 + 20 + 40 + 20) + 480,), (4, 12, 20)],
    ),
}  # fmt: skip


LARGE_FIRST = LARGE["many rows"]


@pytest.mark.parametrize("case", [*COVERED, *LARGE])
def test_threads_change_no_bit_of_larger_ones(case: str) -> None:
    name, params, shapes = (COVERED | LARGE)[case]
    assert_threads_agree(make_op(name, params), [uniform(*shape) for shape in shapes], 2, 3)


@pytest.mark.parametrize("variant", ["all of it", "lengths of gru", "dropout of gru"])
def test_threads_share_the_samples_of_recurrent_layers(variant: str) -> None:
    mode, more = VARIANTS[variant]
    params = {**given_params(mode, 5, 2, both=True, shown=True), **more}
    op: Any = make_op("RNN", params)
    inputs = feeds(op, (3, 4, 2))
    assert_threads_agree(op, inputs, 2)
    outs, shown = reference(op, inputs), len(op.result_names())
    heads = [uniform(*out.shape) for out in outs[:shown]]
    assert_threads_agree(make_op("_backward_RNN", params), [*heads, *inputs, *outs[shown:]], 2)


OTHER_DTYPES = ["channels last", "many rows", "one filter for a channel", "volumes",
                "transposed with a bias"]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("case", OTHER_DTYPES)
def test_threads_change_no_bit_in_other_dtypes(case: str, dtype: str) -> None:
    name, params, shapes = LARGE[case]
    arrays = [uniform(*shape).astype(dtype) for shape in shapes]
    assert_threads_agree(make_op(name, params), arrays, 2, 3)


@pytest.mark.parametrize("batch", [5, 12])
def test_threads_change_no_bit_of_lstm_gradients(batch: int) -> None:
    params = {"state_size": 20, "num_layers": 2, "mode": "lstm"}
    feeds = [uniform(*(batch if n in (5, 12) else n for n in s)) for s in LARGE["even batch"][2]]
    outs = reference(make_op("RNN", params), feeds)
    op = make_op("_backward_RNN", params)
    assert_threads_agree(op, [uniform(*outs[0].shape), *feeds, *outs[1:]], 2, 3)


# ----- whole programs


def runtime(threads: int, **options: bool) -> LinkedRuntime:
    return LinkedRuntime(threads, kernels(), **options)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), n_nodes=st.integers(2, 14), n_workers=st.integers(1, 3))
def test_threads_change_no_bit_of_a_graph(seed: int, n_nodes: int, n_workers: int) -> None:
    symbol = random_symbol(np.random.default_rng(seed), n_nodes, 4)
    where = {f"g{i}": mx.cpu(i % n_workers) for i in range(4)}
    alone = train(bind_random(symbol, seed, runtime=runtime(1), group2ctx=where), 2)
    for threads, poison in ((2, False), (2, True), (3, False)):
        used = runtime(threads, poison=poison)
        assert_same_bits(alone, train(bind_random(symbol, seed, runtime=used, group2ctx=where), 2))
        used.close()


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("poison", [False, True])
def test_threads_change_no_bit_of_a_network(net: str, poison: bool) -> None:
    used = runtime(2, poison=poison)
    assert_same_bits(steps(net, runtime=runtime(1))[0], steps(net, runtime=used)[0])
    used.close()


def test_short_kernels_are_one_thread_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specs, "_ALONE_S", 15e-6)
    used = runtime(2)
    net = mx.sym.FullyConnected(mx.sym.exp(mx.sym.Variable("x")), num_hidden=400, name="fc")
    net.simple_bind(mx.cpu(), grad_req="null", runtime=used, x=(300, 40))
    assert str(used.workers[0]).splitlines()[2:] == [
        "  call      exp (flat_map)",
        "  call      FullyConnected (gemm, 2 threads)",
    ]


# ----- where threads meet


def step(parts: int, reads: list[Buffer], writes: list[Buffer]) -> Native:
    return Native(specs.Spec("", (), parts), (*reads, *writes), "", len(reads))


def test_threads_meet_where_one_needs_what_another_makes() -> None:
    a, b, c = (Buffer(64, name) for name in "abc")
    places = {"a": 0, "b": 64, "c": 128}
    table = [
        step(2, [a], [b]),
        step(1, [a], [c]),  # touches nothing that is written
        step(1, [c], [a]),  # the first thread's as before, but others read a
        step(1, [a], [c]),
        step(2, [c], [b]),
    ]
    assert flags_of(table, lambda buffer: places[buffer.home]) == [1, 0, 2, 0, 3]
    assert flags_of(table[1:4], lambda buffer: places[buffer.home]) == [0, 0, 0]


# ----- the life of threads


def helpers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("raysym-kernels-")]


def trained(**options: object) -> mx.Executor:
    x = mx.sym.exp(mx.sym.Variable("x"))
    executor = mx.sym.FullyConnected(x, num_hidden=40, name="fc").simple_bind(
        mx.cpu(), kernels="generated", x=(30, 4), **options
    )
    executor.forward(is_train=True)
    return executor


def test_threads_end_with_the_executor() -> None:
    with trained(threads=3) as executor:
        assert helpers() == ["raysym-kernels-1", "raysym-kernels-2"]
        executor.forward(is_train=True)
    assert helpers() == []


def test_threads_end_with_a_forgotten_executor() -> None:
    executor = trained(threads=2)
    assert helpers() == ["raysym-kernels-1"]
    del executor
    gc.collect()
    assert helpers() == []


def test_one_thread_starts_none() -> None:
    executor = trained(threads=1)
    assert helpers() == []
    executor.close()


def test_a_failing_reference_kernel_leaves_the_threads_usable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = mx.sym.exp(mx.sym.argsort(mx.sym.exp(mx.sym.Variable("x")), name="wave"))
    used = runtime(2)
    executor = net.simple_bind(mx.cpu(), grad_req="null", runtime=used, x=(30, 40))
    executor.arg_dict["x"][:] = 1
    want = executor.forward()[0].asnumpy()
    with monkeypatch.context() as broken:
        broken.setattr(np, "argsort", lambda *x, **given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            executor.forward()[0].asnumpy()
    assert np.array_equal(executor.forward()[0].asnumpy(), want)
    used.close()


def test_a_forked_child_has_threads_of_its_own() -> None:
    op, arrays = make_op(*LARGE_FIRST[:2]), [uniform(*shape) for shape in LARGE_FIRST[2]]
    want = results(op, arrays, TEAMS[2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads and forks: that is what this is about
        child = os.fork()
    if child == 0:
        same = all(map(np.array_equal, want, results(op, arrays, TEAMS[2])))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert all(map(np.array_equal, want, results(op, arrays, TEAMS[2])))


def test_idle_threads_sleep() -> None:
    op, arrays = make_op(*LARGE_FIRST[:2]), [uniform(*shape) for shape in LARGE_FIRST[2]]
    want = results(op, arrays, TEAMS[3])
    time.sleep(0.2)  # longer than they wait for more work
    begun = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - begun < 0.4  # two that spin would take a second
    assert all(map(np.array_equal, want, results(op, arrays, TEAMS[3])))  # and they wake up


def test_engines_travel() -> None:
    engines = engines_for("generated", threads=2)
    assert pickle.loads(pickle.dumps(engines)) == engines
