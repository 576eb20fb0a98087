"""Samples of every op: parameters, input shapes (all dims distinct), ranges and numpy oracles.

Each file ``samples_<family>.py`` beside this one defines ``SAMPLES = {op name: [Sample, ...]}``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Maker = Callable[[np.random.Generator], Any]


@dataclass(frozen=True)
class Sample:
    """One way to call an op.

    ``inputs``: for each of ``op.input_names()`` a shape (filled uniformly from ``low`` to
    ``high``) or a function of a generator that makes the array. ``reference``: a function of the
    input arrays that gives the outputs by other means. ``wrt``: positions whose gradient is
    compared with finite differences (None: every floating input; (): none, then ``why`` says why).
    ``smooth``: the gradient's gradient is compared as well.
    """

    params: dict[str, Any]
    inputs: Sequence[tuple[int, ...] | Maker]
    low: float = -1.0
    high: float = 1.0
    reference: Callable[..., Any] | None = None
    wrt: tuple[int, ...] | None = None
    why: str = ""
    smooth: bool = False
    dtype: str = "float64"
    tol: float = 1e-6

    def arrays(self, seed: int = 0) -> list[np.ndarray]:
        """Input arrays; every call with one seed gives the same."""
        rng = np.random.default_rng(seed)
        return [self._array(rng, spec) for spec in self.inputs]

    def _array(self, rng: np.random.Generator, spec: tuple[int, ...] | Maker) -> np.ndarray:
        if callable(spec):
            return np.asarray(spec(rng))
        return rng.uniform(self.low, self.high, spec).astype(self.dtype)


def load() -> dict[str, list[Sample]]:
    """All samples of all families."""
    found: dict[str, list[Sample]] = {}
    for path in sorted(Path(__file__).parent.glob("samples_*.py")):
        for name, samples in importlib.import_module(path.stem).SAMPLES.items():
            assert name not in found, f"{name} has samples in two files"
            found[name] = list(samples)
    return found


SAMPLES = load()
