"""The samples themselves: every op has some, and they can tell one axis from another."""

from __future__ import annotations

import pytest
from samples import SAMPLES, Sample

from raysym.op import CANONICAL

PUBLIC = [name for name, page in CANONICAL.items() if not page.internal]

# Ops none of whose samples has distinct dimensions only, and why.
ALIKE = {
    "square matrices": """
        _linalg_trmm _linalg_trsm _linalg_extractdiag _linalg_extracttrian _linalg_potrf
        _linalg_potri _linalg_inverse _linalg_sumlogdiag _linalg_det _linalg_slogdet _linalg_syevd
        _contrib_interleaved_matmul_selfatt_valatt""",
    "as many indices as axes": "_scatter_set_nd",
    "refused in symbols, no sample": "_contrib_boolean_mask",
}
LISTED = {name for names in ALIKE.values() for name in names.split()}


def is_distinct(sample: Sample) -> bool:
    """No two dimensions of one input are alike, those of 1 apart."""
    shapes = [[n for n in array.shape if n > 1] for array in sample.arrays()]
    return all(len(set(shape)) == len(shape) for shape in shapes)


def test_samples_and_registry_agree() -> None:
    assert sorted(SAMPLES) == sorted(CANONICAL)


@pytest.mark.parametrize("name", PUBLIC)
def test_samples_tell_axes_apart(name: str) -> None:
    assert any(map(is_distinct, SAMPLES[name])) == (name not in LISTED)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sample_without_gradient_says_why(name: str) -> None:
    for sample in SAMPLES[name]:
        assert sample.wrt != () or sample.why
        assert all(array.ndim < 8 for array in sample.arrays())
