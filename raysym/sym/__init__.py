"""The symbolic side: Symbol, Variable, Group, and every op as a function that composes it.

``sym.exp(x)``, ``sym.FullyConnected(x, num_hidden=10, name="fc1")``; functions of ops are made
from the registry when first used and carry the page's signature and documentation.
"""

from raysym.sym import _internal, contrib, image, linalg, op, random, sparse
from raysym.sym.functions import (
    arange,
    eye,
    full,
    histogram,
    hypot,
    linspace,
    maximum,
    minimum,
    ones,
    pow,
    power,
    split_v2,
    zeros,
)
from raysym.sym.generate import lazy_functions
from raysym.sym.making import Group, Variable, load, load_json, var
from raysym.symbol import Symbol

__all__ = [
    "Group",
    "Symbol",
    "Variable",
    "_internal",
    "arange",
    "contrib",
    "eye",
    "full",
    "histogram",
    "hypot",
    "image",
    "linalg",
    "linspace",
    "load",
    "load_json",
    "maximum",
    "minimum",
    "ones",
    "op",
    "pow",
    "power",
    "random",
    "sparse",
    "split_v2",
    "var",
    "zeros",
]

__getattr__, __dir__ = lazy_functions(globals(), "")
