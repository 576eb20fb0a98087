"""Graphs of 100,000 nodes in a row: nothing recurses, and nothing takes quadratic time."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest

import raysym as mx
from scheduler.collector import collection_paused

N = 100_000


@pytest.fixture(scope="module")
def chain() -> mx.Symbol:
    with collection_paused(), mx.name.NameManager():
        symbol = mx.sym.Variable("x")
        for _ in range(N):
            symbol = symbol + 1.0
        return symbol


def test_a_chain_has_lists_and_texts(chain: mx.Symbol) -> None:
    assert chain.list_arguments() == ["x"]
    assert len(chain.get_internals()) == N + 1
    assert chain.debug_str().count("Op:_plus_scalar") == N


def test_a_chain_is_inferred(chain: mx.Symbol) -> None:
    assert chain.infer_shape(x=(2, 3))[1] == [(2, 3)]
    assert chain.infer_type(x="float16")[1] == [np.float16]


def test_a_chain_is_written_and_read(chain: mx.Symbol) -> None:
    text = chain.tojson()
    assert mx.sym.load_json(text).tojson() == text


@pytest.mark.parametrize("copied", [copy.copy, lambda symbol: pickle.loads(pickle.dumps(symbol))])
def test_a_chain_is_copied(chain: mx.Symbol, copied: Callable[[mx.Symbol], mx.Symbol]) -> None:
    assert len(copied(chain).graph.nodes) == N + 1


@pytest.mark.slow
def test_a_chain_runs_forward_and_backward(chain: mx.Symbol) -> None:
    executor = chain.bind(mx.cpu(), [mx.nd.zeros(1)], [mx.nd.zeros(1)])
    executor.forward(is_train=True)
    executor.backward(mx.nd.array([5]))
    assert executor.outputs[0].asscalar() == N
    assert executor.grad_dict["x"].asscalar() == 5
    assert executor.forward(is_train=False)[0].asscalar() == N
