"""The fuzz again, over the CUDA driver: its threads run one by one on the CPU."""

import pytest
import torch

from pooling.kernels import gradients
from tests.pooling.kernels.test_fuzz import *  # noqa: F403


@pytest.fixture(scope="module", autouse=True)
def _threads_in_place_of_the_cpu_driver(threads):
    def backward(gradient, x, logits, parameter, table, saved, H, W, channels_last, reducer, window, *others):
        """With the sums that Python makes for CUDA, and the CPU driver itself."""
        given = gradient, x, logits, parameter, table, saved, H, W, channels_last, reducer, window, *others
        dx, dlogits, *sums = threads.pool2d_backward.default(*given)
        if others[-1]:
            added = gradients._added_up(sums[0], parameter, table, reducer, dx.shape, window)
            sums = [gradient.new_empty(0) if t is None else t for t in added]
        return dx, dlogits, *sums

    library = torch.library.Library("poolzoo", "IMPL")
    operators = {name: getattr(threads, name).default for name in ("pool2d", "pool2d_forward")}
    for name, operator in (operators | {"pool2d_backward": backward}).items():
        library.impl(name, operator, "CPU", allow_override=True)
    yield
    library._destroy()
