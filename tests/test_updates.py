"""Updates on the workers: what an optimizer's op would do here, whoever owns the parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from random_graphs import assert_same_bits, bind_random
from test_pipeline import chain, contiguous, everything

import raysym as mx
from raysym.errors import PlanError
from raysym.names import NameManager
from raysym.op import make_op
from raysym.planning.update import first_state

INPUTS = {"data", "softmax_label"}
OPTIMIZERS: dict[str, dict[str, float]] = {
    "sgd_update": {"lr": 0.1, "wd": 0.01},
    "sgd_mom_update": {"lr": 0.1, "momentum": 0.9},
    "nag_mom_update": {"lr": 0.1, "momentum": 0.9},
    "signsgd_update": {"lr": 0.1},
    "signum_update": {"lr": 0.1, "momentum": 0.9},
    "adam_update": {"lr": 0.1},
    "rmsprop_update": {"lr": 0.1},
    "rmspropalex_update": {"lr": 0.1},
    "ftrl_update": {"lr": 0.1},
    "ftml_update": {"lr": 0.1, "t": 1},
    "_sparse_adagrad_update": {"lr": 0.1},
    "_contrib_group_adagrad_update": {"lr": 0.1},
    "_adamw_update": {"lr": 0.1, "eta": 1.0},
    "mp_sgd_mom_update": {"lr": 0.1, "momentum": 0.9},
}
ELSEWHERE = {  # updates whose function has another name
    "_sparse_adagrad_update": mx.nd.sparse.adagrad_update,
    "_contrib_group_adagrad_update": mx.nd.contrib.group_adagrad_update,
    "_adamw_update": mx.nd._internal._adamw_update,
}
# Generated kernels add in an order of their own, `mx.nd` in NumPy's: no equal bits there.
SUMS = {"_contrib_group_adagrad_update"}
WHERE: list[dict[str, int]] = [{}, {"micro_batches": 2}, {"data_parallel": 2}]


def bind(**where: Any) -> mx.Executor:
    with NameManager():  # all plans name their nodes alike
        net = chain(4)
    reqs = {n: "null" if n in INPUTS else "write" for n in net.list_arguments()}
    return bind_random(net, 1, grad_req=reqs, group2ctx=contiguous(2), **where)


class Here:
    """The updates made by the user, between steps without them."""

    def __init__(self, executor: mx.Executor, name: str, params: dict[str, float]) -> None:
        self.executor, self.params = executor, params
        self.update = ELSEWHERE.get(name) or getattr(mx.nd, name)
        self.slots = make_op(name, params).input_names()[2:]
        self.states: dict[str, mx.nd.NDArray] = {}
        for argument, grad in executor.grad_dict.items():
            for slot in self.slots if grad is not None else ():
                self.state(slot, argument)

    def step(self) -> None:
        self.executor.step()
        for name, grad in self.executor.grad_dict.items():
            if grad is not None:
                weight = self.executor.arg_dict[name]
                states = [self.state(slot, name) for slot in self.slots]
                self.update(weight, grad, *states, out=weight, **self.params)

    def state(self, slot: str, name: str) -> mx.nd.NDArray:
        key = f"{slot}:{name}"
        if key not in self.states:
            weight = self.executor.arg_dict[name]
            shape = (1,) if slot == "rescale_grad" else weight.shape
            if self.update is mx.nd.contrib.group_adagrad_update:
                shape = (weight.shape[0], 1)
            self.states[key] = mx.nd.zeros(shape, weight.context)
            self.states[key][:] = first_state(f"state:{key}", self.executor.arg_dict)
        return self.states[key]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("where", WHERE)
def test_workers_update_parameters_as_the_driver_would(
    name: str, where: dict[str, int], default_kernels: str
) -> None:
    params = OPTIMIZERS[name]
    there = bind(optimizer=(name, params), **where)
    here = Here(bind(**where), name, params)
    in_order = default_kernels == "reference" or name not in SUMS
    for _ in range(3 if in_order else 1):  # one step: the gradients still have the same bits
        there.step()
        here.step()
    assert_same = assert_same_bits if in_order else assert_close
    assert_same(everything(here.executor), everything(there))
    states = {key: array.asnumpy() for key, array in there.state_dict.items()}
    assert_same({key: a.asnumpy() for key, a in here.states.items()}, states)


def assert_close(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    """Equal names, and values that differ by the rounding of one sum and what divides by it."""
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_allclose(array, right[name], rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("where", WHERE)
def test_states_can_be_read_and_set(where: dict[str, int]) -> None:
    optimizer = ("sgd_mom_update", {"lr": 0.1, "momentum": 0.9})
    one, other = (bind(optimizer=optimizer, **where) for _ in range(2))
    for _ in range(2):
        one.step()
    saved = {**everything(one), **{f"state {k}": a.asnumpy() for k, a in one.state_dict.items()}}
    for kind, arrays in (("arg", other.arg_dict), ("aux", other.aux_dict)):
        for name, array in arrays.items():
            array[:] = saved[f"{kind} {name}"]
    for name, array in other.state_dict.items():
        array[:] = saved[f"state {name}"]
    one.step()
    other.step()
    assert_same_bits(everything(one), everything(other))


@pytest.mark.parametrize("where", WHERE)
def test_parameters_that_the_user_sets_are_those_of_the_next_step(where: dict[str, int]) -> None:
    optimizer = ("mp_sgd_update", {"lr": 0.1})
    executor, fresh = (bind(optimizer=optimizer, **where) for _ in range(2))
    executor.step()
    executor.copy_params_from(fresh.arg_dict, fresh.aux_dict)
    executor.step()
    fresh.step()
    assert_same_bits(everything(fresh), everything(executor))


@pytest.mark.parametrize("where", WHERE)
def test_the_rate_can_change(where: dict[str, int]) -> None:
    def momentum(lr: float) -> tuple[str, dict[str, float]]:
        return "sgd_mom_update", {"lr": lr, "momentum": 0.9}

    changed = bind(optimizer=momentum(0.1), **where)
    here = Here(bind(**where), *momentum(0.1))
    for lr in (0.1, 0.05):
        changed.set_optimizer(momentum(lr))
        here.params = momentum(lr)[1]
        for _ in range(2):
            changed.step()
            here.step()
    assert_same_bits(everything(here.executor), everything(changed))
    changed.set_optimizer(None)
    before = changed.arg_dict["fc0_weight"].asnumpy()
    changed.step()
    assert changed.arg_dict["fc0_weight"].asnumpy().tobytes() == before.tobytes()


# ----- other numbers for the same update


def copied(source: mx.Executor, **where: Any) -> mx.Executor:
    """A fresh executor with the arguments and states of another."""
    made = bind(**where)
    made.copy_params_from(source.arg_dict, source.aux_dict)
    states = made.state_dict
    for name, array in source.state_dict.items():
        states[name][:] = array
    return made


@pytest.mark.both_kernels
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("where", WHERE)
def test_a_changed_rate_gives_the_bits_of_a_fresh_bind(name: str, where: dict[str, int]) -> None:
    changed = bind(optimizer=(name, OPTIMIZERS[name]), **where)
    changed.step()
    # 0.0625 is a power of two, 1 and -1 are numbers that code may do without.
    for other in ({"lr": 0.0625}, {"lr": 1.0, "rescale_grad": -1.0}, {"lr": 0.03}):
        known = make_op(name, OPTIMIZERS[name]).params
        optimizer = name, OPTIMIZERS[name] | {k: v for k, v in other.items() if k in known}
        fresh = copied(changed, optimizer=optimizer, **where)
        changed.set_optimizer(optimizer)
        for _ in range(2):
            changed.step()
            fresh.step()
        assert_same_bits(everything(fresh), everything(changed))
        assert str(changed.step_plan) == str(fresh.step_plan)


@pytest.mark.both_kernels
def test_numbers_that_change_the_code_give_the_bits_of_a_fresh_bind() -> None:
    """Without a bound the gradient is not clipped at all."""
    changed = bind(optimizer=("sgd_update", {"lr": 0.1}))
    for bound in (0.01, -1.0, 0.02):
        optimizer = "sgd_update", {"lr": 0.1, "clip_gradient": bound}
        fresh = copied(changed, optimizer=optimizer)
        changed.set_optimizer(optimizer)
        changed.step()
        fresh.step()
        assert_same_bits(everything(fresh), everything(changed))


@pytest.mark.parametrize("name", ["sgd_update", "sgd_mom_update", "adam_update", "ftrl_update"])
def test_a_changed_rate_makes_no_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite")
    import raysym.kernels.link as link

    executor = bind(optimizer=(name, OPTIMIZERS[name]), kernels="generated")
    executor.step()
    before = executor.arg_dict["fc0_weight"].asnumpy()
    monkeypatch.setattr(link, "link", None)  # the programs are not even linked again
    monkeypatch.setattr(link, "compile_all", None)
    for lr in (0.05, 1e-3):
        executor.set_optimizer((name, {**OPTIMIZERS[name], "lr": lr}))
        executor.step()
        now = executor.arg_dict["fc0_weight"].asnumpy()
        assert not np.array_equal(now, before)
        before = now


def test_a_rate_can_change_while_a_monitor_looks_on() -> None:
    executor, fresh = (bind(optimizer=("sgd_update", {"lr": 0.1})) for _ in range(2))
    executor.step()
    seen: list[bytes] = []
    executor.set_monitor_callback(lambda name, array: seen.append(name))
    executor.set_optimizer(("sgd_update", {"lr": 0.2}))
    executor.step()
    executor.set_monitor_callback(None)
    executor.step()
    assert seen
    fresh.step()
    fresh.set_optimizer(("sgd_update", {"lr": 0.2}))
    fresh.step()
    fresh.step()
    assert_same_bits(everything(fresh), everything(executor))


def test_a_rate_that_is_none_changes_nothing() -> None:
    executor, other = (bind(optimizer=("sgd_update", {"lr": 0.1})) for _ in range(2))
    executor.step()
    with pytest.raises(PlanError, match="optimizer: 'sgd_update'"):
        executor.set_optimizer(("sgd_update", {"lr": "fast"}))
    executor.step()
    for _ in range(2):
        other.step()
    assert_same_bits(everything(other), everything(executor))


def scheduled(**where: Any) -> dict[str, np.ndarray]:
    """What a stream of steps leaves behind, each with a rate of its own."""
    rng = np.random.default_rng(0)
    with bind(optimizer=("sgd_mom_update", {"lr": 0.1, "momentum": 0.9}), **where) as executor:

        def batches() -> Iterator[dict[str, np.ndarray]]:
            for step in range(8):
                params = {"lr": 0.1 / (step + 1), "momentum": 0.9}
                executor.set_optimizer(("sgd_mom_update", params))
                shape = executor.arg_dict["data"].shape
                yield {"data": rng.normal(size=shape).astype(np.float32)}

        outputs = [out[0] for out in executor.run(batches())]
        found = everything(executor)
    return found | {f"outputs {i}": out for i, out in enumerate(outputs)}


@pytest.mark.ray
@pytest.mark.both_kernels
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("where", WHERE)
def test_rates_travel_with_the_steps_of_a_stream(where: dict[str, int]) -> None:
    assert_same_bits(scheduled(**where), scheduled(runtime="ray", **where))


@pytest.mark.parametrize("where", WHERE)
def test_data_is_no_parameter(where: dict[str, int]) -> None:
    executor = bind_random(chain(2), 1, optimizer=("sgd_update", {"lr": 0.1}), **where)
    data = executor.arg_dict["data"].asnumpy()
    executor.step()
    assert executor.grad_dict["data"].asnumpy().any()
    assert executor.arg_dict["data"].asnumpy().tobytes() == data.tobytes()


@pytest.mark.parametrize("name", ["exp", "multi_sum_sq", "lamb_update_phase1"])
def test_an_optimizer_that_is_none_is_refused(name: str) -> None:
    params = {"exp": {}, "multi_sum_sq": {"num_arrays": 1}}.get(name, {"t": 1, "wd": 0.0})
    with pytest.raises(PlanError, match=f"optimizer: got '{name}', expected an update op"):
        bind_random(chain(2), 1, optimizer=(name, params))
