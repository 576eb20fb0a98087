"""``mx.context``: contexts, and how many GPUs this process can use."""

from raysym.context import Context, cpu, cpu_pinned, cpu_shared, current_context, gpu
from raysym.device import num_gpus

__all__ = [
    "Context",
    "cpu",
    "cpu_pinned",
    "cpu_shared",
    "current_context",
    "gpu",
    "num_gpus",
]
