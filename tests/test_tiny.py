"""The smallest whole story: compose, bind on two workers, train 20 steps, and it has learned."""

from __future__ import annotations

import numpy as np

import raysym as mx


def test_two_workers_learn_to_tell_left_from_right() -> None:
    with mx.AttrScope(ctx_group="front"):
        net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=8, name="fc1")
        net = mx.sym.Activation(net, act_type="tanh")
    with mx.AttrScope(ctx_group="back"):
        net = mx.sym.FullyConnected(net, num_hidden=2, name="fc2")
        net = mx.sym.SoftmaxOutput(net, name="softmax")
    groups = {"front": mx.cpu(0), "back": mx.cpu(1)}
    executor = net.simple_bind(mx.cpu(), data=(32, 3), group2ctx=groups)
    rng = np.random.default_rng(0)
    for name, array in executor.arg_dict.items():
        if name.endswith("weight"):
            array[:] = rng.normal(scale=0.5, size=array.shape)
    x = rng.normal(size=(32, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.float32)
    for _ in range(20):
        executor.forward(is_train=True, data=x, softmax_label=y)
        executor.backward()
        for name in ("fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias"):
            executor.arg_dict[name][:] -= 0.1 * executor.grad_dict[name]
    guesses = executor.forward()[0].asnumpy().argmax(axis=1)
    assert (guesses == y).mean() >= 0.95
    assert executor.plan.workers == ("cpu:0", "cpu:1")
