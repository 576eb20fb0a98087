"""Pipeline schedules as text: named ones, a search, and their exact timeline."""

from .action import Action, Order, parse_order, print_order
from .greedy import GREEDY, one_f_one_b_of, zero_bubble_free_of, zero_bubble_h1_of
from .named import NAMED, gpipe, interleaved, one_f_one_b, zero_bubble_free, zero_bubble_h1
from .search import search
from .stages import Stages
from .timeline import Timeline, run

__all__ = [
    "GREEDY",
    "NAMED",
    "Action",
    "Order",
    "Stages",
    "Timeline",
    "gpipe",
    "interleaved",
    "one_f_one_b",
    "one_f_one_b_of",
    "parse_order",
    "print_order",
    "run",
    "search",
    "zero_bubble_free",
    "zero_bubble_free_of",
    "zero_bubble_h1",
    "zero_bubble_h1_of",
]
