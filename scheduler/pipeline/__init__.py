"""Pipeline schedules as text: named ones, a search, and their exact timeline."""

from .action import Action, Order, parse_order, print_order
from .named import NAMED, gpipe, interleaved, one_f_one_b, zero_bubble_free, zero_bubble_h1
from .search import search
from .stages import Stages
from .timeline import Timeline, run

__all__ = [
    "NAMED",
    "Action",
    "Order",
    "Stages",
    "Timeline",
    "gpipe",
    "interleaved",
    "one_f_one_b",
    "parse_order",
    "print_order",
    "run",
    "search",
    "zero_bubble_free",
    "zero_bubble_h1",
]
