"""scheduler: weighted DAG + cluster model -> certified schedule. Pure Python and numpy, no Ray."""

from .bounds import Bound
from .cluster import Cluster, Device, Link
from .errors import ScheduleError
from .graph import Task, TaskGraph
from .instances import Instance, load_instance
from .place import POLICIES, place
from .policies.ideals import split
from .schedule import Schedule, Slot

__all__ = [
    "POLICIES",
    "Bound",
    "Cluster",
    "Device",
    "Instance",
    "Link",
    "Schedule",
    "ScheduleError",
    "Slot",
    "Task",
    "TaskGraph",
    "load_instance",
    "place",
    "split",
]
