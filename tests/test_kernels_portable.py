"""Kernels for other processors: they compile for AVX2, SSE2 and arm64; AVX2 code runs here."""

from __future__ import annotations

from collections.abc import Set
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_calls import linked_op
from samples import SAMPLES
from test_kernels_ops import COVERED, TOLERANCE, reference, single, uniform

from raysym.kernels import llvm
from raysym.kernels.cache import DiskCache
from raysym.kernels.link import LinkedWorker
from raysym.kernels.specs import Kernels, Spec, ir_text
from raysym.kernels.steps import Native
from raysym.kernels.tracing import trace
from raysym.op import Op, make_op
from raysym.planning.plan import Run
from raysym.types import TensorType

OTHERS = {
    "avx2": ("x86_64-unknown-linux-gnu", "x86-64-v3"),
    "sse2": ("x86_64-unknown-linux-gnu", "x86-64"),
    "arm64": ("aarch64-unknown-linux-gnu", "generic"),
}
# One op of every kind that is made from its page: maps, moves, folds, lookups, statistics.
PAGES = (
    "Concat", "Dropout", "Embedding", "GroupNorm", "Pad", "SwapAxis", "_backward_take",
    "adam_update", "argmax", "cbrt", "erfinv", "gammaln", "lamb_update_phase1", "norm", "pick",
    "softmax", "tile", "where",
)  # fmt: skip

# Cases that differ from others in numbers only; large kernels take their time.
REPEATED = frozenset({
    "both turned", "data gradient with gaps", "fully connected", "lstm", "lstm for inference",
    "single cells", "strided filters", "turned product", "wide images",
})  # fmt: skip
# Of these the first is the longest code by far where registers are few, and the second the same.
LONG = frozenset({"data gradient", "data gradient with gaps"})


class Foreign(Kernels):
    """Kernels compiled for a processor that this one can stand in for."""

    def __init__(self, name: str) -> None:
        super().__init__(DiskCache(Path("unused")))
        self.target = llvm.other_machine(*OTHERS[name])

    def address(self, spec: Spec) -> int:
        if spec not in self._addresses:
            code = llvm.assemble(ir_text(spec), self.target)
            self._addresses[spec] = llvm.load(code)
        return self._addresses[spec]

    def is_missing(self, spec: Spec) -> bool:
        return False  # nothing to compile ahead


@lru_cache(maxsize=1)
def narrow() -> Foreign:
    return Foreign("avx2")


def cases(repeated: Set[str]) -> list[Any]:
    made = [
        (case, make_op(name, params), [uniform(*shape) for shape in shapes])
        for case, (name, params, shapes) in COVERED.items()
        if case not in repeated
    ]
    made += [
        (name, make_op(name, SAMPLES[name][0].params), single(SAMPLES[name][0], dtype))
        for name in PAGES
        for dtype in ("float32", "float64")
    ]
    return [pytest.param(op, arrays, id=f"{i}-{name}") for i, (name, op, arrays) in enumerate(made)]


def linked(op: Op, arrays: list[np.ndarray]) -> tuple[list[np.ndarray], LinkedWorker]:
    outs = [TensorType(w.shape, w.dtype.name) for w in reference(op, arrays)]
    return linked_op(op, arrays, outs, used=narrow())


runs_avx2 = pytest.mark.skipif(
    not llvm.machine().triple.startswith("x86_64") or not llvm.has_half(),
    reason="this host is no x86-64 with AVX2",
)


@runs_avx2
@pytest.mark.parametrize(("op", "arrays"), cases(REPEATED))
def test_code_for_avx2_agrees_with_the_reference(op: Op, arrays: list[np.ndarray]) -> None:
    wants, (gots, worker) = reference(op, arrays), linked(op, arrays)
    assert not worker.found.uncovered
    for got, want in zip(gots, wants, strict=True):
        rtol = TOLERANCE.get(want.dtype.name, 0)
        size = np.abs(np.nan_to_num(want, posinf=0, neginf=0)).max(initial=1)
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol / 5 * float(size))


@pytest.mark.parametrize("name", ["sse2", "arm64"])
@pytest.mark.parametrize(("op", "arrays"), cases(REPEATED ^ LONG))
def test_kernels_compile_for(name: str, op: Op, arrays: list[np.ndarray]) -> None:
    wants = reference(op, arrays)
    ins, outs = ([f"{kind}{i}" for i in range(len(values))]
                 for kind, values in (("in", arrays), ("out", wants)))  # fmt: skip
    pairs = zip([*ins, *outs], [*arrays, *wants], strict=True)
    types = {n: TensorType(a.shape, a.dtype.name) for n, a in pairs}
    found = trace({"forward": (Run(tuple(outs), op, tuple(ins)),)}, types, list(types))
    specs = [step.spec for step in found.phases["forward"] if isinstance(step, Native)]
    assert specs
    for spec in specs:
        assert len(llvm.assemble(ir_text(spec), llvm.other_machine(*OTHERS[name]))) > 500
