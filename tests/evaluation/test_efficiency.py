import torch
from torch import nn
from torch.nn import functional as F

from evaluation.efficiency import flops, parameters


def test_a_linear_layer_costs_two_flops_a_weight():
    assert flops(nn.Linear(20, 7), torch.zeros(1, 20)) == 2 * 20 * 7


def test_a_convolution_costs_two_flops_a_weight_and_output_pixel_for_one_image():
    net = nn.Sequential(nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    assert flops(net, torch.zeros(4, 3, 12, 12)) == 2 * (3 * 8 * 5 * 5) * 8 * 8


def test_functional_calls_count_too():
    weight = torch.zeros(4, 1, 3, 3)
    assert flops(lambda x: F.conv2d(x, weight), torch.zeros(1, 1, 5, 5)) == 2 * 36 * 9


def test_counting_leaves_the_network_as_it_was():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    net[1].eval()
    modes = [m.training for m in net.modules()]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    flops(net, torch.ones(1, 1, 5, 5))
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_shared_and_frozen_parameters_count_once():
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, shared, nn.Linear(3, 1).requires_grad_(False))
    assert parameters(net) == 12 + 4
