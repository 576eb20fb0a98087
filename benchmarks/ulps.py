"""The worst error of float32 functions over every float32 there is, in units of the last place.

``python benchmarks/ulps.py [names] [--write]``: minutes on one core. Exact values are those of the
same function in float64; 0 means that all results are these, rounded. *gate_sigmoid* and
*gate_tanh* are those of recurrent cells, over what these see. The kernel that measures is that of
the tests, which ask for at most 2 everywhere.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from reports import report

sys.path.append(str(Path(__file__).parent.parent / "tests"))
measure = importlib.import_module("ulp_kernel")

NAMES = (*measure.MEASURED, *measure.GATES)


def worst(name: str) -> dict[str, float]:
    """The worst error of a function, and how many bit patterns were tried."""
    ranges: Sequence[tuple[int, int]] = measure.SEEN.get(name, [(0, measure.EVERY)])
    ulp = max(measure.worst(name, first, last) for first, last in ranges)
    return {"ulp": round(ulp, 3), "patterns": sum(last - first for first, last in ranges)}


def main() -> None:
    """Measure the functions that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help=f"of {', '.join(NAMES)}")
    parser.add_argument("--write", action="store_true", help="keep the results")
    given = parser.parse_args()
    options = "--write" if given.names == NAMES else " ".join(given.names)
    report("ulps", options, {name: partial(worst, name) for name in given.names}, given.write)


if __name__ == "__main__":
    main()
