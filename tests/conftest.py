"""Fixtures shared by all tests: one Ray instance for the whole session, fresh names and seeds."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

HAS_RAY = importlib.util.find_spec("ray") is not None

# A bare GPU machine has no rich: the command line cannot even be imported there.
collect_ignore = [] if importlib.util.find_spec("rich") else ["test_cli.py", "test_demo.py"]


def pytest_configure() -> None:
    """Kernels are made anew in every test run, once for all processes that it starts."""
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="raysym-cache-")


def pytest_unconfigure() -> None:
    """Remove the kernels."""
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--kernels generated``: bound graphs run on these in every test, on Ray as well."""
    kinds = ("reference", "generated", "auto")
    parser.addoption("--kernels", choices=kinds, default="reference")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `both_kernels` run once more on generated kernels."""
    is_open = metafunc.config.getoption("--kernels") == "reference"
    if is_open and metafunc.definition.get_closest_marker("both_kernels"):
        metafunc.parametrize("default_kernels", ["reference", "generated"], indirect=True)


@pytest.fixture(autouse=True, scope="module")
def default_kernels(request: pytest.FixtureRequest) -> str:
    """What bound graphs run on where a test does not say: the name is the fixture's value."""
    from raysym.binding import Where

    wanted: str = getattr(request, "param", request.config.getoption("--kernels"))
    if wanted == "generated":
        pytest.importorskip("llvmlite")
    usual = {**Where._field_defaults, "kernels": wanted}
    Where.__new__.__defaults__ = tuple(usual[name] for name in Where._field_defaults)
    return wanted


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    for item in items:
        if "ray" in item.keywords and not HAS_RAY:
            item.add_marker(pytest.mark.skip(reason="ray is not installed"))
        if "gpu" in item.keywords and not has_gpu():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def has_gpu() -> bool:
    """True when CuPy finds a device."""
    from raysym.context import gpu
    from raysym.device import has_device

    return has_device(gpu(0))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray with room for many workers; shut down at the end of the session."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray = importlib.import_module("ray")
    options = {"num_cpus": 16, "include_dashboard": False, "log_to_driver": False}
    if not ray.is_initialized():
        try:
            ray.init(address="local", **options)
        except Exception:  # Ray gives its processes 30 s, too little on a loaded machine
            ray.shutdown()
            ray.init(address="local", **options)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def _fresh_names_and_seed() -> Iterator[None]:
    """Automatic names count from zero and random numbers start anew in every test."""
    from raysym.names import NameManager
    from raysym.random_state import seed

    seed(0)
    with NameManager():
        yield
