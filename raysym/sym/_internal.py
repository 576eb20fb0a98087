"""Ops by their internal names, _plus_scalar."""

from raysym.sym.generate import lazy_functions

__getattr__, __dir__ = lazy_functions(globals(), "_internal")
