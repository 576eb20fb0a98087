"""ScheduleError, the one exception of this package."""


class ScheduleError(ValueError):
    """A graph, cluster or request that cannot be scheduled; the text names what and by how much."""
