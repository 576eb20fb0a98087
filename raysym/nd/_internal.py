"""Operators whose names start with an underscore."""

from raysym.nd.generate import lazy_functions

__getattr__, __dir__ = lazy_functions(globals(), "_internal")
