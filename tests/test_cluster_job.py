"""`cluster/`: a job on two raylets of this machine, and the form of the launch files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from raysym.planning.plan import parse

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "cluster" / "local_cluster.py"

# In a process of its own: a cluster ends all children of the process that started it.
SUBMITS = """
import json, local_cluster, subprocess, sys

def submit(dashboard, environment):
    command = [local_cluster.ray_command(), "job", "submit", "--address", dashboard]
    paths = json.dumps({"env_vars": {"PYTHONPATH": sys.argv[2]}})
    return subprocess.run(
        [*command, "--runtime-env-json", paths, "--", sys.executable, sys.argv[1]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )

answers = []
with local_cluster.raylets(2) as (dashboard, environment):
    assert environment["RAY_AUTH_MODE"] == "token"
    others = {"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_TOKEN": "", "RAY_AUTH_MODE": "disabled"}
    for changed in ({}, *others):
        done = submit(dashboard, {**environment, **changed})
        answers.append((done.returncode, done.stdout + done.stderr))
print(json.dumps(answers))
"""


def beside_the_script(
    code: str, timeout_s: float, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run code that may import the script, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parent)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def tagged(tag: str) -> dict[int, str]:
    """Command lines of all processes whose environment holds `tag`."""
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and tag.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
    return found


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.slow
def test_the_demo_runs_as_a_job_on_two_raylets_and_nothing_stays_behind(tmp_path):
    pytest.importorskip("aiohttp", reason="ray job submit needs ray[default]")
    pytest.importorskip("sklearn", reason="the demo needs scikit-learn")
    tag = f"RAYSYM_TEST_TAG={os.getpid()}-{tmp_path.name}"
    name, _, value = tag.partition("=")
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, SCRIPT, "--raylets", "2", "--", "--epochs", "2", "--out", tmp_path],
        env={**os.environ, name: value, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "local cluster: 2 raylets" in done.stdout
    assert "the same bits" in done.stdout
    assert "succeeded" in done.stdout + done.stderr
    assert (tmp_path / "training-step.svg").exists()
    assert {*parse((tmp_path / "plan.txt").read_text()).links.values()} == {"socket"}
    assert tagged(tag) == {}
    assert not (home / ".ray").exists()


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.slow
def test_a_job_that_fails_makes_the_script_fail(tmp_path):
    pytest.importorskip("aiohttp", reason="ray job submit needs ray[default]")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--raylets", "1", "--", "--epochs", "none"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    assert "expected a whole number" in done.stdout + done.stderr


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.slow
def test_a_job_trains_on_two_raylets_with_the_token_and_is_refused_without():
    pytest.importorskip("aiohttp", reason="ray job submit needs ray[default]")
    tests = ROOT / "tests"
    done = beside_the_script(SUBMITS, 500, str(tests / "token_job.py"), f"{ROOT}:{tests}")
    assert done.returncode == 0, done.stdout + done.stderr
    (status, told), *refused = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, told
    [said] = [line for line in told.splitlines() if line.startswith('{"auth"')]
    links = {"cpu:0 cpu:1": "socket", "cpu:1 cpu:0": "socket"}
    assert json.loads(said) == {"auth": "token", "links": links}
    for (status, why), reason in zip(refused, ("Invalid", "Missing"), strict=True):
        assert status != 0
        assert f"{reason} authentication token" in why


def test_a_process_that_has_children_is_refused_and_keeps_them():
    code = """
import local_cluster, subprocess
other = subprocess.Popen(["sleep", "60"])
try:
    with local_cluster.raylets(1):
        print("started")
except RuntimeError as error:
    print(error)
print(other.poll(), other.pid)
other.kill()
"""
    done = beside_the_script(code, 60)
    refusal, kept = done.stdout.splitlines()
    alive, pid = kept.split()
    assert alive == "None"
    assert refusal.endswith(f"would be ended with it: [{pid}]")


@pytest.mark.ray
def test_the_launcher_file_fits_rays_schema():
    jsonschema = pytest.importorskip("jsonschema")
    package = find_spec("ray")
    assert package is not None
    assert package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    schema = json.loads((folder / "autoscaler" / "ray-schema.json").read_text())
    described = yaml.safe_load((ROOT / "cluster" / "ray-cluster.yaml").read_text())
    jsonschema.validate(described, schema)
    for command in (*described["head_start_ray_commands"], *described["worker_start_ray_commands"]):
        assert "ray start" not in command or "RAY_AUTH_MODE" in command


def test_the_kuberay_job_asks_for_as_many_workers_as_the_demo_has():
    job = yaml.safe_load((ROOT / "cluster" / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    [workers] = cluster["workerGroupSpecs"]
    words = job["spec"]["entrypoint"].split()
    assert words[:2] == ["raysym", "demo"]
    assert workers["replicas"] == int(words[words.index("--workers") + 1])
    pods = [cluster["headGroupSpec"]["template"], workers["template"]]
    containers = [c for pod in pods for c in pod["spec"]["containers"]]
    containers += job["spec"]["submitterPodTemplate"]["spec"]["containers"]
    assert len({c["image"] for c in containers}) == 1
    assert all({"name": "RAY_AUTH_MODE", "value": "disabled"} in c["env"] for c in containers)
