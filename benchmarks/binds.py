"""What binding costs: with an empty cache of kernels, with a full one, and again in one process.

    python benchmarks/binds.py [--nets resnet50,vgg16] [--write]

Each network is bound for training with generated kernels by two processes, one after the other,
that share a cache folder of their own. Seconds by the clock, and of the processor in the process
that binds: helpers that compile with it have theirs besides. Imports that only kernels need are
part of a first bind.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import memory
import train_nets
from reports import report

import raysym as mx

NETS = ("resnet50", "resnet18", "vgg16", "inception_v3", "lstm", "transformer")


def bind(name: str) -> dict[str, float]:
    """Seconds of one bind."""
    begun, busy = time.perf_counter(), time.process_time()
    if name in memory.TIMED:
        memory.executor(mx, name, True, kernels="generated")
    else:
        net, shape = getattr(train_nets, name)(), train_nets.SHAPES[name]
        net.simple_bind(mx.cpu(), kernels="generated", data=shape)
    return {
        "clock_s": round(time.perf_counter() - begun, 3),
        "processor_s": round(time.process_time() - busy, 3),
    }


def binds(name: str) -> dict[str, dict[str, float]]:
    """Cold, warm and once more."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "XDG_CACHE_HOME": folder}
        command = [sys.executable, __file__, "--one", name]
        cold, warm = (
            json.loads(subprocess.run(command, env=env, capture_output=True, check=True).stdout)
            for _ in range(2)
        )
    return {"cold": cold[0], "warm": warm[0], "again": warm[1]}


def main() -> None:
    """Measure, or be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--write", action="store_true", help="keep the results")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        train_nets.S = mx.sym
        print(json.dumps([bind(given.one) for _ in range(2)]))
        return
    nets = given.nets.split(",")
    parts = {"binds": lambda: {name: binds(name) for name in nets}}
    report("binds", f"--nets {given.nets} --write", parts, given.write)


if __name__ == "__main__":
    main()
