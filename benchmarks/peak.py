"""What a bound net takes of this process, beside what its plan says; run by memory.py.

``python peak.py NET training|inference default|minimal``: one process for each number, as memory
that was used before comes for nothing. Prints JSON, MB of 2**20 bytes: arguments, gradients, states
and work as planned, and how much the process had grown at the peak of two steps. Compiling takes
memory of its own: what counts is the second run. Linux.
"""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path

import memory

import raysym as mx

STEPS = 2


def status(field: str) -> float:
    """MB in a line of what Linux says of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 2**10


def warm_up() -> None:
    """Import and start all that kernels need."""
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=3)
    net.simple_bind(mx.cpu(), data=(2, 3), kernels="generated").forward()
    gc.collect()


def measured(name: str, train: bool, lean: bool) -> dict[str, float]:
    """MB planned, and by how much this process grows until the net has run."""
    warm_up()
    before = status("VmRSS")
    kept = "minimal" if lean else None
    bound = memory.executor(mx, name, train, kernels="generated", memory=kept)
    for array in bound.arg_dict.values():
        array.data[...] = 0.01  # zeros may lie nowhere until they are written
    for _ in range(STEPS):
        bound.forward(is_train=train)
        if train:
            bound.backward()
    ran = bound.memory("training" if train else "inference")  # the other one was never touched
    planned = sum(use.total for use in ran.values()) / 2**20
    return {"planned": round(planned, 1), "measured": round(status("VmHWM") - before, 1)}


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("net", choices=memory.TIMED)
    parser.add_argument("mode", choices=("training", "inference"))
    parser.add_argument("memory", choices=("default", "minimal"))
    given = parser.parse_args()
    print(json.dumps(measured(given.net, given.mode == "training", given.memory == "minimal")))


if __name__ == "__main__":
    main()
