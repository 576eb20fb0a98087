"""Contributed ops, and control flow on symbols."""

from raysym.sym.control_flow import cond, foreach, while_loop
from raysym.sym.generate import lazy_functions

__all__ = ["cond", "foreach", "while_loop"]

__getattr__, __dir__ = lazy_functions(globals(), "contrib")
