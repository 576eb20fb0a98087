"""Several nodes: two raylets on this machine, in a process of their own with their own Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.cluster]

SCRIPT = """
import json
import os
import sys
import numpy as np
import ray
from ray.cluster_utils import Cluster
import raysym as mx
from random_graphs import assert_same_bits, bind_random
from test_pipeline import chain, contiguous, train

caches = [os.path.join(sys.argv[1], name) for name in ("head", "other")]
where = [{"XDG_CACHE_HOME": cache} for cache in caches]
nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "env_vars": where[0]})
nodes.add_node(num_cpus=1, env_vars=where[1])
nodes.wait_for_nodes()
ray.init(address=nodes.address, log_to_driver=False)
options = {"group2ctx": contiguous(2), "micro_batches": 2}
whole = train(bind_random(chain(4), 1, **options), 3)
with bind_random(chain(4), 1, runtime="ray", **options) as executor:
    assert_same_bits(whole, train(executor, 3))
    links = {f"{a} {b}": how for (a, b), how in executor._session.mode("step")[1].links.items()}
    nodes_of = executor._session.runtime.crew.links.nodes
options["kernels"] = "generated"
whole = train(bind_random(chain(4), 1, **options), 3)
with bind_random(chain(4), 1, runtime="ray", **options) as executor:
    assert_same_bits(whole, train(executor, 3))
kernels = [set(os.listdir(os.path.join(cache, "raysym", "kernels"))) for cache in caches]
del options["kernels"]
try:
    bind_random(chain(4), 1, runtime="ray", transport="object_store", **options)
    refused = ""
except mx.PlacementError as error:
    refused = str(error)
big = (400, 100)
with mx.AttrScope(ctx_group="g0"):
    net = mx.sym.exp(mx.sym.Variable("data"))
with mx.AttrScope(ctx_group="g3"):
    net = mx.sym.exp(net)
data = np.random.default_rng(0).normal(size=big).astype(np.float32) * 0.1
with net.simple_bind(mx.cpu(), data=big, group2ctx=contiguous(2), runtime="ray") as executor:
    large = executor.forward(data=data)[0].asnumpy().tobytes()
here = net.simple_bind(mx.cpu(), data=big, group2ctx=contiguous(2))
same = here.forward(data=data)[0].asnumpy().tobytes() == large
n_nodes, n_shared = len({nodes_of["cpu:0"], nodes_of["cpu:1"]}), len(kernels[0] & kernels[1])
print(json.dumps([links, n_nodes, refused, same, n_shared]))
ray.shutdown()
nodes.shutdown()
"""


def test_workers_on_two_nodes_use_sockets_and_give_the_same_bits(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    path = os.pathsep.join([str(root), str(root / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    links, n_nodes, refused, same, n_shared = json.loads(done.stdout.strip().splitlines()[-1])
    assert links == {"cpu:0 cpu:1": "socket", "cpu:1 cpu:0": "socket"}
    assert n_nodes == 2
    assert "transport 'object_store'" in refused
    assert "on different nodes" in refused
    assert same
    assert n_shared > 2  # kernels, not only the files for claims and sizes
