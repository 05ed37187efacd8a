"""What the operators learn is to be seen in TensorBoard, as the numbers that their papers name."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import models
from models.placement import placed
from training.callbacks import GradientLog, learned_parameters


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


@pytest.mark.parametrize(
    "pooling, share",
    [("max", 1 / 4), ("median", 1 / 4), ({"name": "rap", "t": 2}, 1 / 2), ("avg", 1), ("soft", 1), ("blur", 1)],
)
def test_the_share_of_cells_that_a_gradient_reaches_is_the_operator_s(pooling, share) -> None:
    net, log = models.create("lenet5", in_channels=1, pooling=pooling), GradientLog()
    for site, module in placed(net).items():
        module.register_forward_pre_hook(log.watch(site))
    images = torch.randn(4, 1, 32, 32)
    net(images).square().sum().backward()
    assert log.shares == {f"pooling/pool{at}/gradient_share": pytest.approx(share, abs=0.01) for at in (1, 2)}


def test_watching_gradients_changes_none_and_leaves_other_branches_out() -> None:
    net = models.create("resnet20", in_channels=1, pooling="subsample", sites="all")
    images, log = torch.randn(2, 1, 32, 32), GradientLog()
    net.eval()(images).sum().backward()
    before = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    for site, module in placed(net).items():
        module.register_forward_pre_hook(log.watch(site))
    net(images).sum().backward()
    assert all(torch.equal(one, parameter.grad) for one, parameter in zip(before, net.parameters(), strict=True))
    # A shortcut's subsampling drops three cells in four, which the main branch's convolution reads.
    shortcuts = [share for tag, share in log.shares.items() if "shortcut" in tag or "downsample" in tag]
    assert shortcuts
    assert max(shortcuts) <= 1 / 4


def test_a_run_logs_them_before_training_and_after_each_epoch(train) -> None:
    folder = train("pooling=lp", "pooling.learn_p=channel", "pooling.p=2")
    events = EventAccumulator(str(folder)).Reload()
    mean = events.Scalars("pooling/pool1/p/mean")
    assert [event.step for event in mean] == [0, 4, 8]
    assert mean[0].value == pytest.approx(2)
    assert mean[-1].value != mean[0].value
    assert [event.step for event in events.Scalars("pooling/pool2/gradient_share")] == [1, 5]  # each first batch
