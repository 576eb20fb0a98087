"""The Ray runtime on real actors: the same bits as in-process, and failures that are named."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import CLOSE_S, DEATH_S, alive, eventually, pids_of, within
from random_graphs import assert_same_bits, bind_random, random_symbol, train

import raysym as mx

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def groups(n: int) -> dict[str, mx.Context]:
    return {f"g{i}": mx.cpu(i % n) for i in range(4)}


@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), n_workers=st.integers(1, 4))
def test_actors_give_the_bits_of_the_process(seed: int, n_workers: int) -> None:
    symbol = random_symbol(np.random.default_rng(seed), 8, 4)
    whole = train(bind_random(symbol, seed), 20)
    with bind_random(symbol, seed, group2ctx=groups(n_workers), runtime="ray") as executor:
        assert_same_bits(whole, train(executor, 20))


def test_values_made_again_give_the_same_bits() -> None:
    symbol = random_symbol(np.random.default_rng(5), 14, 4)
    whole = train(bind_random(symbol, 5), 2)
    where = {"group2ctx": groups(2), "runtime": "ray", "memory": "minimal"}
    with bind_random(symbol, 5, **where) as executor:
        bodies = [phases["backward"] for phases in executor.plan.programs.values()]
        assert any(out.endswith("_again") for b in bodies for i in b for out in _outs(i))
        assert_same_bits(whole, train(executor, 2))


def _outs(instruction: object) -> tuple[str, ...]:
    return getattr(instruction, "outs", ())


def test_a_cluster_without_groups_is_cut_by_the_scheduler() -> None:
    symbol = random_symbol(np.random.default_rng(1), 10, 1)
    whole = train(bind_random(symbol, 1), 2)
    with bind_random(symbol, 1, cluster=2) as executor:
        assert set(executor.plan.workers) == {"cpu:0", "cpu:1"}
        assert executor.schedule is not None
        assert_same_bits(whole, train(executor, 2))


def two_workers() -> mx.Executor:
    with mx.AttrScope(ctx_group="a"):
        left = mx.sym.exp(mx.sym.Variable("data"), name="left")
    with mx.AttrScope(ctx_group="b"):
        right = mx.sym.exp(left, name="right")
    return right.simple_bind(
        mx.cpu(), data=(2, 3), group2ctx={"a": mx.cpu(0), "b": mx.cpu(1)}, runtime="ray"
    )


def test_a_write_to_a_bound_array_is_seen() -> None:
    with two_workers() as executor:
        executor.arg_dict["data"][:] = 1.0
        first = executor.forward()[0].asnumpy()
        executor.arg_dict["data"][0, 1] = 2.0
        second = executor.forward()[0].asnumpy()
    assert np.allclose(first, np.exp(np.exp(1.0)))
    assert np.allclose(second[0, 1], np.exp(np.exp(2.0)))
    assert np.array_equal(np.delete(first, 1), np.delete(second, 1))


def test_arrays_stay_readable_after_close() -> None:
    executor = two_workers()
    executor.forward(data=np.zeros((2, 3), np.float32))
    executor.close()
    assert np.allclose(executor.outputs[0].asnumpy(), np.e)
    executor.close()


def test_a_workers_exception_arrives_as_itself() -> None:
    words = mx.sym.Variable("words")
    with mx.AttrScope(ctx_group="a"):
        net = mx.sym.Embedding(words, input_dim=5, output_dim=3, name="embed")
    with mx.AttrScope(ctx_group="b"):
        net = mx.sym.exp(net)
    where = {"group2ctx": {"a": mx.cpu(0), "b": mx.cpu(1)}, "runtime": "ray"}
    with net.simple_bind(mx.cpu(), words=(2,), **where) as executor:
        executor.forward(is_train=True)
        with pytest.raises(mx.MXNetError, match=r"embed(.|\n)*on worker cpu:0"):
            executor.backward(mx.nd.ones((2, 3)))
        assert np.allclose(executor.forward()[0].asnumpy(), 1.0)


def steps(executor: mx.Executor, n: int) -> None:
    for _ in range(n):
        executor.forward()


@pytest.mark.parametrize("victim", ["cpu:0", "cpu:1"])
def test_a_killed_worker_is_named(victim: str) -> None:
    with two_workers() as executor:
        executor.forward()
        os.kill(pids_of(executor)[victim], signal.SIGKILL)
        with within(DEATH_S), pytest.raises(mx.WorkerError, match=f"worker {victim} died"):
            steps(executor, 9)  # one at most is done before it is gone
        with pytest.raises(mx.WorkerError, match=victim):
            executor.forward()


def test_close_leaves_no_process() -> None:
    executor = two_workers()
    found = pids_of(executor)
    with within(CLOSE_S):
        executor.close()
    assert eventually(lambda: not any(alive(pid) for pid in found.values()))


def test_a_gpu_worker_without_a_gpu_is_refused() -> None:
    import ray

    if ray.cluster_resources().get("GPU", 0):
        pytest.skip("this cluster has a GPU")
    with mx.AttrScope(ctx_group="a"):
        net = mx.sym.exp(mx.sym.Variable("data"))
    with pytest.raises(mx.PlacementError, match=r"gpu:0(.|\n)*0 GPUs"):
        net.simple_bind(mx.cpu(), data=(2,), group2ctx={"a": mx.gpu(0)}, runtime="ray")


def test_more_workers_than_the_cluster_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import raysym.runtime.ray as door

    monkeypatch.setattr(door, "ROOM_S", 1.0)
    symbol = random_symbol(np.random.default_rng(2), 30, 1)
    with pytest.raises(mx.PlacementError, match="cannot hold"):
        bind_random(symbol, 2, cluster=20)


def test_a_worker_takes_a_processor_for_each_of_its_threads() -> None:
    symbol = random_symbol(np.random.default_rng(2), 4, 2)
    where = {"group2ctx": groups(2), "runtime": "ray", "threads": 3}
    with bind_random(symbol, 2, **where) as executor:
        specs = executor._session.runtime.crew.fleet._group.bundle_specs
        assert [dict(spec) for spec in specs] == [{"CPU": 3.0}] * 2


class Broken:
    """Engines that cannot be opened where the worker is."""

    def open(self, worker: object) -> object:
        raise OSError("no engine on this machine")


def test_a_worker_that_cannot_be_made_says_why() -> None:
    import ray

    from raysym.runtime.ray import RayFleet

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.raises(mx.WorkerError) as caught:
        RayFleet(("cpu:0",), 1, b"s" * 32, Broken())  # type: ignore[arg-type]
    wanted = "worker cpu:0 could not be made: OSError: no engine on this machine"
    assert str(caught.value) == wanted
