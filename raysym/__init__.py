"""raysym: MXNet's Symbol API as a distributed dataflow executor on Ray. ``import raysym as mx``."""

from raysym import contexts as context
from raysym import errors as base
from raysym import model, nd, operator, sym
from raysym import names as name
from raysym.context import Context, cpu, cpu_pinned, cpu_shared, current_context, gpu
from raysym.errors import (
    MXNetError,
    NotImplementedForSymbol,
    PlacementError,
    PlanError,
    StallError,
    WorkerError,
)
from raysym.executor import Executor
from raysym.forecast import Forecast, forecast, planned_memory
from raysym.names import AttrScope
from raysym.nd import NDArray, random
from raysym.sym import Group, Symbol, Variable

# MXNet's other names of the same things; `base` is where its errors are.
symbol = sym
ndarray = nd
attribute = name

__version__ = "0.1.0"

__all__ = [
    "AttrScope",
    "Context",
    "Executor",
    "Forecast",
    "Group",
    "MXNetError",
    "NDArray",
    "NotImplementedForSymbol",
    "PlacementError",
    "PlanError",
    "StallError",
    "Symbol",
    "Variable",
    "WorkerError",
    "attribute",
    "base",
    "context",
    "cpu",
    "cpu_pinned",
    "cpu_shared",
    "current_context",
    "forecast",
    "gpu",
    "model",
    "name",
    "nd",
    "ndarray",
    "operator",
    "planned_memory",
    "random",
    "sym",
    "symbol",
]
