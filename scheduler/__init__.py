"""scheduler: weighted DAG + cluster model -> certified schedule. Pure Python and numpy, no Ray."""

from .bounds import Bound
from .cluster import Cluster, Device, Link
from .errors import ScheduleError
from .export import from_json, to_chrome_trace, to_json
from .graph import Part, Task, TaskGraph
from .instances import Instance, load_instance
from .place import POLICIES, place
from .policies.ideals import split
from .policies.in_turn import in_turn
from .schedule import Schedule, Slot
from .simulate import Program, Simulation, Work, simulate
from .verify import verify

__all__ = [
    "POLICIES",
    "Bound",
    "Cluster",
    "Device",
    "Instance",
    "Link",
    "Part",
    "Program",
    "Schedule",
    "ScheduleError",
    "Simulation",
    "Slot",
    "Task",
    "TaskGraph",
    "Work",
    "from_json",
    "in_turn",
    "load_instance",
    "place",
    "simulate",
    "split",
    "to_chrome_trace",
    "to_json",
    "verify",
]
