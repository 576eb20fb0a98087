"""Operators under their sparse names. Arrays are dense here; the results are the same."""

from raysym.nd.generate import lazy_functions

__getattr__, __dir__ = lazy_functions(globals(), "sparse")
