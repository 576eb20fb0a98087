"""Linear algebra on the last two axes: gemm, potrf, trsm, ..."""

from raysym.nd.generate import lazy_functions

__getattr__, __dir__ = lazy_functions(globals(), "linalg")
