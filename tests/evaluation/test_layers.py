import pytest
import torch
from torch import Tensor, nn

import models
from datamodules.transforms import roll
from evaluation import layers, moves
from evaluation.layers import Layers, feature_distance, local_equivariance_error, measure_layers
from tests.evaluation.networks import batches


def test_maps_that_move_along_are_at_distance_0_and_unrelated_ones_at_1():
    maps = torch.randn(200, 4, 16, 16)
    dy, dx = torch.randint(-3, 4, (2, 200))
    hits, trials = feature_distance(maps, roll(maps, dy, dx), dy, dx)
    assert (trials == 1).all()
    torch.testing.assert_close(hits, torch.zeros(200), atol=1e-5, rtol=0)
    # The constant part of a map moves along whatever happens: it does not make maps alike.
    hits, _ = feature_distance(maps + 100, torch.randn(200, 4, 16, 16) + 100, dy, dx)
    assert hits.mean().item() == pytest.approx(1, abs=0.02)
    _, trials = feature_distance(torch.ones(2, 1, 4, 4), torch.ones(2, 1, 4, 4), dy[:2], dx[:2])
    assert (trials == 0).all()


def circular_net(pooling: str, model: str = "resnet20", **options) -> nn.Module:
    torch.manual_seed(0)
    return models.create(model, in_channels=1, image_size=32, pooling=pooling, head="gap", padding_mode="circular",
                         sites="all", **options).eval()  # fmt: skip


def sites_of(net: nn.Module) -> dict:
    return {name: (module, module.site.stride) for name, module in models.placed(net).items()}


def figures_of(net: nn.Module, images: Tensor, **options) -> dict[str, float]:
    found = measure_layers(
        lambda x: net(x / 255), batches(images, torch.zeros(len(images)).long(), 8), sites_of(net), Layers(**options)
    )
    return {name: figure["value"] for name, figure in found.figures.items()}


def test_before_the_first_site_a_circular_network_is_equivariant_and_max_pooling_breaks_it():
    images = 255 * torch.rand(16, 1, 32, 32)
    distances = figures_of(circular_net("max"), images)
    first = next(iter(models.placed(circular_net("max"))))
    assert distances[f"distance/{first}/in"] < 1e-4
    assert distances[f"distance/{first}/out"] > 0.05
    blurred = figures_of(circular_net("blur"), images)
    assert blurred[f"distance/{first}/out"] < distances[f"distance/{first}/out"]


def test_figures_do_not_depend_on_batches():
    net, images = circular_net("max", "lenet5"), torch.randint(256, (20, 1, 32, 32)).float()
    targets = torch.zeros(20).long()
    whole, parts = (
        measure_layers(lambda x: net(x / 255), batches(images, targets, size), sites_of(net), Layers(limit=15), 3)
        for size in (20, 6)
    )
    assert whole.figures.keys() == parts.figures.keys()
    for name, figure in whole.figures.items():
        assert figure["n"] == parts.figures[name]["n"] == 15
        assert figure["value"] == pytest.approx(parts.figures[name]["value"], rel=1e-4)
    assert set(whole.images["local_equivariance_error"]) == set(range(15))


def test_strides_are_those_of_the_network_whatever_its_borders():
    """LeNet-5 loses pixels at its convolutions' borders: 32 -> 28 -> 14 -> 10 -> 5, strides 1, 2, 2, 4."""
    net = models.create("lenet5", in_channels=1, image_size=32).eval()
    maps = layers.capture(net, torch.zeros(1, 1, 32, 32), sites_of(net))
    assert [tuple(map_.shape[-2:]) for map_ in maps.values()] == [(28, 28), (14, 14), (10, 10), (5, 5)]
    assert list(layers._strides(maps, sites_of(net), 32).values()) == [1, 2, 2, 4]


@pytest.mark.parametrize("segmentation", [False, True])
def test_the_local_error_is_the_limit_of_finite_shifts(segmentation):
    torch.manual_seed(1)
    body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)).double()
    images = torch.rand(5, 1, 9, 8, dtype=torch.float64)

    def probabilities(x: Tensor) -> Tensor:
        return (body(x) if segmentation else body(x).flatten(2)[..., 10]).softmax(1)

    def moved(t: float, axis: int) -> Tensor:
        amount, zero = torch.full((5,), t, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
        there, back = ((amount, zero), (-amount, zero)) if axis == -2 else ((zero, amount), (zero, -amount))
        value = probabilities(moves.fourier_shift(images, *there))
        return moves.fourier_shift(value, *back) if segmentation else value

    expected = torch.zeros(5, dtype=torch.float64)
    for axis in (-2, -1):
        change = (moved(1e-4, axis) - moved(-1e-4, axis)) / 2e-4
        expected += change.flatten(2).square().sum(1).mean(1).sqrt() if segmentation else change.norm(dim=1)
    hits, trials = local_equivariance_error(lambda x: probabilities(x).log(), images)
    assert (trials == 2).all()
    torch.testing.assert_close(hits, expected, rtol=1e-4, atol=1e-7)


def test_a_linear_network_with_a_global_mean_has_no_local_error():
    net = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1, padding_mode="circular"), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    hits, _ = local_equivariance_error(net, torch.rand(4, 1, 8, 8))
    torch.testing.assert_close(hits, torch.zeros(4), atol=1e-5, rtol=0)


def test_shifts_larger_than_the_image_are_refused():
    with pytest.raises(ValueError, match="leave nothing of 32x32"):
        figures_of(circular_net("max", "lenet5"), torch.zeros(2, 1, 32, 32), m=32)
