"""Interleaved timing and the names of results, without timing anything."""

import re

import pytest
import torch

from benchmarks import models as backbones
from benchmarks.timing import environment_name, interleaved


def test_calls_take_turns_and_the_first_round_is_not_counted():
    order = []
    seconds = interleaved({name: lambda name=name: order.append(name) for name in "abc"}, rounds=2)
    assert order == ["c", "b", "a", "a", "b", "c", "c", "b", "a"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_results_are_named_by_hardware_and_torch():
    assert re.fullmatch(r"[a-z0-9.-]+-torch\d+\.\d+\.\d+\w*", environment_name())


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    seconds = {"a": [2.0, 20.0, 3.0], "b": [1.0, 10.0, 1.0]}
    assert backbones.compared(seconds, "a", "b") == (3000.0, 2.0, "b")


@pytest.mark.parametrize("name, compared_to", [("lenet5", "native"), ("mobilenet_v2", "torchvision")])
def test_the_networks_beside_each_other_have_the_same_output(name, compared_to):
    nets = backbones.networks(name, 64)
    assert compared_to in nets
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert {net.eval()(x).shape for net in nets.values()} == {(2, 1000)}
