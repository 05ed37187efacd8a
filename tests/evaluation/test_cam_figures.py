import math

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.transforms import roll
from evaluation import cam_figures
from evaluation.cam_figures import (
    THRESHOLDS,
    CamEquivariance,
    Deletion,
    EnergyInMask,
    Insertion,
    MaxBoxAcc,
    PointingGame,
    box_ious,
    cam_equivariance,
    deletion_insertion,
    energy_in_mask,
    pointing_game,
)


def test_a_map_that_moves_with_the_image_is_equivariant():
    maps, (dy, dx) = torch.randn(50, 12, 10), torch.randint(-3, 4, (2, 50))
    for figure, expected in (("cam_equivariance", 1.0), ("cam_equivariance_l2", 0.0), ("cam_displacement", 0.0)):
        hits, trials = cam_equivariance(maps, roll(maps, dy, dx), dy, dx)[figure]
        assert (trials == 1).all()
        torch.testing.assert_close(hits, torch.full((50,), expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_map_that_stays_is_displaced_by_the_shift_and_an_unrelated_one_uncorrelated():
    maps = torch.zeros(1, 20, 20)
    maps[0, 9, 8] = 1
    dy, dx = torch.tensor([3]), torch.tensor([-4])
    found = cam_equivariance(maps, maps, dy, dx)
    assert found["cam_displacement"][0].item() == 5
    assert found["cam_equivariance_l2"][0].item() == pytest.approx(math.sqrt(2))
    # In sight are 17 x 16 positions; two single peaks at different places correlate by -1 / (n - 1).
    assert found["cam_equivariance"][0].item() == pytest.approx(-1 / (17 * 16 - 1))
    noise = cam_equivariance(torch.randn(300, 16, 16), torch.randn(300, 16, 16), *torch.zeros(2, 300).long())
    assert noise["cam_equivariance"][0].mean().item() == pytest.approx(0, abs=0.02)
    _, trials = cam_equivariance(torch.zeros(2, 8, 8), torch.randn(2, 8, 8), *torch.zeros(2, 2).long())[
        "cam_equivariance"
    ]
    assert (trials == 0).all()


def test_correlation_ignores_scale_and_offset_and_l2_does_not():
    maps, zero = torch.rand(5, 8, 8), torch.zeros(5).long()
    found = cam_equivariance(maps, 2 * maps + 1, zero, zero)
    torch.testing.assert_close(found["cam_equivariance"][0], torch.ones(5, dtype=torch.float64), atol=1e-6, rtol=0)
    expected = (maps + 1).double().square().sum((1, 2)) * 2 / (maps.square() + (2 * maps + 1).square()).sum((1, 2))
    torch.testing.assert_close(found["cam_equivariance_l2"][0], expected.sqrt())


def test_pointing_and_energy_by_hand():
    maps = torch.zeros(3, 4, 4)
    maps[:, 1, 1], maps[:, 2, 3], maps[:, 0, 0] = 3.0, 1.0, -5.0
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, 1, 1] = masks[1, 2, 3] = True
    hits, trials = pointing_game(maps, masks)
    assert (hits.tolist(), trials.tolist()) == ([True, False, False], [1, 1, 0])
    hits, trials = energy_in_mask(maps, masks)
    assert (hits.tolist(), trials.tolist()) == ([0.75, 0.25, 0.0], [1, 1, 0])


def test_a_map_that_is_the_mask_finds_its_box_and_the_larger_of_two_parts_counts():
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[:, 2:8, 3:12] = True
    maps = masks.float()
    maps[1, 12:14, 0:2] = 1.0  # a second, smaller part
    ious = box_ious(maps, masks)
    assert ious.shape == (2, len(THRESHOLDS))
    assert (ious[:, 1:] == 1).all()
    assert (ious[:, 0] == 54 / 256).all()  # above threshold 0 is the whole image
    metric = MaxBoxAcc(0.5)
    metric.update(ious[:1])
    metric.update(torch.zeros(3, len(THRESHOLDS)))
    assert metric.estimate()[::3] == (0.25, 4)
    assert metric.compute().item() == 0.25


def test_maps_that_are_constant_or_tiny_have_boxes_too():
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[:, 2:4, 2:4] = True
    ious = box_ious(torch.stack((torch.full((8, 8), 3.0), masks[1] * 1e-20)), masks)
    assert ious[0].tolist() == [4 / 64] + [0] * (len(THRESHOLDS) - 1)
    assert (ious[1, 1:] == 1).all()


def test_one_threshold_serves_all_images():
    ious = torch.zeros(2, len(THRESHOLDS), dtype=torch.float64)
    ious[0, 3] = ious[1, 9] = 0.9  # each is good at a threshold of its own
    metric = MaxBoxAcc(0.7)
    metric.update(ious)
    assert metric.estimate().value == 0.5


def test_deletion_and_insertion_of_a_network_that_looks_at_one_pixel():
    """p is 3/4 while the pixel is there, 1/4 when it has gone."""
    images = torch.ones(2, 1, 8, 8)

    def predict(x: Tensor) -> Tensor:
        there = (x[:, 0, 4, 4] > 0.5).float()
        p = 0.25 + 0.5 * there
        return torch.stack((p.log(), (1 - p).log()), 1)

    maps = torch.arange(64.0).view(8, 8).neg().repeat(2, 1, 1)
    maps[0, 4, 4] = 1  # image 0: it goes first; image 1: after 36 others
    found = deletion_insertion(predict, images, maps, torch.zeros(2).long(), torch.zeros(1), steps=64)
    area = found["deletion"][0]
    assert area[0].item() == pytest.approx(0.25 + 0.5 * 0.5 / 64)
    assert area[1].item() == pytest.approx(0.25 + 0.5 * 36.5 / 64)
    assert found["insertion"][0][0].item() == pytest.approx(0.75)  # blurred, a bright image is bright
    for metric, name in ((Deletion, "deletion"), (Insertion, "insertion")):
        figure = metric(predict=predict, fill=torch.zeros(1), steps=64)
        figure.update(images, maps, torch.zeros(2).long())
        assert figure.estimate().value == pytest.approx(found[name][0].mean().item())


def test_blur_keeps_the_mean_and_is_scipys():
    from scipy.ndimage import gaussian_filter

    images = torch.rand(2, 3, 32, 24, dtype=torch.float64)
    found = cam_figures.blur(images)
    expected = gaussian_filter(images.numpy(), sigma=(0, 0, 2.0, 1.5), mode="mirror", radius=(0, 0, 6, 5))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(
    "metric", [CamEquivariance(), CamEquivariance("cam_displacement"), PointingGame(), EnergyInMask()]
)
def test_metrics_add_up_over_parts(metric):
    maps, masks = torch.rand(24, 8, 8), torch.rand(24, 8, 8) < 0.3
    arguments = (maps, masks)
    if isinstance(metric, CamEquivariance):
        arguments = (maps, torch.rand(24, 8, 8), *torch.randint(-2, 3, (2, 24)))
    metric.update(*arguments)
    whole = metric.estimate()
    assert metric.compute().item() == pytest.approx(whole.value)
    metric.reset()
    for part in torch.randperm(24).split(7):
        metric.update(*(argument[part] for argument in arguments))
    assert metric.estimate() == pytest.approx(whole, abs=1e-9)
