"""Interleaved timing and the names of results, without timing anything."""

import re

import pytest
import torch

from benchmarks import models as backbones
from benchmarks.timing import environment_name, interleaved, repeated


def test_calls_take_turns_and_the_first_round_is_not_counted():
    order = []
    seconds = interleaved({name: lambda name=name: order.append(name) for name in "abc"}, rounds=2)
    assert order == ["c", "b", "a", "a", "b", "c", "c", "b", "a"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_short_calls_are_repeated_until_their_turn_is_long_enough():
    count = 0

    def call():
        nonlocal count
        count += 1

    def clock(turn):
        before = count
        turn()
        return 0.002 * (count - before)

    assert repeated({"a": call}, rounds=2, clock=clock, least=0.005) == {"a": [pytest.approx(0.002)] * 2}
    assert count == 2 + 3 * 3  # once to warm up, once to see how long it takes; three turns of three


def test_results_are_named_by_hardware_and_torch():
    for device in (None, "cpu"):
        assert re.fullmatch(r"[a-z0-9.-]+-torch\d+\.\d+\.\d+\w*", environment_name(device))


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
