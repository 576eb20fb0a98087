"""Replicas: any number of them gives the bits of the same micro-batches on one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import assert_same_bits, bind_random, random_symbol
from test_pipeline import SCHEDULES, chain, contiguous, groups, train

SHAPES = [(2, 1), (2, 2), (4, 1)]  # replicas and micro-batches of each
REQUESTS = ["write", "add"]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_workers=st.integers(1, 3),
    shape=st.sampled_from(SHAPES),
    request=st.sampled_from(REQUESTS),
    whole=st.booleans(),
)
def test_any_number_of_replicas_gives_the_same_bits(
    seed: int, n_workers: int, shape: tuple[int, int], request: str, whole: bool
) -> None:
    symbol = random_symbol(np.random.default_rng(seed), 8, 4)
    replicas, n = shape
    where = {"schedule": "gpipe", "group2ctx": groups(n_workers), "grad_req": request}
    one = train(bind_random(symbol, seed, micro_batches=replicas * n, **where), 2, whole=False)
    many = bind_random(symbol, seed, micro_batches=n, data_parallel=replicas, **where)
    assert_same_bits(one, train(many, 2, whole))
    assert many._session.mode("step")[1].workers == many.plan.workers


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("request_", REQUESTS)
def test_any_schedule_of_replicas_gives_the_same_bits(schedule: str, request_: str) -> None:
    where = {"group2ctx": contiguous(2), "schedule": schedule, "grad_req": request_}
    one = train(bind_random(chain(4), 1, micro_batches=4, **where), 2)
    many = bind_random(chain(4), 1, micro_batches=2, data_parallel=2, **where)
    assert_same_bits(one, train(many, 2))
