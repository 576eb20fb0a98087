"""Acyclic multilevel partitioning of large graphs: coarsen along an order, cut, refine."""

from .multilevel import Partition, partition

__all__ = ["Partition", "partition"]
