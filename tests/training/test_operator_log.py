"""What the operators learn is to be seen in TensorBoard, as the numbers that their papers name."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import models
from training.callbacks import learned_parameters


def logged(pooling) -> dict[str, float]:
    """Of LeNet-5's first site, by the parameter's name."""
    numbers = learned_parameters(models.create("lenet5", in_channels=1, pooling=pooling))
    return {tag.removeprefix("pooling/pool1/"): value for tag, value in numbers.items() if "pool1" in tag}


@pytest.mark.parametrize(
    "pooling, expected",
    [
        ({"name": "lp", "p": 3.0, "learn_p": "layer"}, {"p": 3.0}),
        ({"name": "gem", "p": 2.5, "learn_p": "channel"}, {"p/mean": 2.5, "p/min": 2.5, "p/max": 2.5}),
        ({"name": "lse", "r": 2.0, "learn_r": "layer"}, {"r": 2.0}),
        ({"name": "mixed", "a": "learned"}, {"a": 0.5}),
        ("ada", {"b/mean": 0.5, "b/min": 0.5, "b/max": 0.5}),
        ("ordinal", {"w1": 0.25, "w2": 0.25, "w3": 0.25, "w4": 0.25}),
        ({"name": "lp", "p": 3.0}, {}),
        ({"name": "mixed", "a": 0.25}, {}),
        ("max", {}),
        ("conv", {}),
    ],
)
def test_the_number_of_the_definition_is_logged_and_not_what_stands_behind_it(pooling, expected) -> None:
    assert logged(pooling) == pytest.approx(expected)


def test_channels_are_logged_by_their_mean_and_extremes() -> None:
    net = models.create("lenet5", in_channels=1)  # its paper's own pool: a coefficient and a bias for each channel
    with torch.no_grad():
        net.pool1[0].scale.copy_(torch.arange(6.0))
    numbers = learned_parameters(net)
    assert [numbers[f"pooling/pool1/scale/{each}"] for each in ("mean", "min", "max")] == [2.5, 0, 5]
    assert numbers["pooling/pool1/bias/max"] == 0


def test_a_run_logs_them_before_training_and_after_each_epoch(train) -> None:
    folder = train("pooling=lp", "pooling.learn_p=channel", "pooling.p=2")
    events = EventAccumulator(str(folder)).Reload()
    mean = events.Scalars("pooling/pool1/p/mean")
    assert [event.step for event in mean] == [0, 4, 8]
    assert mean[0].value == pytest.approx(2)
    assert mean[-1].value != mean[0].value
