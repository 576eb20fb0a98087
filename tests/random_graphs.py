"""Random symbols over ops of many kinds, for tests that compare runtimes and cuts."""

from __future__ import annotations

import numpy as np

import raysym as mx

WIDTH = 6


def random_symbol(rng: np.random.Generator, n_nodes: int, n_groups: int) -> mx.Symbol:
    """A connected graph of (4, WIDTH) values with random ctx_groups ``g0`` .. ``g{n-1}``."""
    pool = [mx.sym.Variable("data")]
    for i in range(n_nodes):
        with mx.AttrScope(ctx_group=f"g{rng.integers(n_groups)}"):
            pool.append(_node(rng, pool, i))
    loose = pool[-2:] if n_nodes > 1 else pool[-1:]
    with mx.AttrScope(ctx_group=f"g{rng.integers(n_groups)}"):
        head = mx.sym.SoftmaxOutput(pool[-1], name="softmax")
    return mx.sym.Group([head, *(mx.sym.BlockGrad(x) for x in loose)])


def _node(rng: np.random.Generator, pool: list[mx.Symbol], i: int) -> mx.Symbol:
    def pick() -> mx.Symbol:
        return pool[int(rng.integers(max(0, len(pool) - 4), len(pool)))]

    kind = int(rng.integers(9))
    if kind == 0:
        return mx.sym.FullyConnected(pick(), num_hidden=WIDTH, name=f"fc{i}")
    if kind == 1:
        return mx.sym.Activation(pick(), act_type="tanh", name=f"act{i}")
    if kind == 2:
        return pick() + pick()
    if kind == 3:
        return pick() * pick()
    if kind == 4:
        return mx.sym.BatchNorm(pick(), fix_gamma=bool(rng.integers(2)), name=f"bn{i}")
    if kind == 5:
        return mx.sym.Dropout(pick(), p=0.3, name=f"drop{i}")
    if kind == 6:
        halves = mx.sym.SliceChannel(pick(), num_outputs=2, name=f"split{i}")
        return mx.sym.Concat(halves[1], halves[0], name=f"concat{i}")
    if kind == 7:
        return mx.sym.broadcast_add(pick(), mx.sym.Variable(f"b{i}", shape=(1, WIDTH)))
    return mx.sym.exp(pick() * 0.1)


def bind_random(symbol: mx.Symbol, seed: int, **where: object) -> mx.Executor:
    """simple_bind with parameters drawn from `seed`."""
    executor = symbol.simple_bind(mx.cpu(), **{"data": (4, WIDTH), **where})
    rng = np.random.default_rng(seed)
    for name, array in [*executor.arg_dict.items(), *executor.aux_dict.items()]:
        array[:] = (
            rng.integers(0, WIDTH, array.shape)
            if name.endswith("label")
            else rng.uniform(0.2, 0.9, array.shape)
        )
    return executor


def train(executor: mx.Executor, n_steps: int) -> dict[str, np.ndarray]:
    """Everything that `n_steps` of plain SGD leave behind."""
    mx.random.seed(7)
    rng = np.random.default_rng(3)
    for _ in range(n_steps):
        executor.forward(is_train=True, data=rng.normal(size=(4, WIDTH)).astype(np.float32))
        executor.backward()
        for name, grad in executor.grad_dict.items():
            if grad is not None and name not in ("data", "softmax_label"):
                executor.arg_dict[name][:] = executor.arg_dict[name] - 0.05 * grad
    executor.forward(is_train=False)
    found = {f"arg {name}": a.asnumpy() for name, a in executor.arg_dict.items()}
    found |= {f"grad {n}": g.asnumpy() for n, g in executor.grad_dict.items() if g is not None}
    found |= {f"aux {name}": a.asnumpy() for name, a in executor.aux_dict.items()}
    return found | {f"out {i}": o.asnumpy() for i, o in enumerate(executor.outputs)}


def assert_same_bits(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    """Equal names, and equal bytes under each."""
    assert left.keys() == right.keys()
    different = [name for name in left if left[name].tobytes() != right[name].tobytes()]
    assert not different
