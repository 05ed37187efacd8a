"""The fuzz again, over the CUDA driver: its threads run one by one on the CPU."""

import pytest
import torch

from tests.pooling.kernels.test_fuzz import *  # noqa: F403


@pytest.fixture(scope="module", autouse=True)
def _threads_in_place_of_the_cpu_driver(threads):
    library = torch.library.Library("poolzoo", "IMPL")
    for name in ("pool2d", "pool2d_forward", "pool2d_backward"):
        library.impl(name, getattr(threads, name).default, "CPU", allow_override=True)
    yield
    library._destroy()
