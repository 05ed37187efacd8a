"""Schedules as functions of the step, and which parameters decay."""

import pytest
import torch

import models
from training import optimizers, schedulers


def test_cosine_starts_at_one_and_ends_at_its_final_share():
    assert schedulers.factor("cosine", 0, 100, warmup=0.0) == 1
    assert schedulers.factor("cosine", 50, 100, warmup=0.0, final=0.2) == pytest.approx(0.6)
    assert schedulers.factor("cosine", 100, 100, warmup=0.0, final=0.2) == pytest.approx(0.2)


@pytest.mark.parametrize("name", schedulers.SCHEDULERS)
def test_warm_up_rises_to_the_base_rate_and_never_starts_at_zero(name):
    factors = [schedulers.factor(name, at, 100, warmup=0.1) for at in range(101)]
    assert 0 < factors[0] < 0.2
    assert factors[:11] == sorted(factors[:11])
    assert factors[10] == 1
    assert all(0 <= factor <= 1 for factor in factors)


def test_step_multiplies_at_each_milestone():
    factors = [
        schedulers.factor("step", at, 100, warmup=0.0, milestones=(0.5, 0.75), gamma=0.1) for at in (0, 49, 50, 75)
    ]
    assert factors == pytest.approx([1, 1, 0.1, 0.01])


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_only_matrices_and_filters_have_weight_decay(name):
    net = models.create("lenet5", in_channels=1)
    optimizer = optimizers.build(net, name, weight_decay=0.3)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for key, parameter in net.named_parameters():
        assert decays[id(parameter)] == (0.3 if key.endswith("weight") else 0.0), key
    assert len(decays) == len(list(net.parameters()))
    assert isinstance(optimizer, torch.optim.Optimizer)
