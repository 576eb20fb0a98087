"""One training step at 1, 2 and 4 Ray workers against the same step in this process.

    python benchmarks/scaling.py [--steps 60] [--out benchmarks/results]

A step is `forward`, `backward`, and reading the outputs; weights stay where they are. Cuts are the
scheduler's (cluster=n). Each timing is the median of `--steps` steps after ten to warm up, and the
spread is that between the first and the third quartile. The bits of all outputs and gradients are
compared with the in-process run before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
from rich import box
from rich.console import Console
from rich.table import Table

import raysym as mx
from raysym.demo import network

WORKERS = (1, 2, 4)
WARM_UP = 10
ACTIVITIES = ("compute", "communicate", "wait")
WIDTH, LAYERS = 512, 6


class Case(NamedTuple):
    """A network by name and the shapes of its inputs."""

    name: str
    symbol: mx.Symbol
    shapes: dict[str, tuple[int, ...]]


class Timing(NamedTuple):
    """Milliseconds of a step, and where each worker's time went (milliseconds in a step)."""

    case: str
    runtime: str
    workers: int
    median_ms: float
    quartiles_ms: tuple[float, float]
    by_worker: dict[str, dict[str, float]]
    bytes_sent: int


def cases() -> list[Case]:
    """A mid-size multilayer perceptron, and the demo's network on a larger batch."""
    mlp = Case(f"MLP {LAYERS}x{WIDTH}", perceptron(), {"data": (128, WIDTH)})
    cnn = Case("demo CNN", network.compose(), {"data": (200, 1, 8, 8)})
    return [mlp, cnn]


def perceptron() -> mx.Symbol:
    """Dense layers with rectifiers and a softmax over ten classes."""
    net = mx.sym.Variable("data")
    for number in range(1, LAYERS + 1):
        net = mx.sym.FullyConnected(net, num_hidden=WIDTH, name=f"fc{number}")
        net = mx.sym.Activation(net, act_type="relu", name=f"relu{number}")
    net = mx.sym.FullyConnected(net, num_hidden=10, name="last")
    return mx.sym.SoftmaxOutput(net, normalization="batch", name="softmax")


def main(arguments: Sequence[str] | None = None) -> int:
    """Time all cases, print the table, store text and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="default %(default)s")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args(arguments)
    start_ray()
    timings = [timing for case in cases() for timing in measure(case, given.steps)]
    facts = circumstances(given.steps)
    store(timings, facts, given.out)
    return 0


def start_ray() -> None:
    """A Ray with room for all workers, whose processes run at the priority of this one."""
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_worker_niceness="0")
    ray.init(
        num_cpus=max(WORKERS),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


# ----- measuring


def measure(case: Case, steps: int) -> list[Timing]:
    """In this process first: its bits are what the others must come to."""
    with bind(case, 1, "local") as executor:
        wanted = bits(executor)
        found = [time_steps(case, executor, "in-process", 1, steps)]
    for workers in WORKERS:
        with bind(case, workers, "ray") as executor:
            if bits(executor) != wanted:
                raise SystemExit(f"{case.name}: {workers} workers come to other bits")
            found.append(time_steps(case, executor, "ray", workers, steps))
    return found


def bind(case: Case, workers: int, runtime: str) -> mx.Executor:
    """Arrays of random numbers, the same for every number of workers; no gradient of the data."""
    inputs = ("data", "softmax_label")
    trained = {name: "write" for name in case.symbol.list_arguments() if name not in inputs}
    executor = case.symbol.simple_bind(
        mx.cpu(), grad_req=trained, cluster=workers, runtime=runtime, **case.shapes
    )
    rng = np.random.default_rng(0)
    for name, array in executor.arg_dict.items():
        array[:] = rng.integers(0, 10, array.shape) if name.endswith("label") else (
            rng.normal(0, 0.05, array.shape)
        )  # fmt: skip
    return executor


def step(executor: mx.Executor) -> None:
    """One step as a training loop sees it."""
    executor.forward(is_train=True)
    executor.backward()
    executor.outputs[0].asnumpy()


def bits(executor: mx.Executor) -> list[bytes]:
    """Outputs and gradients of one step."""
    step(executor)
    arrays = [*executor.outputs, *(grad for grad in executor.grad_arrays if grad is not None)]
    return [array.asnumpy().tobytes() for array in arrays]


def time_steps(case: Case, executor: mx.Executor, runtime: str, workers: int, n: int) -> Timing:
    """The median of `n` steps."""
    for _ in range(WARM_UP):
        step(executor)
    before = executor.timings()
    seconds = [clocked(lambda: step(executor)) for _ in range(n)]
    after = executor.timings()
    by_worker = {
        worker: {key: (after[worker][key] - before[worker][key]) * 1e3 / n for key in now}
        for worker, now in after.items()
    }
    low, middle, high = (q * 1e3 for q in statistics.quantiles(seconds, n=4))
    sent = bytes_sent(executor)
    return Timing(case.name, runtime, workers, middle, (low, high), by_worker, sent)


def clocked(run: Callable[[], Any]) -> float:
    """Seconds that `run` takes."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def bytes_sent(executor: mx.Executor) -> int:
    """Bytes that workers send each other in one step."""
    plan = executor.plan
    programs = [body for phases in plan.programs.values() for body in phases.values()]
    sent = [i.entry for body in programs for i in body if type(i).__name__ == "Send"]
    return sum(plan.types[entry].nbytes for entry in sent)


# ----- reporting


def circumstances(steps: int) -> dict[str, Any]:
    """Where, when and how."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} x {processor()}, {platform.system()} {platform.release()}",
        "load": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "raysym": mx.__version__,
        "ray": ray.__version__,
        "steps": steps,
        "command": shlex.join(["python", "benchmarks/scaling.py", *sys.argv[1:]]),
    }


def processor() -> str:
    """The processor's name as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def store(timings: Sequence[Timing], facts: dict[str, Any], folder: Path) -> None:
    """Print the table; write ``scaling.txt`` and ``scaling.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    report = [f"{key}: {value}" for key, value in facts.items()]
    with (folder / "scaling.txt").open("w") as file:
        for console in (Console(highlight=False), Console(file=file, width=100, highlight=False)):
            console.print(table(timings))
            console.print("\n".join(report), style="dim")
    document = {**facts, "timings": [timing._asdict() for timing in timings]}
    (folder / "scaling.json").write_text(json.dumps(document, indent=1) + "\n")


def table(timings: Sequence[Timing]) -> Table:
    """One row for each timing, next to the in-process one."""
    title = "One training step, in milliseconds (the last three: all workers together)"
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True)
    made.add_column("", no_wrap=True)
    for column in ("step", "quartiles", "speed-up", "KiB sent", "compute", "comm.", "wait"):
        made.add_column(column, justify="right", no_wrap=True)
    alone = {timing.case: timing.median_ms for timing in timings if timing.runtime == "in-process"}
    for timing in timings:
        if timing.runtime == "in-process":
            made.add_section()
            made.add_row(f"[bold]{timing.case}[/]")
        made.add_row(*cells(timing, alone[timing.case]))
    return made


def cells(timing: Timing, alone_ms: float) -> list[str]:
    """The row of one timing."""
    low, high = timing.quartiles_ms
    local = timing.runtime == "in-process"
    sums = [sum(worker[key] for worker in timing.by_worker.values()) for key in ACTIVITIES]
    return [
        "in-process" if local else f"{timing.workers} on Ray",
        f"{timing.median_ms:.1f}",
        f"{low:.1f}-{high:.1f}",
        f"{alone_ms / timing.median_ms:.2f}",
        f"{timing.bytes_sent / 1024:,.0f}",
        *(f"{value:.1f}" for value in sums),
    ]


if __name__ == "__main__":
    sys.exit(main())
