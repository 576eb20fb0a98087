"""Grouping: do groups lie one below another, like stages of a pipeline, or side by side?"""

from itertools import pairwise

from raysym.pictures.diagram import Diagram

__all__ = ["stack_groups"]


def stack_groups(diagram: Diagram) -> list[str]:
    """The groups from first to last if each hands on to the next and none hands back; else [].

    Then there is only one order for them, and stacking them loses nothing. A mark without a group
    has no place in a stack.
    """
    groups = list(dict.fromkeys(mark.group for mark in diagram.marks))
    of = {mark.id: mark.group for mark in diagram.marks}
    links = {(of[a.src], of[a.dst]) for a in diagram.arrows if of[a.src] != of[a.dst]}
    if "" in groups or len(groups) < 2:
        return []
    order = _first_to_last(groups, links)
    return order if all(pair in links for pair in pairwise(order)) else []


def _first_to_last(groups: list[str], links: set[tuple[str, str]]) -> list[str]:
    """A topological order of the groups; cut short at a cycle."""
    order: list[str] = []
    waiting = {group: sum(dst == group for _, dst in links) for group in groups}
    ready = [group for group in groups if waiting[group] == 0]
    for group in ready:
        order.append(group)
        for src, dst in sorted(links):
            if src == group:
                waiting[dst] -= 1
                if waiting[dst] == 0:
                    ready.append(dst)
    return order if len(order) == len(groups) else []
