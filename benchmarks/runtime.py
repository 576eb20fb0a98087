"""The distributed runtime against Compiled Graphs, chained ObjectRefs and bare pipes.

    python -m benchmarks.runtime [--sections pipeline,hops,...] [--out benchmarks/results]

All numbers are medians, if nothing else is said, and come from one run; the load average stands
beside each, since ratios from a busy machine say more than times do. Each peer is timed in a
process of its own; one that fails or hangs is left out with a word.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from benchmarks.runtime_compute import metg, predicted, replicas
from benchmarks.runtime_lives import failures, memory
from benchmarks.runtime_messages import hops, large_pipeline, nodes, orders, pipeline
from benchmarks.runtime_nets import Row

SECTIONS: dict[str, Callable[[], Iterator[Row]]] = {
    section.__name__: section
    for section in (
        pipeline, large_pipeline, hops, nodes, orders, predicted, replicas, metg, failures, memory,
    )
}  # fmt: skip


@contextmanager
def started(two_nodes: bool) -> Iterator[None]:
    """Ray with room for all, or two raylets with room for one worker each."""
    if not two_nodes:
        options = {"address": "local", "num_cpus": 16, "include_dashboard": False}
        ray.init(**options, log_to_driver=False, logging_level="error")
        yield
        ray.shutdown()
        return
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()
    cluster.shutdown()


def main(arguments: Sequence[str]) -> None:
    """Run the sections that were asked for; print them and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = ",".join(n for n in SECTIONS if n not in ("memory", "nodes"))  # these take minutes
    parser.add_argument("--sections", default=usual)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    environment = {
        # Ray lowers the priority of workers; beside other programs that would measure those.
        name: os.environ.setdefault(name, value)
        for name, value in (("RAY_worker_niceness", "0"), ("OMP_NUM_THREADS", "1"))
    }
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    rows = []
    with started(two_nodes=options.sections == "nodes"):
        for name in options.sections.split(","):
            for what, seconds, remark in SECTIONS[name]():
                load = os.getloadavg()[0]
                rows.append((name, what, seconds, remark, load))
                shown = " " * 15 if seconds is None else f"{seconds * 1e6:12.0f} us"
                print(f"{name:15} {what:30} {shown}  load {load:4.1f}  {remark}", flush=True)
    if options.out:
        record = {
            "command": shlex.join(["python", "-m", "benchmarks.runtime", *arguments]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "ray": ray.__version__,
            "environment": environment,
            "rows": rows,
        }
        options.out.mkdir(parents=True, exist_ok=True)
        alone = options.sections in ("memory", "nodes")
        path = options.out / f"runtime{f'-{options.sections}' * alone}.json"
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
