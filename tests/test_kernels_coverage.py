"""Which ops have generated kernels: the committed table is that of the code.

``python tests/test_kernels_coverage.py`` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from samples import SAMPLES
from test_kernels_ops import single

import raysym.ops  # noqa: F401  (fills the registry)
from raysym.errors import MXNetError
from raysym.kernels import link, llvm  # noqa: F401  (link enters all lowerings)
from raysym.kernels.lowering import lower
from raysym.kernels.maps import is_elementwise, is_view
from raysym.op import Op, make_op
from raysym.planning.plan import Run
from raysym.types import TensorType

TABLE = Path(__file__).parent.parent / "raysym" / "kernels" / "COVERAGE.md"
DTYPES = ("float32", "float64", "float16")
HEAD = """\
# Coverage of the generated kernels

What runs for each op page on the samples of the test suite, by the dtype of its floating inputs:
`kernel` a generated kernel or no work at all, `some` for some parameters, `reference` the page's
own kernel, `-` no such dtype. Written by `python tests/test_kernels_coverage.py`; the words are
checked by a test. float16 needs a processor that converts it (F16C, arm64).

"""


def has_kernel(op: Op, ins: list[TensorType]) -> bool:
    """True when the op on these types is generated, fused or only another view."""
    nothing = [None] * op.n_values()
    shapes = op.infer_shape([t.shape for t in ins], nothing)[1]
    given, dtypes = op.infer_dtype([t.dtype for t in ins], nothing)
    ins = [TensorType(t.shape, str(dtype)) for t, dtype in zip(ins, given, strict=True)]
    outs = [TensorType(tuple(s or ()), str(d)) for s, d in zip(shapes, dtypes, strict=True)]
    names, made = [f"in{i}" for i in range(len(ins))], [f"out{i}" for i in range(len(outs))]
    run = Run(tuple(made), op, tuple(names))
    types = dict(zip([*names, *made], [*ins, *outs], strict=True))
    if is_view(run, types) or is_elementwise(run, types):
        return True
    return lower(op, ins, outs) is not None


def found(name: str, dtype: str) -> Iterator[bool]:
    """For every sample that can be of a dtype, whether it has a kernel."""
    for sample in SAMPLES[name]:
        arrays = single(sample, dtype)
        if dtype != "float32" and not any(a.dtype == dtype for a in arrays):
            continue
        try:
            yield has_kernel(
                make_op(name, sample.params), [TensorType(a.shape, a.dtype.name) for a in arrays]
            )
        except (MXNetError, TypeError, ValueError):
            continue  # the page refuses the dtype


def word(name: str, dtype: str) -> str:
    hits = list(found(name, dtype))
    if not hits:
        return "-"
    return "kernel" if all(hits) else "some" if any(hits) else "reference"


def written() -> str:
    rows = {name: [word(name, dtype) for dtype in DTYPES] for name in sorted(SAMPLES)}
    counts = [sum(row[i] == "kernel" for row in rows.values()) for i in range(len(DTYPES))]
    said = ", ".join(f"{n} for {dtype}" for n, dtype in zip(counts, DTYPES, strict=True))
    lines = [f"| {name} | {' | '.join(row)} |" for name, row in rows.items()]
    top = [f"| op | {' | '.join(DTYPES)} |", "|---|---|---|---|"]
    return f"{HEAD}Of {len(rows)} pages {said} are `kernel`.\n\n" + "\n".join([*top, *lines]) + "\n"


@pytest.mark.skipif(not llvm.has_half(), reason="the table is that of hosts with float16")
def test_the_committed_table_is_that_of_the_code() -> None:
    assert TABLE.read_text(encoding="utf-8") == written()


if __name__ == "__main__":
    TABLE.write_text(written(), encoding="utf-8")
