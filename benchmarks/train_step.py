"""Whole steps of six networks, side by side: generated kernels, reference kernels, peers.

    python benchmarks/train_step.py [--nets mlp,lenet] [--threads 1] [--mode train]
        [--torch PYTHON] [--mxnet PYTHON] [--reference] [--rounds 2] [--out benchmarks/results]

PyTorch and MXNet run in environments of their own, given as paths of their interpreters; a peer
that is not given, does not start or does not end is left out with a word. Libraries take turns,
round after round, so that a busy moment of the machine hits all of them. Times are medians of all
steps, by the clock and of processor time: on a machine that others use, only the second says much
about one thread. The results of the newest run are kept, with the load averages before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
NETS = ("mlp", "lenet", "resnet18", "resnet50", "lstm", "transformer")
OURS = "raysym-generated"
PEERS = ("torch", "mxnet")
LONGEST_S = 600.0  # one net in one library


def run(library: str, python: str, args: argparse.Namespace, net: str) -> dict[str, Any] | None:
    """Step times of one net in one library, measured in a process of its own."""
    script = "train_nets_torch.py" if library == "torch" else "train_nets.py"
    # -P: this folder's scheduler.py must not stand in for the package.
    safe = ["-P"] if library.startswith("raysym") else []
    command = [python, *safe, str(HERE / script), library, str(args.threads), args.mode, net]
    threads = str(args.threads)
    env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    env["PYTHONPATH"] = str(HERE.parent) if library.startswith("raysym") else ""
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LONGEST_S)
        why = done.stderr.strip()[-300:] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        left_out(f"{library} {net}", why)
        return None
    made: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {"version": made["version"], **made[net]}


def left_out(what: str, why: str) -> None:
    """Say so on the terminal."""
    Console(stderr=True).print(f"left out: {what}: {why}", markup=False)


def measure(args: argparse.Namespace) -> dict[str, dict[str, dict[str, Any]]]:
    """net -> library -> median and best step in ms, seconds of the first and a later bind."""
    pythons = {OURS: sys.executable}
    if args.reference:
        pythons["raysym-reference"] = sys.executable
    for name in PEERS:
        if vars(args)[name]:
            pythons[name] = vars(args)[name]
        else:
            left_out(name, f"no interpreter given: --{name} PYTHON")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for net in args.nets.split(","):
        runs: dict[str, list[dict[str, Any]]] = {library: [] for library in pythons}
        for _ in range(args.rounds):
            for library, python in pythons.items():
                made = run(library, python, args, net)
                runs[library] += [made] if made else []
        found[net] = {library: summary(made) for library, made in runs.items() if made}
    return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One library's numbers for one net."""
    wall, busy = ([step[i] * 1e3 for made in runs for step in made["steps_s"]] for i in (0, 1))
    binds = [made["bind_s"] for made in runs]
    return {
        "wall_ms": round(median(wall), 3),
        "best_wall_ms": round(min(wall), 3),
        "cpu_ms": round(median(busy), 3),
        "steps": len(wall),
        "first_bind_s": round(binds[0], 3),
        "best_bind_s": round(min(binds), 3),
        "version": runs[0]["version"],
    }


def ratios(row: dict[str, dict[str, Any]], key: str) -> float | None:
    """Our time over the better peer's."""
    peers = [row[name][key] for name in PEERS if name in row]
    return round(row[OURS][key] / min(peers), 3) if peers and OURS in row else None


def main() -> None:
    """Measure, print a table, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mode", choices=("train", "infer"), default="train")
    parser.add_argument("--reference", action="store_true", help="our reference kernels as well")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--torch", default="", help="interpreter of the environment of PyTorch")
    parser.add_argument("--mxnet", default="", help="interpreter of the environment of MXNet")
    parser.add_argument("--out", default=str(HERE / "results"))
    args = parser.parse_args()
    before = os.getloadavg()
    found = measure(args)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "benchmarks/train_step.py", *_public(sys.argv[1:])]),
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.platform()},
        "load_before": before,
        "load_after": os.getloadavg(),
        "nets": found,
        "ratios": {
            key: {net: ratios(row, key) for net, row in found.items()}
            for key in ("wall_ms", "best_wall_ms", "cpu_ms")
        },
    }
    Console(width=140).print(table(report))
    path = Path(args.out) / f"step_{args.mode}_{args.threads}_threads.json"
    path.write_text(json.dumps(report, indent=1) + "\n")


def _public(words: list[str]) -> list[str]:
    # Where a peer's interpreter lies is nobody else's business.
    return [Path(word).name if "/" in word else word for word in words]


def cpu_name() -> str:
    """The processor as Linux names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def table(report: dict[str, Any]) -> Table:
    """A row for each net, a column for each library."""
    libraries = list(dict.fromkeys(name for row in report["nets"].values() for name in row))
    made = Table(title="ms of a step: median by the clock (best) processor")
    for title in ("net", *libraries, "ratios", "bind s, first and best"):
        made.add_column(title)
    for net, row in report["nets"].items():
        cells = [
            "{wall_ms} ({best_wall_ms}) {cpu_ms}".format(**row[n]) if n in row else "-"
            for n in libraries
        ]
        bind = row.get(OURS, {})
        shown = f"{bind.get('first_bind_s')} {bind.get('best_bind_s')}"
        compared = " ".join(str(report["ratios"][key][net]) for key in report["ratios"])
        made.add_row(net, *cells, compared, shown)
    return made


if __name__ == "__main__":
    main()
