"""Benchmarks start: none is hidden or broken by a neighbour. What they measure is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import raysym

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    "name",
    [
        "binds", "fused", "kernels", "memory", "peak", "predicted", "runtime", "scaling",
        "scheduler", "train_step", "ulps",
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


def test_steps_are_compared_with_those_that_are_there(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "train_step.py"), "--nets", "mlp", "--rounds", "1"]
    command += ["--torch", str(tmp_path / "no-python"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stderr.split())
    assert "left out: torch mlp: [Errno 2] No such file" in words
    assert "left out: mxnet: no interpreter given: --mxnet PYTHON" in words
    report = json.loads((tmp_path / "step_train_1_threads.json").read_text())
    (library,) = report["nets"]["mlp"]
    assert library == "raysym-generated"
    assert report["nets"]["mlp"][library]["version"] == raysym.__version__
    assert report["ratios"]["wall_ms"] == {"mlp": None}
