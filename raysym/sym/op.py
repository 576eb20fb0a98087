"""All ops that have a public name."""

from raysym.sym.generate import lazy_functions

__getattr__, __dir__ = lazy_functions(globals(), "")
