"""The conformance suite again, its tensors on the GPU."""

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

from pooling.kernels import native
from tests.pooling.test_conformance import *  # noqa: F403

pytestmark = pytest.mark.gpu

# What is about the generator of the CPU, or compares with the CPU already.
del test_a_random_operator_draws_one_seed_in_training_and_nothing_else_draws  # noqa: F821
del test_cuda_agrees_with_cpu  # noqa: F821


@pytest.fixture(scope="module", autouse=True)
def _on_the_gpu():
    torch.set_default_device("cuda")
    yield
    torch.set_default_device(None)


def test_the_native_operators_for_the_gpu_are_in_use() -> None:
    assert "cuda" in native.LOADED.variants, native.LOADED.missing
