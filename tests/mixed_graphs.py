"""Random symbols whose values are small and large side by side, and all that is done with them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import raysym as mx

ROWS, NARROW = 4, 6
WIDE = 9_000  # 36 kB a row: more than travels inline, be it one row for each micro-batch
WIDER = 300_000  # 1.2 MB a row: all rows are more than a piece between driver and worker
OPERATIONS = ("train", "step", "run", "infer", "gradients of inference", "write")


class Value(NamedTuple):
    """A symbol of (ROWS, NARROW) or of (ROWS, wide)."""

    symbol: mx.Symbol
    is_wide: bool


def mixed_symbol(
    rng: np.random.Generator, n_nodes: int, n_groups: int, wide: int = WIDE, in_order: bool = False
) -> mx.Symbol:
    """A connected graph with ctx_groups ``g0`` .. ``g{n-1}`` at random.

    `in_order`: groups are those of a pipeline, so that any schedule fits.
    """
    groups = rng.integers(n_groups, size=n_nodes + 1)
    if in_order:
        groups = np.sort(np.concatenate([np.arange(n_groups), groups[n_groups:]]))
    pool = [Value(mx.sym.Variable("data"), True)]
    for i, group in enumerate(groups[:-1]):
        with mx.AttrScope(ctx_group=f"g{group}"):
            pool.append(_node(rng, pool, i, wide))
    with mx.AttrScope(ctx_group=f"g{groups[-1]}"):
        last = mx.sym.FullyConnected(pool[-1].symbol, num_hidden=NARROW, name="last")
        head = mx.sym.SoftmaxOutput(last, name="softmax")
    return mx.sym.Group([head, *(mx.sym.BlockGrad(x.symbol) for x in pool[-2:])])


def _node(rng: np.random.Generator, pool: list[Value], i: int, wide: int) -> Value:
    x, is_wide = pool[-1]  # so that no node, and no group, is without effect
    kind = int(rng.integers(8))
    if kind < 2:  # the width changes
        n = NARROW if is_wide else wide
        made = mx.sym.FullyConnected(x, num_hidden=n, name=f"fc{i}", no_bias=bool(kind))
        return Value(mx.sym.tanh(made), not is_wide)
    if kind == 2:
        return Value(mx.sym.BatchNorm(x, fix_gamma=False, name=f"bn{i}"), is_wide)
    if kind == 3:
        return Value(mx.sym.Dropout(x, p=0.3, name=f"drop{i}"), is_wide)
    if kind == 4:
        halves = mx.sym.SliceChannel(x, num_outputs=2, name=f"split{i}")
        return Value(mx.sym.Concat(halves[1], halves[0], name=f"concat{i}"), is_wide)
    if kind == 5:
        shape = (1, wide if is_wide else NARROW)
        return Value(mx.sym.broadcast_add(x, mx.sym.Variable(f"b{i}", shape=shape)), is_wide)
    if kind == 6:  # small and large ones meet
        factor = mx.sym.mean(pool[int(rng.integers(len(pool)))].symbol, axis=1, keepdims=True)
        return Value(mx.sym.tanh(mx.sym.broadcast_mul(x, factor)), is_wide)
    same = [value.symbol for value in pool if value.is_wide == is_wide]
    return Value(x + same[int(rng.integers(len(same)))], is_wide)


def bind_mixed(symbol: mx.Symbol, seed: int, wide: int = WIDE, **where: Any) -> mx.Executor:
    """simple_bind with parameters drawn from `seed`; inner products stay near one."""
    executor = symbol.simple_bind(mx.cpu(), data=(ROWS, wide), **where)
    rng = np.random.default_rng(seed)
    for name, array in executor.arg_dict.items():
        if name.endswith("label"):
            array[:] = rng.integers(0, NARROW, array.shape)
        else:
            array[:] = _drawn(rng, array.shape)
    return executor


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    fan_in = shape[1] if len(shape) == 2 and shape[0] > 1 else 1
    return (rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)


def do(executor: mx.Executor, operation: str, rng: np.random.Generator) -> list[np.ndarray]:
    """What an operation brings to light at once; all else is in the executor's arrays."""
    if operation == "run":
        batches = [_feeds(executor, rng) for _ in range(6)]
        return [array for outputs in executor.run(batches) for array in outputs]
    if operation == "write":
        array = list(executor.arg_dict.values())[int(rng.integers(len(executor.arg_dict)))]
        array[0] = 0.5 * array.asnumpy()[0]
        return []
    feeds = _feeds(executor, rng)
    if operation == "step":
        executor.step(**feeds)
    else:
        executor.forward(is_train=operation == "train", **feeds)
    if operation in ("train", "gradients of inference"):
        executor.backward()
    if operation != "infer":
        _descend(executor)
    return [output.asnumpy() for output in executor.outputs]


def _feeds(executor: mx.Executor, rng: np.random.Generator) -> dict[str, np.ndarray]:
    shape = executor.arg_dict["data"].shape
    return {"data": rng.normal(size=shape).astype(np.float32)}


def _descend(executor: mx.Executor) -> None:
    for name, grad in executor.grad_dict.items():
        if grad is not None and name not in ("data", "softmax_label"):
            executor.arg_dict[name][:] = executor.arg_dict[name] - 0.05 * grad
