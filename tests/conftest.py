"""What all tests share: generated cases are the same in every run, and no example is failed for being slow."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# Tests import their helpers as `tests.pooling.cases`, however pytest was started.
sys.path.insert(0, str(Path(__file__).parent.parent))

from pooling import plugins
from tests.commands import run, train  # noqa: F401  (fixtures)

settings.register_profile(
    "reproducible",
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("reproducible")


def pytest_addoption(parser: pytest.Parser) -> None:
    what = {"metavar": "FILE", "help": "operators of your own, to be tested too"}
    parser.addoption("--plugins", dest="operator_files", action="append", default=[], **what)


def pytest_configure(config: pytest.Config) -> None:
    try:
        plugins.load(config.getoption("operator_files"))
    except (ValueError, OSError) as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state, on one thread: small tensors only wait for a second one."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(False)  # which a run in an earlier test may have asked for
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
