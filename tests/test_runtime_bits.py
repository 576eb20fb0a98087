"""Small and large arrays, and all that an executor does in any order: the bits of one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mixed_graphs import OPERATIONS, ROWS, WIDE, WIDER, bind_mixed, do, mixed_symbol
from random_graphs import assert_same_bits
from test_pipeline import SCHEDULES, contiguous, everything, groups
from thread_fleet import ThreadFleet

import raysym as mx
from raysym.runtime import links
from raysym.runtime.resident import ResidentRuntime
from raysym.runtime.transport import TRANSPORTS

ANY_ORDER = st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=5)
PIPELINES = [(1, 2), (2, 2), (2, 4), (4, 4)]  # workers and micro-batches that any schedule takes


def after(executor: mx.Executor, operations: list[str]) -> dict[str, np.ndarray]:
    """All that these leave behind, and what each of them gave."""
    mx.random.seed(7)
    rng = np.random.default_rng(3)
    with executor:
        given = {
            f"{i}: {operation} {j}": array
            for i, operation in enumerate(operations)
            for j, array in enumerate(do(executor, operation, rng))
        }
        return given | everything(executor)


def limits(max_examples: int) -> settings:
    """Fixtures are made once, for all examples; a smaller seed makes no smaller graph."""
    return settings(
        max_examples=max_examples,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large arrays between driver and workers are cut to pieces of no round size."""
    monkeypatch.setattr(links, "DRIVER_RING_NBYTES", 50_000)


@pytest.mark.usefixtures("short_pieces")
@limits(10)
@given(
    seed=st.integers(0, 10**6),
    operations=ANY_ORDER,
    transport=st.sampled_from([None, *TRANSPORTS]),
    n_workers=st.integers(1, 4),
    shape=st.sampled_from([(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1)]),
    request=st.sampled_from(["write", "add"]),
)
def test_any_graph_in_threads_gives_the_bits_of_one_process(
    seed: int,
    operations: list[str],
    transport: str | None,
    n_workers: int,
    shape: tuple[int, int],
    request: str,
) -> None:
    """`shape`: replicas, and micro-batches of each."""
    symbol = mixed_symbol(np.random.default_rng(seed), 8, 4)
    replicas, n = shape
    where: dict[str, Any] = {"schedule": "gpipe", "grad_req": request}
    one = bind_mixed(symbol, seed, micro_batches=replicas * n, **where)
    where |= {"micro_batches": n, "data_parallel": replicas, "group2ctx": groups(n_workers)}
    many = bind_mixed(symbol, seed, runtime=in_threads(transport), **where)
    assert_same_bits(after(one, operations), after(many, operations))


def in_threads(transport: str | None) -> ResidentRuntime:
    return ResidentRuntime(ThreadFleet, 1, transport)


@pytest.mark.usefixtures("short_pieces")
@limits(8)
@given(
    seed=st.integers(0, 10**6),
    operations=ANY_ORDER,
    transport=st.sampled_from([None, *TRANSPORTS]),
    pipeline=st.sampled_from(PIPELINES),
    schedule=st.sampled_from(SCHEDULES),
)
def test_any_pipeline_in_threads_gives_the_bits_of_one_process(
    seed: int,
    operations: list[str],
    transport: str | None,
    pipeline: tuple[int, int],
    schedule: str,
) -> None:
    symbol = mixed_symbol(np.random.default_rng(seed), 8, 4, in_order=True)
    n_workers, n = pipeline
    one = bind_mixed(symbol, seed, micro_batches=n, schedule="gpipe")
    where = {"micro_batches": n, "schedule": schedule, "group2ctx": contiguous(n_workers)}
    many = bind_mixed(symbol, seed, runtime=in_threads(transport), **where)
    assert_same_bits(after(one, operations), after(many, operations))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("transport", TRANSPORTS)
@limits(1)
@given(
    seed=st.integers(0, 10**6),
    operations=st.permutations(OPERATIONS),
    wide=st.sampled_from([WIDER, WIDE]),
    pipeline=st.sampled_from(PIPELINES[::-1]),
    schedule=st.sampled_from(SCHEDULES),
)
def test_any_pipeline_in_processes_gives_the_bits_of_one(
    transport: str,
    seed: int,
    operations: list[str],
    wide: int,
    pipeline: tuple[int, int],
    schedule: str,
) -> None:
    """The wider ones are cut to pieces on their way between driver and workers."""
    assert ROWS * WIDER * 4 > links.DRIVER_RING_NBYTES > ROWS * WIDE * 4
    symbol = mixed_symbol(np.random.default_rng(seed), 6, 4, wide, in_order=True)
    n_workers, n = pipeline
    one = bind_mixed(symbol, seed, wide, micro_batches=n, schedule="gpipe")
    where = {"micro_batches": n, "schedule": schedule, "group2ctx": contiguous(n_workers)}
    many = bind_mixed(symbol, seed, wide, runtime="ray", transport=transport, **where)
    assert_same_bits(after(one, operations), after(many, operations))
