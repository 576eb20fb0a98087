"""Resident workers: every transport gives the same bits, failures are named, nothing is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import on
from random_graphs import WIDTH, assert_same_bits, bind_random, random_symbol
from test_pipeline import SCHEDULES, chain, contiguous, everything, groups, train

import raysym as mx
from raysym.errors import PlacementError
from raysym.planning.plan import Run, parse
from raysym.runtime.interpreter import Phase
from raysym.runtime.transport import TRANSPORTS

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
BIG = (400, 100)  # 160 kB: more than travels inline


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10**6),
    transport=st.sampled_from(TRANSPORTS),
    n_workers=st.integers(2, 4),
    n=st.sampled_from([1, 2, 4]),
    schedule=st.sampled_from(["gpipe", "search"]),
)
def test_any_transport_and_cut_gives_the_bits_of_the_process(
    seed: int, transport: str, n_workers: int, n: int, schedule: str
) -> None:
    symbol = random_symbol(np.random.default_rng(seed), 8, 4)
    where = {"micro_batches": n, "schedule": "gpipe"}
    whole = train(bind_random(symbol, seed, **where), 3)
    where |= {"group2ctx": groups(n_workers), "runtime": "ray", "transport": transport}
    where["schedule"] = schedule
    with bind_random(symbol, seed, **where) as executor:
        assert_same_bits(whole, train(executor, 3))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("transport", ["object_store", "socket"])
def test_any_schedule_gives_the_bits_of_the_process(schedule: str, transport: str) -> None:
    where = {"micro_batches": 4, "schedule": schedule, "group2ctx": contiguous(4)}
    whole = train(bind_random(chain(4), 1, **where), 3)
    with bind_random(chain(4), 1, runtime="ray", transport=transport, **where) as executor:
        assert_same_bits(whole, train(executor, 3))


@pytest.mark.parametrize("schedule", ["interleaved", "search"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_workers_with_several_stages_give_the_bits_of_the_process(
    schedule: str, transport: str
) -> None:
    where = {"micro_batches": 4, "schedule": schedule, "group2ctx": groups(2)}
    whole = train(bind_random(chain(4), 1, **where), 3)
    with bind_random(chain(4), 1, runtime="ray", transport=transport, **where) as executor:
        assert_same_bits(whole, train(executor, 3))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_large_arrays_give_the_bits_of_the_process(transport: str) -> None:
    def run(**where: Any) -> list[np.ndarray]:
        with mx.AttrScope(ctx_group="g0"):
            net = mx.sym.exp(mx.sym.Variable("data"), name="left")
        with mx.AttrScope(ctx_group="g3"):
            net = mx.sym.reshape(net, shape=(-1, 4)) * net.reshape((-1, 4))
        data = np.random.default_rng(0).normal(size=BIG).astype(np.float32)
        with net.simple_bind(mx.cpu(), data=BIG, group2ctx=contiguous(2), **where) as executor:
            for _ in range(12):
                executor.step(mx.nd.ones((BIG[0] * BIG[1] // 4, 4)), data=data)
                data = executor.grad_dict["data"].asnumpy() * 0.1
            return [executor.outputs[0].asnumpy(), data]

    for left, right in zip(run(), run(runtime="ray", transport=transport), strict=True):
        assert left.tobytes() == right.tobytes()


def test_a_stream_of_steps_has_several_under_way() -> None:
    rng = np.random.default_rng(0)
    batches = [{"data": rng.normal(size=(4, WIDTH)).astype(np.float32)} for _ in range(11)]
    where = {"group2ctx": contiguous(2), "micro_batches": 2}
    local = bind_random(chain(4), 1, **where)
    expected = [outputs[0].tobytes() for outputs in local.run(batches)]
    with bind_random(chain(4), 1, runtime="ray", **where) as executor:
        found, most = [], 0
        for outputs in executor.run(batches):
            most = max(most, len(executor._session.runtime._turns))
            found.append(outputs[0].tobytes())
        assert found == expected
        assert most > 1
        assert_same_bits(everything(local), everything(executor))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_replicas_that_train_give_the_bits_of_the_process(transport: str) -> None:
    rng = np.random.default_rng(0)
    batches = [{"data": rng.normal(size=(4, WIDTH)).astype(np.float32)} for _ in range(6)]
    where = {
        "group2ctx": contiguous(2),
        "optimizer": ("sgd_mom_update", {"lr": 0.1, "momentum": 0.9}),
    }
    local = bind_random(chain(4), 1, micro_batches=4, **where)
    expected = [outputs[0].tobytes() for outputs in local.run(batches)]
    where |= {"micro_batches": 2, "data_parallel": 2, "runtime": "ray", "transport": transport}
    with bind_random(chain(4), 1, **where) as executor:
        assert [outputs[0].tobytes() for outputs in executor.run(batches)] == expected
        assert_same_bits(everything(local), everything(executor))


def test_the_plan_says_how_each_edge_goes() -> None:
    where = {"group2ctx": contiguous(2), "runtime": "ray"}
    with bind_random(chain(4), 1, **where) as executor:
        assert set(executor.plan.links.values()) == {"object_store"}
        assert "  link  -> cpu:1 object_store\n" in str(executor.plan)
        assert parse(str(executor.plan)) == executor.plan
    with pytest.raises(mx.MXNetError, match="transport: got 'pigeon', expected one of object_ref"):
        bind_random(chain(4), 1, transport="pigeon", **where)


def test_each_pair_of_workers_may_have_a_transport_of_its_own() -> None:
    where = {"group2ctx": groups(3), "micro_batches": 2}
    whole = train(bind_random(chain(4), 1, **where), 3)
    pairs = {(mx.cpu(1), mx.cpu(0)): "socket", (mx.cpu(1), mx.cpu(2)): "object_ref"}
    with bind_random(chain(4), 1, runtime="ray", transport=pairs, **where) as executor:
        assert_same_bits(whole, train(executor, 3))
        links = executor.step_plan.links
        ways = {("cpu:0", "cpu:1"): "socket", ("cpu:1", "cpu:2"): "object_ref"}
        assert {tuple(sorted(edge)): how for edge, how in links.items()} == {
            **dict.fromkeys((tuple(sorted(edge)) for edge in links), "object_store"),
            **ways,
        }
    with pytest.raises(PlacementError, match=r"pair: got .*cpu:7.*, expected two of cpu:0, cpu:1"):
        bind_random(
            chain(4), 1, runtime="ray", transport={(mx.cpu(), mx.cpu(7)): "socket"}, **where
        )


def test_workers_answer_while_a_step_is_under_way() -> None:
    with bind_random(chain(4), 1, group2ctx=contiguous(2), runtime="ray") as executor:
        executor.step()
        health = executor._session.runtime.crew.fleet.call("health", {"cpu:0": (), "cpu:1": ()}, 10)
        assert {h.phase for h in health.values()} == {"step"}
        assert all(h.moves > 0 for h in health.values())


# ----- failures


def three_workers(**where: Any) -> mx.Executor:
    groups = {"g0": mx.cpu(0), "g1": mx.cpu(1), "g2": mx.cpu(2), "g3": mx.cpu(2)}
    return bind_random(chain(4), 1, group2ctx=groups, runtime="ray", micro_batches=2, **where)


def fail(host: Any, position: int) -> None:
    class Wrong:
        name, random = "Wrong", False

        def forward(self, xp: Any) -> Any:
            raise ValueError("out of luck")

    program = list(host._engine.programs["step"])
    program.insert(position % len(program), Run(("x",), Wrong(), ()))
    host._engine.phases["step"] = Phase(host._worker, tuple(program))


def heal(host: Any) -> None:
    host._engine.phases["step"] = Phase(host._worker, host._engine.programs["step"])


@pytest.mark.parametrize("position", [0, 9, 500])
def test_after_an_error_in_a_step_the_next_one_is_right(position: int) -> None:
    where = {"kernels": "reference"}  # whose instructions can be exchanged one by one
    expected = train(three_workers_here(**where), 2)
    with three_workers(**where) as executor:
        executor.step()
        on(executor, "cpu:1", fail, position)
        with pytest.raises(ValueError, match=r"out of luck(.|\n)*"):
            list(executor.run([{}] * 6))
        on(executor, "cpu:1", heal)
        fresh = three_workers_here(**where)
        for name, array in executor.aux_dict.items():
            array[:] = fresh.aux_dict[name]
        for name, array in executor.arg_dict.items():
            array[:] = fresh.arg_dict[name]
        assert_same_bits(expected, train(executor, 2))


def three_workers_here(**where: Any) -> mx.Executor:
    return bind_random(chain(4), 1, micro_batches=2, **where)


def test_rings_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import raysym.runtime.links as links

    monkeypatch.setattr(links, "STORE_SHARE", 1e-6)
    net = mx.sym.exp(mx.sym.Variable("data"))
    with pytest.raises(PlacementError, match=r"object store of node (.|\n)* the rings need"):
        net.simple_bind(mx.cpu(), data=BIG, runtime="ray")
