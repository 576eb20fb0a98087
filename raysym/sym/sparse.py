"""Ops on sparse storage, which is dense here."""

from raysym.sym.generate import lazy_functions

__getattr__, __dir__ = lazy_functions(globals(), "sparse")
