"""Random numbers of traced pages: a generator whose numbers become stages of a kernel.

What the page draws is known before it runs, but for the stream's key; so every draw has a place of
its own in the stream. Draws that reject numbers have none: pages with these keep their reference.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from raysym.kernels.expressions import Stage, Target, Untraceable
from raysym.kernels.lazy import Lazy, Recorder, whole
from raysym.kernels.philox import BLOCKS, WORDS
from raysym.types import Shape

DRAW = "draw"  # the fold of such a stage; its shape: first block, turns of the loop


class LazyRandom:
    """The stream of one trace; `at` counts halves of words that are drawn."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.at = recorder, 0

    def random(self, size: Any, dtype: Any = np.float64) -> Lazy:
        """Numbers from 0 up to 1, as ``numpy.random.Generator.random`` draws them."""
        name = np.dtype(dtype).name
        shape: Shape = (size,) if isinstance(size, int) else tuple(map(int, size))
        halves = {"float32": 1, "float64": 2}[name]
        if self.at % halves:
            raise Untraceable("a word behind half of one, which is kept for later")
        count, first = math.prod(shape), self.at
        self.at += halves * count
        each = 2 * WORDS
        start = first // each
        turns = -(-(self.at - start * each) // (BLOCKS * each))
        made = self.recorder.buffer((max(1, turns) * BLOCKS * each // halves,), name)
        target = Target(whole(made).buffer, name, 0, ())
        self.recorder.append(Stage((start, max(1, turns)), DRAW, (target,), ()))
        skipped = (first - start * each) // halves
        return made[skipped : skipped + count].reshape(shape)

    def __getattr__(self, name: str) -> Any:
        raise Untraceable(name)
