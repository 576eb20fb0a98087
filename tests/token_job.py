"""A job that trains a pipeline on two workers of a cluster, and says in one line how that went."""

from __future__ import annotations

import json
import os

from random_graphs import assert_same_bits, bind_random
from test_pipeline import chain, contiguous, train


def main() -> None:
    where = {"group2ctx": contiguous(2), "micro_batches": 2}
    whole = train(bind_random(chain(4), 1, **where), 3)
    with bind_random(chain(4), 1, runtime="ray", **where) as executor:
        assert_same_bits(whole, train(executor, 3))
        links = {f"{a} {b}": how for (a, b), how in executor.plan.links.items()}
    print(json.dumps({"auth": os.environ.get("RAY_AUTH_MODE"), "links": links}))  # noqa: T201


if __name__ == "__main__":
    main()
