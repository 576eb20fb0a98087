"""Contiguous splits: chains of ideals (down-sets) of the unit graph, searched exactly when few."""
