"""Distributions by their moments, and gradients through what was drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oracles import stats

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.errors import RuleError
from raysym.op import call_kernel, make_op
from raysym.ops.variates import gamma_variates, poisson_variates


def generator(seed: int = 5) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 1]))


def draw(name: str, *arrays: Any, **params: Any) -> np.ndarray:
    with np.errstate(all="ignore"):  # kernels run like this everywhere
        return call_kernel(make_op(name, params), np, arrays, generator())[0]


N = 40_000
EXPECTED = [
    ("_random_uniform", {"low": -1, "high": 3}, 1.0, 4 / np.sqrt(12)),
    ("_random_normal", {"loc": 0.5, "scale": 2}, 0.5, 2.0),
    ("_random_gamma", {"alpha": 3, "beta": 0.5}, 1.5, np.sqrt(0.75)),
    ("_random_exponential", {"lam": 4}, 0.25, 0.25),
    ("_random_poisson", {"lam": 3}, 3.0, np.sqrt(3)),
    ("_random_negative_binomial", {"k": 3, "p": 0.3}, 7.0, np.sqrt(7 / 0.3)),
    ("_random_generalized_negative_binomial", {"mu": 3, "alpha": 0.3}, 3.0, np.sqrt(5.7)),
    ("_random_randint", {"low": 0, "high": 10}, 4.5, np.sqrt(8.25)),
]


@pytest.mark.parametrize(("name", "params", "mean", "deviation"), EXPECTED)
def test_moments_of_samplers(name: str, params: dict[str, Any], mean: float, deviation: float):
    drawn = draw(name, **params, shape=(N,))
    assert drawn.mean() == pytest.approx(mean, abs=6 * deviation / np.sqrt(N))
    assert drawn.std() == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize(("name", "params", "mean", "deviation"), EXPECTED[:-1])
def test_samplers_with_array_parameters_draw_the_same_distribution(
    name: str, params: dict[str, Any], mean: float, deviation: float
) -> None:
    arrays = [np.array([value], "float32") for value in params.values()]
    drawn = draw(name.replace("_random", "_sample"), *arrays, shape=(N,))[0]
    assert drawn.mean() == pytest.approx(mean, abs=6 * deviation / np.sqrt(N))
    assert drawn.std() == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize("alpha", [0.05, 0.7, 1.0, 2.5, 40.0])
def test_gamma_variates_have_the_gamma_distribution(alpha: float) -> None:
    with np.errstate(divide="ignore"):
        drawn = gamma_variates(np, generator(), np.full(N, alpha))
    assert stats.kstest(drawn, stats.gamma(alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("mean", [0.3, 4.0, 9.99, 10.0, 30.0, 200.0])
def test_poisson_variates_have_the_poisson_distribution(mean: float) -> None:
    with np.errstate(divide="ignore"):
        drawn = poisson_variates(np, generator(), np.full(N, mean))
    low, high = (int(stats.poisson(mean).ppf(p)) for p in (0.01, 0.99))
    counts = np.array([(drawn == k).sum() for k in range(low, high + 1)])
    expected = stats.poisson(mean).pmf(np.arange(low, high + 1)) * N
    distance = ((counts - expected) ** 2 / expected).sum()
    assert stats.chi2(len(counts)).sf(distance) > 1e-3


def test_uniform_numbers_of_short_floats_stay_below_the_bound() -> None:
    drawn = draw("_random_uniform", low=1, high=2, shape=(N,), dtype="float16")
    assert drawn.min() >= 1
    assert drawn.max() < 2


def test_multinomial_follows_its_probabilities() -> None:
    chances = np.array([[0.1, 0.2, 0.7], [0.0, 1.0, 0.0]])
    drawn = draw("_sample_multinomial", chances, shape=(N,))
    shares = np.array([[(row == k).mean() for k in range(3)] for row in drawn])
    np.testing.assert_allclose(shares, chances, atol=0.015)


def test_log_probabilities_of_multinomial_belong_to_its_draws() -> None:
    chances = np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
    op = make_op("_sample_multinomial", {"shape": 6, "get_prob": True})
    index, logs = call_kernel(op, np, [chances], generator())
    np.testing.assert_allclose(np.exp(logs), np.take_along_axis(chances, index, 1))


def test_shuffle_keeps_all_rows() -> None:
    rows = np.arange(24.0).reshape(8, 3)
    drawn = draw("_shuffle", rows)
    assert not np.array_equal(drawn, rows)
    np.testing.assert_array_equal(np.sort(drawn, axis=0), rows)


def test_zipfian_rows_hold_no_class_twice() -> None:
    op = make_op("_sample_unique_zipfian", {"range_max": 9, "shape": (3, 9)})
    rows, took = call_kernel(op, np, [], generator())
    assert [sorted(row) for row in rows.tolist()] == [list(range(9))] * 3
    assert (took >= 9).all()


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("_random_uniform", {"low": 2, "high": 1}, "low exceeds high: got 2.0"),
        ("_random_gamma", {"alpha": 0}, "alpha is not positive: got 0.0"),
        ("_random_exponential", {"lam": -1}, "lam is not positive: got -1.0"),
        ("_random_randint", {"low": 3, "high": 3}, "low is not below high: got 3"),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, params: Any, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        make_op(name, params)


@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn_tanh"])
def test_gradient_of_rnn_goes_through_the_dropout_that_was_drawn(mode: str) -> None:
    given = {"mode": mode, "state_size": 3, "num_layers": 3, "p": 0.5, "bidirectional": True}
    op: Any = make_op("RNN", given)
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(-0.8, 0.8, shape) for shape in op.feed_shapes((4, 2, 5), None)]
    out, *kept = call_kernel(op, np, arrays, generator())
    weight = rng.normal(size=out.shape)
    backward = make_op("_backward_RNN", given)
    grads = call_kernel(backward, np, [weight, *arrays, *kept[len(op.result_names()) - 1 :]])

    def objective(moved: list[np.ndarray]) -> float:
        return float((call_kernel(op, np, moved, generator())[0] * weight).sum())

    for i, grad in enumerate(grads):
        direction = rng.normal(size=grad.shape)
        ahead, behind = ([a + s * 1e-5 * direction if j == i else a for j, a in enumerate(arrays)]
                         for s in (1, -1))  # fmt: skip
        want = (objective(ahead) - objective(behind)) / 2e-5
        assert float((grad * direction).sum()) == pytest.approx(want, rel=1e-5, abs=1e-7)
