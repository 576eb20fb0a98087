"""All public operators, made from the registry."""

from raysym.nd.generate import lazy_functions

__getattr__, __dir__ = lazy_functions(globals(), "")
