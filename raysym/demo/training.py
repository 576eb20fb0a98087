"""The training loop: stochastic gradient descent with momentum over an Executor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

import raysym as mx
from raysym.demo.digits import Array, Digits
from raysym.demo.network import INPUTS

BATCH = 50
RATE, MOMENTUM = 0.1, 0.9


class Epoch(NamedTuple):
    """What one pass over the training set came to; the loss is the mean cross-entropy."""

    number: int
    loss: float
    test_accuracy: float


@dataclass
class Trainer:
    """An executor with the velocity of each of its parameters."""

    executor: mx.Executor
    seed: int
    n_epochs: int
    velocity: dict[str, mx.NDArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        initialise(self.executor, np.random.default_rng(self.seed))
        self.velocity = {
            name: mx.nd.zeros(array.shape, ctx=array.context)
            for name, array in self.executor.arg_dict.items()
            if name not in INPUTS
        }

    def train(self, digits: Digits, after_step: Callable[[], None]) -> Iterator[Epoch]:
        """Train epoch by epoch; `after_step` is called once per batch."""
        rng = np.random.default_rng(self.seed + 1)
        for number in range(1, self.n_epochs + 1):
            rate = RATE * (1 - (number - 1) / self.n_epochs)
            losses = []
            for chosen in batches(len(digits.train_images), rng):
                losses.append(
                    self.step(digits.train_images[chosen], digits.train_labels[chosen], rate)
                )
                after_step()
            hits = self.predict(digits.test_images).argmax(axis=1) == digits.test_labels
            yield Epoch(number, math.fsum(losses) / len(losses), float(hits.mean()))

    def step(self, images: Array, labels: Array, rate: float) -> float:
        """One batch forward, backward and down the gradient; the loss before it."""
        executor = self.executor
        executor.forward(is_train=True, data=images, softmax_label=labels)
        executor.backward()
        for name, velocity in self.velocity.items():
            gradient, parameter = executor.grad_dict[name], executor.arg_dict[name]
            assert gradient is not None  # all but the inputs were bound with one
            velocity[:] = MOMENTUM * velocity - rate * gradient
            parameter += velocity
        likelihood = executor.outputs[0].asnumpy()[np.arange(len(labels)), labels.astype(int)]
        return float(-np.log(np.maximum(likelihood, 1e-30)).mean())

    def predict(self, images: Array) -> Array:
        """The probabilities ``f32[n,10]``; the last batch is filled up with zeros."""
        found = []
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            full = np.zeros((BATCH, *images.shape[1:]), dtype=images.dtype)
            full[: len(part)] = part
            output = self.executor.forward(data=full)[0].asnumpy()
            found.append(output[: len(part)].copy())
        return np.concatenate(found)


def batches(n_images: int, rng: np.random.Generator) -> Iterator[Array]:
    """All images in random order, in full batches; the odd ones out differ from epoch to epoch."""
    order = rng.permutation(n_images)
    for start in range(0, n_images - BATCH + 1, BATCH):
        yield order[start : start + BATCH]


def n_steps(n_images: int) -> int:
    """Number of batches in one epoch."""
    return n_images // BATCH


def initialise(executor: mx.Executor, rng: np.random.Generator) -> None:
    """Weights as He et al. (arXiv:1502.01852) for rectifiers, scales and variances 1, others 0."""
    for name, array in executor.arg_dict.items():
        if name.endswith("_weight"):
            # The last layer starts small: a guess that is sure of itself learns slowly.
            gain = 0.1 if name == "fc2_weight" else 2.0
            array[:] = rng.normal(0.0, math.sqrt(gain / math.prod(array.shape[1:])), array.shape)
        elif name.endswith("_gamma"):
            array[:] = 1
    for name, array in executor.aux_dict.items():
        array[:] = 1 if name.endswith("_var") else 0


def state(trainer: Trainer, digits: Digits) -> dict[str, Array]:
    """Everything that two equal trainings must agree on, by name."""
    executor = trainer.executor
    probabilities = trainer.predict(digits.test_images)
    arrays = {**executor.arg_dict, **executor.aux_dict}
    found = {name: array.asnumpy() for name, array in arrays.items() if name not in INPUTS}
    return {**found, "outputs": probabilities}


def differences(first: dict[str, Array], second: dict[str, Array]) -> list[str]:
    """Names of the arrays that are not the same bits."""
    return [name for name in first if first[name].tobytes() != second[name].tobytes()]
