"""Operators that MXNet files under contrib: attention, boxes, resizing, ..."""

from raysym.nd.generate import lazy_functions

__getattr__, __dir__ = lazy_functions(globals(), "contrib")
