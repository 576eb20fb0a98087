"""Benchmarks start: none is hidden or broken by a neighbour. What they measure is not tested."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    "name",
    [
        "binds", "kernels", "memory", "peak", "predicted", "runtime", "scaling", "scheduler",
        "train_step",
    ],
)  # fmt: skip
def test_a_benchmark_explains_itself(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--help"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_the_table_names_every_script_and_result() -> None:
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in FOLDER.glob("*.py") if f"`{p.name}`" not in table] == []
    assert [p.name for p in (FOLDER / "results").iterdir() if p.name not in table] == []
