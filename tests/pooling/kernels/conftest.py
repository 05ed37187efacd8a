"""These tests need the compiled library for the CPU; some the one that runs the CUDA driver's threads there."""

import pytest
import torch

from pooling.kernels import native, toolchain


@pytest.fixture(autouse=True)
def _needs_library():
    if "cpu" not in native.LOADED.variants:
        pytest.skip(f"native operators: {native.LOADED.missing['cpu']}")


@pytest.fixture(scope="session")
def threads():
    """torch.ops.poolzoo_threads, built where it is not."""
    if "cpu" not in native.LOADED.variants:
        pytest.skip(f"native operators: {native.LOADED.missing['cpu']}")
    toolchain.build([toolchain.THREADS])
    torch.ops.load_library(str(toolchain.THREADS.path))
    return torch.ops.poolzoo_threads
