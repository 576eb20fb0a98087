"""`cluster/probe.py`: workers are measured at once, and what they measured makes a cluster."""

from __future__ import annotations

import importlib
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scheduler import Cluster

pytest.importorskip("rich")
FOLDER = Path(__file__).parent.parent / "cluster"


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, which other processes find as well."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("probe")


def meet(folder: Path, others: int) -> Any:
    """A machine that is measured only while so many measure; the numbers are 2, 4, ..."""
    machine = importlib.import_module("probe").Machine
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(present := sorted(path.name for path in folder.iterdir())) < others:
        if time.monotonic() > deadline:
            raise TimeoutError(f"alone: {present}")
        time.sleep(0.01)
    number = 2.0 * (1 + present.index(str(os.getpid())))
    return machine({"matmul": number, "pooling": 10 * number}, 100 * number, 1 / number)


def fail() -> Any:
    """A worker that cannot measure."""
    raise SystemExit(1)


def test_workers_measure_at_once_and_count_alike(probe: Any, tmp_path: Path) -> None:
    found = probe.measure_together(2, partial(meet, tmp_path, 2))
    assert found == probe.Machine({"matmul": 3.0, "pooling": 30.0}, 300.0, 0.375)


def test_a_worker_that_fails_ends_the_measurement(probe: Any) -> None:
    with pytest.raises(EOFError):
        probe.measure_together(2, fail)


def test_what_was_measured_makes_a_cluster(probe: Any, tmp_path: Path) -> None:
    machine = probe.measure_machine()
    assert set(machine.flops_per_s) == set(probe.layers())
    numbers = [*machine.flops_per_s.values(), machine.bytes_per_s, machine.overhead_s]
    assert all(number > 0 for number in numbers)
    probe.describe(machine, probe.Way(1e-4, 1e9), 2).save(tmp_path / "cluster.toml")
    loaded = Cluster.load(tmp_path / "cluster.toml")
    assert [device.name for device in loaded.devices] == ["cpu:0", "cpu:1"]
    assert loaded.devices[1].rate("pooling") == pytest.approx(machine.flops_per_s["pooling"])
