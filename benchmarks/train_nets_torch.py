"""The networks of train_step.py in PyTorch; same command line and output as train_nets.py."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

SECONDS, LEAST, MOST = 4.0, 3, 400


class Residual(nn.Module):
    """A residual block of convolutions (filters, kernel)."""

    def __init__(self, channels: int, stages: list[tuple[int, int]], stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width, first = channels, True
        for i, (filters, kernel) in enumerate(stages):
            step = stride if kernel == 3 and first else 1
            first = first and kernel != 3
            layers += [nn.Conv2d(width, filters, kernel, step, kernel // 2, bias=False)]
            layers += [nn.BatchNorm2d(filters)]
            layers += [nn.ReLU()] if i < len(stages) - 1 else []
            width = filters
        self.main = nn.Sequential(*layers)
        self.side: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.side = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Any) -> Any:
        """``relu(main(x) + side(x))``."""
        return torch.relu(self.main(x) + self.side(x))


def resnet(stem: list[nn.Module], parts: Any, tail: list[nn.Module], deep: bool) -> nn.Module:
    """A residual network of (width, stride, blocks)."""
    layers, channels = list(stem), 64
    for width, stride, count in parts:
        for block in range(count):
            stages = [(width, 1), (width, 3), (4 * width, 1)] if deep else [(width, 3)] * 2
            layers.append(Residual(channels, stages, 1 if block else stride))
            channels = stages[-1][0]
    return nn.Sequential(*layers, *tail)


def nets() -> dict[str, tuple[Any, tuple[int, ...], int]]:
    """Maker, shape of the data, number of classes (0: the sum of the output is the loss)."""
    return {
        "mlp": (
            lambda: nn.Sequential(
                nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
            ),
            (128, 784),
            10,
        ),
        "lenet": (
            lambda: nn.Sequential(
                nn.Conv2d(1, 20, 5), nn.Tanh(), nn.MaxPool2d(2),
                nn.Conv2d(20, 50, 5), nn.Tanh(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(800, 500), nn.Tanh(), nn.Linear(500, 10),
            ),
            (64, 1, 28, 28),
            10,
        ),
        "resnet18": (
            lambda: resnet(
                [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()],
                ((64, 1, 2), (128, 2, 2), (256, 2, 2), (512, 2, 2)),
                [nn.AvgPool2d(4), nn.Flatten(), nn.Linear(512, 10)],
                False,
            ),
            (32, 3, 32, 32),
            10,
        ),
        "resnet50": (
            lambda: resnet(
                [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                 nn.MaxPool2d(3, 2, 1)],
                ((64, 1, 3), (128, 2, 4), (256, 2, 6), (512, 2, 3)),
                [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)],
                True,
            ),
            (8, 3, 224, 224),
            1000,
        ),
        "lstm": (lambda: nn.LSTM(256, 256, 2), (35, 32, 256), 0),
        "transformer": (
            lambda: nn.TransformerEncoder(
                nn.TransformerEncoderLayer(
                    256, 8, 1024, dropout=0.0, activation="gelu", batch_first=True
                ),
                4,
                enable_nested_tensor=False,
            ),
            (8, 128, 256),
            0,
        ),
    }  # fmt: skip


def stepper(net: nn.Module, shape: tuple[int, ...], classes: int, train: bool) -> Any:
    """One step as a function."""
    x = torch.randn(shape, requires_grad=train and not classes)
    y = torch.randint(0, max(classes, 1), (shape[0],))
    net.train(train)

    def step() -> None:
        if not train:
            with torch.no_grad():
                net(x)
            return
        x.grad = None
        for p in net.parameters():
            p.grad = None
        out = net(x)
        out = out[0] if isinstance(out, tuple) else out
        (F.cross_entropy(out, y) if classes else out.sum()).backward()

    return step


def timed(step: Any) -> list[tuple[float, float]]:
    """Seconds of each step after two to warm up: by the clock, and of processor time."""
    step()
    step()
    found: list[tuple[float, float]] = []
    end = time.perf_counter() + SECONDS
    while len(found) < LEAST or (time.perf_counter() < end and len(found) < MOST):
        begun, busy = time.perf_counter(), time.process_time()
        step()
        found.append((time.perf_counter() - begun, time.process_time() - busy))
    return found


def main() -> None:
    """Time the nets that the command line names."""
    _, threads, mode, names = sys.argv[1:5]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    found: dict[str, Any] = {"version": torch.__version__}
    for name in names.split(","):
        begun = time.perf_counter()
        make, shape, classes = nets()[name]
        step = stepper(make(), shape, classes, mode == "train")
        bind_s = time.perf_counter() - begun
        found[name] = {"bind_s": bind_s, "steps_s": timed(step)}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
