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


@pytest.mark.parametrize(
    "pooling", ["ada", {"name": "lp", "learn_p": "channel"}, {"name": "ordinal", "per": "channel"}]
)
def test_an_operator_s_exponents_and_shares_have_no_weight_decay(pooling):
    net = models.create("lenet5", in_channels=1, pooling=pooling, sites="all")
    optimizer = optimizers.build(net, "sgd", weight_decay=0.3)
    free = {id(p) for group in optimizer.param_groups if group["weight_decay"] == 0 for p in group["params"]}
    thetas = [(key, parameter) for key, parameter in net.named_parameters() if key.endswith("theta")]
    assert len(thetas) == 2
    for key, parameter in thetas:
        assert parameter.dim() > 1, "a vector has none anyway"
        assert id(parameter) in free, key


def test_timm_s_way_to_name_them_is_understood():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pos_embed, self.weight = (torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(2))

        def no_weight_decay(self):
            return {"pos_embed"}

    net = torch.nn.Sequential(Net())
    decays = [group["weight_decay"] for group in optimizers.build(net, "adamw", weight_decay=0.3).param_groups]
    ((with_decay,), (without,)) = (group["params"] for group in optimizers.build(net, "adamw").param_groups)
    assert decays == [0.3, 0]
    assert (with_decay, without) == (net[0].weight, net[0].pos_embed)
