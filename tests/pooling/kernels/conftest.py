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


@pytest.fixture(scope="module", params=["threads", pytest.param("cuda", marks=pytest.mark.gpu)])
def driver(request):
    """driver(name, *arguments): an operator on the CUDA driver, from and to the CPU."""
    if request.param == "threads":
        threads = request.getfixturevalue("threads")
        return lambda name, *given: getattr(threads, name)(*given)
    assert "cuda" in native.LOADED.variants, native.LOADED.missing

    def run(name, *given):
        far = [value.cuda() if isinstance(value, torch.Tensor) else value for value in given]
        found = getattr(torch.ops.poolzoo, name)(*far)
        return found.cpu() if isinstance(found, torch.Tensor) else [value.cpu() for value in found]

    return run
