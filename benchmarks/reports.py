"""What is kept of a measurement: when, where and by which command, and the numbers."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"


def report_rounds(
    name: str, doc: str | None, parts: Mapping[str, Callable[[int], object]], rounds: int
) -> None:
    """What the script `name` does when it is called: `parts` are measured in so many rounds."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--write", action="store_true", help="keep the results")
    given = parser.parse_args()
    measures = {part: partial(measure, given.rounds) for part, measure in parts.items()}
    report(name, f"--rounds {given.rounds} --write", measures, given.write)


def report(name: str, options: str, parts: Mapping[str, Callable[[], object]], keeps: bool) -> None:
    """Measure `parts` in turn and print them as JSON; into the results of script `name` if kept."""
    found: dict[str, object] = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, NumPy {np.__version__}",
        "command": f"python benchmarks/{name}.py {options}".rstrip(),
        "load_before": round(os.getloadavg()[0], 2),
    }
    found |= {key: measure() for key, measure in parts.items()}
    text = json.dumps(found, indent=1)
    print(text)
    if keeps:
        (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
