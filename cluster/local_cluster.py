"""A cluster of raylets on this machine that runs ``raysym demo`` as a Ray job.

    python cluster/local_cluster.py [--raylets 2] [-- what follows goes to raysym demo]

Each raylet offers one CPU, so that two workers stand on two raylets and what they send each other
goes over sockets, as between two machines. Whoever talks to the cluster needs its token, which is
made for this run. The exit status is that of the job. Everything that was started is gone at the
end, however it ends.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_S, STOP_S = 120.0, 3.0
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux


def main(arguments: Sequence[str] | None = None) -> int:
    """Start raylets, submit the job, stop the raylets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raylets", type=int, default=2, help="default %(default)s")
    parser.add_argument("demo", nargs="*", help="arguments of raysym demo")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with raylets(given.raylets) as (dashboard, environment):
            return submit(dashboard, environment, given.demo)
    except (RuntimeError, OSError) as error:
        print(f"local cluster: {error}", file=sys.stderr)
        return 1


@contextmanager
def raylets(count: int) -> Iterator[tuple[str, Mapping[str, str]]]:
    """A head and `count - 1` more raylets: the dashboard's address and the environment to use.

    At the end all children of this process are ended; one that has children already is refused.
    """
    if others := descendants():
        raise RuntimeError(f"other children of this process would be ended with it: {others}")
    adopt_orphans()
    # Ray would take the token of the user's home, or write one there.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**os.environ, **token}
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH"):
        environment.pop(name, None)
    scratch = Path(tempfile.mkdtemp(prefix="raysym-"))  # short: sockets live below it
    started: list[Raylet] = []
    try:
        head, dashboard = free_port(), free_port()
        options = {"port": head, "dashboard-port": dashboard, "temp-dir": scratch}
        options["ray-client-server-port"] = free_port()
        flags = ["--head", *(f"--{name}={value}" for name, value in options.items())]
        started.append(Raylet(flags, environment, scratch / "head.log"))
        wait_for(dashboard, started[0], scratch / "head.log")
        for number in range(1, count):
            log = scratch / f"raylet{number}.log"
            started.append(Raylet([f"--address=127.0.0.1:{head}"], environment, log))
        wait_for_nodes(f"127.0.0.1:{head}", started, environment, scratch)
        print(f"local cluster: {count} raylets, dashboard http://127.0.0.1:{dashboard}", flush=True)
        yield f"http://127.0.0.1:{dashboard}", environment
    finally:
        stop_all()
        for raylet in started:
            raylet.wait()
        shutil.rmtree(scratch, ignore_errors=True)


class Raylet:
    """One raylet with one CPU that stays until it is stopped; ports that no other raylet uses."""

    def __init__(self, options: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._options, self._environment, self._log = options, environment, log
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        ports = [
            f"--{name}={free_port()}"
            for name in ("dashboard-agent-listen-port", "dashboard-agent-grpc-port")
        ]
        command = [ray_command(), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
        with self._log.open("w") as file:
            return subprocess.Popen(
                [*command, *self._options, *ports],
                env=self._environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_again(self) -> None:
        """If it has given up: Ray waits 30 s for it, which is not enough on a busy machine."""
        if self._process.poll() is not None:
            self._process = self._start()

    def wait(self) -> None:
        """Return when it has ended."""
        self._process.wait()


def submit(dashboard: str, environment: Mapping[str, str], demo: Sequence[str]) -> int:
    """Run the demo as a job on the cluster and follow its log; the job's exit status."""
    package = {"working_dir": str(ROOT), "excludes": [".git", "tests", "benchmarks", "**/*.pyc"]}
    command = [ray_command(), "job", "submit", "--address", dashboard]
    runtime = ["--runtime-env-json", json.dumps(package)]
    entrypoint = [sys.executable, "-m", "raysym.cli", "demo", *demo]
    return subprocess.run([*command, *runtime, "--", *entrypoint], env=environment).returncode


# ----- waiting


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ray_command() -> str:
    """The ray program that belongs to this Python."""
    beside = Path(sys.executable).with_name("ray")
    found = str(beside) if beside.exists() else shutil.which("ray")
    if found is None:
        raise RuntimeError("the ray program was not found: pip install 'ray[default]'")
    return found


def wait_for(port: int, head: Raylet, log: Path) -> None:
    """Return when something listens on `port`."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        head.start_again()
        time.sleep(0.2)
    raise RuntimeError(f"the head did not start within {START_S:g} s:\n{log.read_text()[-2000:]}")


def wait_for_nodes(
    address: str, started: Sequence[Raylet], environment: Mapping[str, str], logs: Path
) -> None:
    """Return when all raylets that were started belong to the cluster."""
    count, deadline = len(started), time.monotonic() + START_S
    question = (
        "import ray, logging; "
        f"ray.init({address!r}, logging_level=logging.ERROR, log_to_driver=False); "
        "print(sum(node['Alive'] for node in ray.nodes()))"
    )
    answer = ""
    while time.monotonic() < deadline:
        asked = subprocess.run(
            [sys.executable, "-c", question], env=environment, capture_output=True, text=True
        )
        answer = (asked.stdout or asked.stderr).strip()
        if answer.endswith(str(count)):
            return
        for raylet in started[1:]:
            raylet.start_again()
        time.sleep(0.5)
    shown = "\n".join(log.read_text()[-1000:] for log in sorted(logs.glob("raylet*.log")))
    raise RuntimeError(
        f"{count} raylets did not join within {START_S:g} s: {answer[-500:]}\n{shown}"
    )


# ----- stopping


def adopt_orphans() -> None:
    """From now on processes whose parent ends become our children: we find all that we started."""
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[int]:
    """Our children, theirs, and so on, but for those that have ended."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # gone meanwhile
            if entry.name.isdigit():
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                children[int(parent)] += [int(entry.name)] if state != "Z" else []
    found = [os.getpid()]
    for pid in found:  # grows while it is walked
        found += children[pid]
    return found[1:]


def stop_all() -> None:
    """End everything that we started: politely, then not; nothing here is worth keeping."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_S
        for pid in descendants():
            with suppress(ProcessLookupError):
                os.kill(pid, kind)
        while descendants() and time.monotonic() < deadline:
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
