"""Planned memory of large nets beside MXNet's own plan, what recomputing costs, and measured peaks.

``python benchmarks/memory.py [--mxnet PYTHON] [--times] [--peaks] [--write]``: PYTHON is an
interpreter that has MXNet 1.9.1. MB are 2**20 bytes. What is planned are activations, gradients on
the way and workspace, as MXNet's `debug_str` counts: arguments, their gradients and states are not
in it. They are in the peaks, planned and measured, each in a process of its own. Batch 8.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import image_nets
import numpy as np
import train_nets
from reports import report

NETS = {
    "resnet50_v1": (image_nets, (8, 3, 224, 224)),
    "resnet50": (train_nets, (8, 3, 224, 224)),
    "vgg16": (image_nets, (8, 3, 224, 224)),
    "inception_v3": (image_nets, (8, 3, 299, 299)),
}
TIMED = {
    "resnet18": (32, 3, 32, 32),
    **{name: NETS[name][1] for name in NETS if name != "resnet50_v1"},
}
STEPS = 3


def made(library: Any, name: str) -> tuple[Any, tuple[int, ...]]:
    """The net in a library's symbols, and the shape of its data."""
    train_nets.S = image_nets.S = library.sym
    module, shape = NETS.get(name, (train_nets, TIMED.get(name, ())))
    return getattr(module, name)(), shape


def executor(library: Any, name: str, train: bool, **options: Any) -> Any:
    """The net bound to zeros, with gradients of its parameters when training."""
    net, shape = made(library, name)
    fixed = {"data", "softmax_label"}
    requests = {a: "write" if train and a not in fixed else "null" for a in net.list_arguments()}
    return net.simple_bind(library.cpu(), grad_req=requests, data=shape, **options)


# ----- plans


def mxnet_plan() -> None:
    """Print MXNet's plans as JSON: net -> MB of training and of inference."""
    library = importlib.import_module("mxnet")
    found = {}
    for name in NETS:
        texts = [executor(library, name, train).debug_str() for train in (True, False)]
        found[name] = [int(text.rpartition("Total ")[2].split()[0])
                       for text in (t.partition(" MB allocated")[0] for t in texts)]  # fmt: skip
    print(json.dumps(found), flush=True)
    os._exit(0)  # its engine may hang at exit


def plans_of_mxnet(python: str) -> dict[str, list[int]]:
    """What `mxnet_plan` prints in another interpreter, without oneDNN's fused subgraphs."""
    where = {**os.environ, "MXNET_SUBGRAPH_BACKEND": "NONE"}
    command = [python, __file__, "--plan-of-mxnet"]
    text = subprocess.run(command, env=where, capture_output=True, text=True, check=True).stdout
    plans: dict[str, list[int]] = json.loads(text.splitlines()[-1])
    return plans


def planned(name: str, memory: str | None) -> dict[str, float]:
    """MB that raysym plans for generated kernels; nothing is compiled or allocated."""
    library = importlib.import_module("raysym")
    net, shape = made(library, name)
    found = {}
    for mode in ("training", "inference"):
        if mode == "training" or memory is None:
            kinds = library.planned_memory(
                net,
                {"data": shape},
                is_train=mode == "training",
                fixed=("data", "softmax_label"),
                kernels="generated",
                memory=memory,
            )
            found[mode] = round(kinds.work / 2**20, 1)
    return found


# ----- peaks


def peaks(name: str) -> dict[str, dict[str, float]]:
    """MB planned and measured of training, with and without recomputing, and of inference."""
    found = {}
    for mode, kept in (("training", "default"), ("training", "minimal"), ("inference", "default")):
        command = [sys.executable, str(Path(__file__).with_name("peak.py")), name, mode, kept]
        for _ in range(2):  # the first run compiles
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"{mode}, {kept}"] = json.loads(done.stdout)
    return found


# ----- times


def seconds(name: str, memory: str | None) -> tuple[float, float]:
    """The least processor seconds of a training step, and MB of its plan."""
    library = importlib.import_module("raysym")
    bound = executor(library, name, True, kernels="generated", memory=memory)
    rng = np.random.default_rng(0)
    for array in bound.arg_dict.values():
        array[:] = rng.normal(size=array.shape) * 0.05
    times = []
    for _ in range(STEPS):
        begun = time.process_time()
        bound.forward(is_train=True)
        bound.backward()
        times.append(time.process_time() - begun)
    return min(times), round(bound.memory()["cpu:0"].work / 2**20, 1)


def timed(name: str) -> dict[str, Any]:
    """Seconds and MB with and without recomputing."""
    plain, lean = seconds(name, None), seconds(name, "minimal")
    return {
        "default": {"step_s": round(plain[0], 4), "MB": plain[1]},
        "minimal": {"step_s": round(lean[0], 4), "MB": lean[1]},
        "time_ratio": round(lean[0] / plain[0], 3),
    }


def main() -> None:
    """Plan, and time if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mxnet", default="", help="an interpreter with MXNet 1.9.1")
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--peaks", action="store_true", help="measure what processes grow by")
    parser.add_argument("--write", action="store_true", help="keep the results")
    parser.add_argument("--plan-of-mxnet", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plan_of_mxnet:
        mxnet_plan()
    parts: dict[str, Callable[[], object]] = {"planned_MB": partial(plans, given.mxnet)}
    if given.peaks:
        parts["peaks_MB"] = lambda: {name: peaks(name) for name in TIMED}
    if given.times:
        parts["times"] = lambda: {name: timed(name) for name in TIMED}
    report("memory", " ".join(_options()), parts, given.write)


def plans(mxnet: str) -> dict[str, Any]:
    """By net: MB that are planned by default, at the least, and by MXNet if it is given."""
    found: dict[str, Any] = {
        name: {"default": planned(name, None), "minimal": planned(name, "minimal")} for name in NETS
    }
    if mxnet:
        for name, (train, infer) in plans_of_mxnet(mxnet).items():
            found[name]["mxnet"] = {"training": train, "inference": infer}
    else:
        print("MXNet's plans are left out: no --mxnet", file=sys.stderr)
    return found


def _options() -> list[str]:
    return ["--mxnet PYTHON" if a == "--mxnet" else a for a in sys.argv[1:] if a.startswith("-")]


if __name__ == "__main__":
    main()
