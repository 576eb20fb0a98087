"""What people read: Gantt, explanations, what-ifs, JSON and traces. And what the package
imports."""

import ast
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

import scheduler as s

GRAPH = s.TaskGraph(
    (
        s.Task("a", flops=1e9, memory=1e6),
        s.Task("b", flops=2e9, memory=2e6),
        s.Task("c", flops=1e9, together="a"),
        s.Task("d", flops=1e9, pin="cpu:1"),
    ),
    (("a", "b", 1e8), ("a", "c", 1e8), ("b", "d", 1e8), ("c", "d", 1e8)),
)
CLUSTER = s.Cluster(
    tuple(s.Device(f"cpu:{i}", flops_per_s=1e9, memory=1e9, overhead_s=0.0) for i in range(2)),
    (s.Link(latency_s=0.0),),
)


def schedule():
    return s.place(GRAPH, CLUSTER, "contiguous")


def test_gantt_is_text():
    assert str(schedule()).splitlines() == [
        "cpu:0 |aaaaaaaaaaaaaaacccccccccccccccc.................................| "
        "load 2.2 s memory 1 MB",
        "cpu:1 |.................bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbdddddddddddddddd| "
        "load 3.2 s memory 2 MB",
        "contiguous: load 3.2 s, bound 2.5 s (the work of all devices), gap 28.0%",
    ]


def test_explain_names_loads_bound_and_the_chain_of_waits():
    text = schedule().explain()
    assert "contiguous: load 3.2 s; no schedule beats 2.5 s (the work of all devices)" in text
    assert "cpu:1: load 3.2 s (compute 3 s, transfers 200 ms), memory 2 MB of 1 GB" in text
    assert text.splitlines()[3:] == [
        "the last task waited for:",
        "  d on cpu:1 at 3.1 s: its input from b",
        "  b on cpu:1 at 1.1 s: its input from a over cpu:0 -> cpu:1",
        "  a on cpu:0 at 0 ns: nothing: it is among the first",
    ]


def test_why_says_what_else_was_possible():
    assert schedule().why("c").splitlines() == [
        "c runs on cpu:0 from 1 s to 2 s",
        "it starts then because of its input from a",
        "it stays together with a",
        "  on cpu:0: largest load 3.2 s, as it is",
        "  on cpu:1: largest load 5 s",
    ]
    with pytest.raises(s.ScheduleError, match="no task 'z'"):
        schedule().why("z")


def test_whatif_places_again_on_a_changed_cluster():
    before = schedule()
    assert before.whatif(bandwidth=2).load == pytest.approx(3.1)
    assert before.whatif(flops=2).load == pytest.approx(1.7)
    more = before.whatif(devices=+1)
    assert list(more.loads) == ["cpu:0", "cpu:1", "cpu:1+1"]
    assert more.policy == before.policy
    with pytest.raises(s.ScheduleError, match="pinned to cpu:1"):
        before.whatif(devices=-1)
    with pytest.raises(s.ScheduleError, match="cpu:0 needs"):
        before.whatif(memory=1e-3)


def test_json_reads_back_and_derived_numbers_are_not_believed():
    first = schedule()
    again = s.from_json(s.to_json(first), GRAPH, CLUSTER)
    assert again.slots == first.slots
    assert again.loads == first.loads
    assert again.lower_bound == first.lower_bound
    with pytest.raises(s.ScheduleError, match="not a schedule in JSON"):
        s.from_json('{"policy": "x"}', GRAPH, CLUSTER)


def test_chrome_trace_has_a_bar_per_task_and_an_arrow_per_transfer():
    events = json.loads(s.to_chrome_trace(schedule()))["traceEvents"]
    bars = {e["name"]: (e["ts"], e["dur"]) for e in events if e["ph"] == "X"}
    assert bars["b"] == pytest.approx((1.1e6, 2e6))
    arrows = [e["name"] for e in events if e["ph"] == "s"]
    assert arrows == ["a -> b", "c -> d"]
    assert [e["name"] for e in events if e["ph"] == "f"] == arrows


def test_package_imports_nothing_of_ours_and_stays_light():
    root = Path(s.__file__).parent
    names = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    assert names - set(sys.stdlib_module_names) == {"numpy", "scheduler"}
    code = "import sys, scheduler; print(sorted({'scipy', 'ray', 'raysym'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_names_every_public_thing():
    public = {
        name
        for name, value in vars(s).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(s.__all__) == public
