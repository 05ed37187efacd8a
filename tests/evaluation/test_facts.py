"""Facts that must come out whatever the code: theorems, and counts from the papers."""

import pytest
import torch
import torchvision
from torch import nn

import models
import pooling
from evaluation.efficiency import parameters
from evaluation.shift import Circular, evaluate_shift
from tests.evaluation.networks import batches

POLYPHASE = [name for name in ("aps", "lps") if name in pooling.names("downsampler")]


def circular_consistency(name: str, operator: str) -> float:
    torch.manual_seed(0)
    net = models.create(
        name, in_channels=1, image_size=32, pooling=operator, sites="all", head="gap", padding_mode="circular"
    )
    net = net.double().eval()
    images = torch.randint(256, (30, 1, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        usual = net(images.double() / 255).mean(
            0
        )  # an untrained network prefers one class; less this, its answers differ
    predict = lambda x: net(x.double() / 255) - usual  # noqa: E731
    result = evaluate_shift(predict, batches(images, torch.zeros(30).long()), [Circular(m=8, repeats=1)])
    assert result["accuracy"]["value"] < 0.5
    return result["consistency_circular"]["value"]


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
@pytest.mark.parametrize("operator", POLYPHASE)
def test_a_polyphase_network_is_consistent_under_circular_shifts_before_any_training(name, operator):
    """Chaman & Dokmanic 2021, section 4; Rojas-Gomez et al. 2022, section 4.2."""
    assert circular_consistency(name, operator) == 1


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_with_max_pooling_it_is_not(name):
    assert circular_consistency(name, "max") < 1


def test_without_its_fully_connected_head_vgg16_is_a_tenth():
    """Simonyan & Zisserman 2015, table 2: 138 million parameters, of which 123.6 are the head's."""
    with torch.device("meta"):
        net = torchvision.models.vgg16()
    assert round(parameters(net) / 1e6, 1) == 138.4
    assert round(parameters(net.classifier) / 1e6, 1) == 123.6
    if "vgg16" in models.names():
        with torch.device("meta"):
            ours, gap = (models.create("vgg16", num_classes=1000, head=head) for head in (None, "gap"))
        assert parameters(ours) == parameters(net)
        head = sum(p.numel() for p in nn.Linear(512, 1000).parameters())
        assert parameters(ours) - parameters(gap) == parameters(net.classifier) - head
