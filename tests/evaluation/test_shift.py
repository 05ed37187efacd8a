import json

import pytest
import torch
from torch import Tensor, nn

from evaluation.shift import PROTOCOLS, Circular, Crop, Grid, Zero, evaluate_shift, measure, passes
from evaluation.views import offsets
from tests.evaluation.networks import batches, columns_bright, one_pixel

# Figures of classifiers


def test_a_constant_classifier_is_always_consistent():
    images, targets = torch.randint(256, (40, 1, 16, 16), dtype=torch.uint8), torch.arange(40) % 4
    result = evaluate_shift(
        lambda x: torch.tensor([0.0, 3.0, 1.0, 2.0]).expand(len(x), -1), batches(images, targets), list(PROTOCOLS)
    )
    for name in (name for name in result if name.startswith("consistency")):
        assert result[name]["value"] == 1
        assert result[name]["interval"] == [pytest.approx(1 - 0.08762, abs=1e-4), 1]  # Wilson: 40 of 40
    for name in ("mean_probability_change", "probability_wobble", "top1_change_1px", "flip_rate"):
        assert result[name]["value"] == 0
    assert len([name for name in result if name.startswith("consistency")]) == 6
    for name in (name for name in result if name.startswith("accuracy") and name != "accuracy_top5"):
        assert result[name]["value"] == 0.25
    assert result["accuracy_top5"]["value"] == 1


def test_the_consistency_of_a_network_that_looks_at_one_pixel():
    N, side = 4000, 16
    targets = torch.zeros(N, dtype=torch.long)
    # Circular, m = 3: columns 0..3 come to the left edge by 4 of 7 rolls, so views agree with (4/7)^2 + (3/7)^2.
    result = evaluate_shift(one_pixel, batches(columns_bright(N, side, [0, 1, 2, 3]), targets, N), ["circular"])
    low, high = result["consistency_circular"]["interval"]
    assert low < 25 / 49 < high
    assert high - low < 0.02
    # Crop, m = 4 and padding 2: column 0 is at the left edge for offsets 0, 1, 2 of 4.
    result = evaluate_shift(one_pixel, batches(columns_bright(N, side, [0]), targets, N), ["crop"])
    low, high = result["consistency"]["interval"]
    assert low < (9 + 1) / 16 < high
    # p is e / (1 + e) or 1 / (1 + e): it changes by tanh(1/2) where the class changes, and not at all elsewhere.
    change = result["mean_probability_change"]
    expected = (1 - result["consistency"]["value"]) * torch.tensor(0.5).tanh().item()
    assert change["value"] == pytest.approx(expected)
    assert change["interval"][0] < expected < change["interval"][1]
    # Zero, m = 3: a bright image's corner turns dark unless it moves up and left, or not at all.
    result = evaluate_shift(one_pixel, batches(columns_bright(N, side, list(range(side))), targets, N), ["zero"])
    low, high = result["consistency_zero"]["interval"]
    assert low < 16 / 49 < high


def test_the_grid_holds_every_shift():
    images = columns_bright(30, 12, list(range(12)))
    images[10:] = 0  # dark wherever they go
    targets = torch.cat((torch.ones(20), torch.zeros(10))).long()
    result = evaluate_shift(one_pixel, batches(images, targets), [Grid(m=3), "circular"])
    # Images 0..9 are right where the corner stays bright, 10..19 nowhere, 20..29 everywhere.
    assert result["accuracy"]["value"] == pytest.approx(20 / 30)
    assert result["accuracy_mean_shift"]["value"] == pytest.approx((10 * 16 / 49 + 10) / 30)
    assert result["accuracy_worst_shift"]["value"] == pytest.approx(10 / 30)


def test_the_grids_other_figures_by_hand():
    images = columns_bright(8, 12, [0, 1])
    targets = torch.ones(8).long()
    found = measure(one_pixel, batches(images, targets, 3), [Grid(m=3)])
    # The corner is bright for dx in {-1, 0} and dy <= 0 (rows below enter from the image, above from the zeros).
    right = torch.zeros(7, 7, dtype=torch.bool)
    right[:4, 2:4] = True
    assert torch.equal(found.details["grid.right"], right.expand(8, -1, -1))
    assert torch.equal(found.details["grid.same"], right.expand(8, -1, -1))
    # One pixel down or right changes the class, up and left do not; the middle row flips twice in six steps.
    assert found.figures["top1_change_1px"]["value"] == 2 / 4
    assert found.figures["flip_rate"]["value"] == pytest.approx(2 / 6)
    wobble = torch.tensor([0.0, 1.0]).softmax(0).diff().item()
    assert found.figures["probability_wobble"]["value"] == pytest.approx(wobble)
    assert found.images["flip_rate"] == pytest.approx(dict.fromkeys(range(8), 2 / 6))


def test_figures_of_images_average_to_the_figure(network):
    images, targets = torch.randint(256, (70, 1, 16, 16), dtype=torch.uint8), torch.randint(7, (70,))
    found = measure(lambda x: network(x.double() / 255), batches(images, targets, 32), list(PROTOCOLS))
    for name, figure in found.figures.items():
        if name in found.images:
            values = found.images[name]
            assert set(values) == set(range(70))
            assert sum(values.values()) / 70 == pytest.approx(figure["value"])
    right = [found.images["target"][i] == found.images["predicted"][i] for i in range(70)]
    assert sum(right) / 70 == pytest.approx(found.figures["accuracy"]["value"])


def test_the_grid_is_of_the_images_below_its_limit_and_says_so():
    images = columns_bright(30, 12, list(range(12)))
    targets = torch.cat((torch.zeros(20), torch.ones(10))).long()
    result = evaluate_shift(
        lambda x: torch.tensor([1.0, 0.0]).expand(len(x), 2), batches(images, targets, 7), [Grid(m=1, limit=25)]
    )
    worst = result["accuracy_worst_shift"]
    assert worst["n"] == 25
    assert worst["value"] == pytest.approx(20 / 25)
    assert worst["protocol"] == {"name": "grid", "m": 1, "limit": 25, "fill": "zeros"}
    assert result["accuracy"]["n"] == 30


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 5, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(7)).double()


def test_figures_do_not_depend_on_batch_size_or_order(network):
    images, targets = torch.randint(256, (70, 1, 16, 16), dtype=torch.uint8), torch.randint(7, (70,))

    def evaluate(size: int, order: Tensor | None = None):
        predict = lambda x: network(x.double() / 255)  # noqa: E731
        protocols = ["crop", "circular", "zero", Grid(m=1, limit=40)]
        result = evaluate_shift(predict, batches(images, targets, size, order), protocols, seed=9)
        assert json.loads(json.dumps(result)) == result
        return {name: ([r["value"], *r["interval"]], r["n"], r["protocol"]) for name, r in result.items()}

    whole = evaluate(64)
    assert len(whole) == 3 + 2 + 1 + 1 + 5
    assert 0 < whole["consistency"][0][0] < 1
    for other in (evaluate(1), evaluate(7), evaluate(64, torch.randperm(70))):
        for name, (values, n, protocol) in whole.items():
            assert (other[name][1], other[name][2]) == (n, protocol)
            assert other[name][0] == pytest.approx(values, abs=1e-12)
    assert whole["accuracy_worst_shift"][0][0] <= whole["accuracy_mean_shift"][0][0]


def test_a_seed_gives_its_own_pairs(network):
    images, targets = torch.randint(256, (100, 1, 16, 16), dtype=torch.uint8), torch.randint(7, (100,))
    values = {
        seed: evaluate_shift(lambda x: network(x.double()), batches(images, targets), ["crop"], seed)["consistency"]
        for seed in (0, 1)
    }
    assert values[0]["value"] != values[1]["value"]
    assert (values[0]["protocol"]["seed"], values[1]["protocol"]["seed"]) == (0, 1)
    assert values[0]["protocol"]["m"] == 4


def test_progress_counts_up_to_the_passes_announced():
    images, targets = columns_bright(23, 12, [0]), torch.zeros(23, dtype=torch.long)
    protocols = [Crop(repeats=2), Circular(), Zero(repeats=1), Grid(m=1, limit=10), "subpixel", "rotation", "scale"]
    seen: list[int] = []
    evaluate_shift(one_pixel, batches(images, targets, 5), protocols, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == passes(protocols, 23) == 23 * (1 + 4 + 10 + 1 + 3 * 5) + 90


# Figures for segmentation


def by_brightness(images: Tensor) -> Tensor:
    """A segmentation network that is exactly equivariant: each pixel's class is its own brightness."""
    bright = (images[:, 0] > 127).float()
    return torch.stack((1 - bright, bright), 1)


def left_and_right(images: Tensor) -> Tensor:
    """One that is not at all: its classes are the left and the right half, whatever it sees."""
    right = (torch.arange(images.shape[-1]) >= images.shape[-1] // 2).float().expand_as(images[:, 0])
    return torch.stack((1 - right, right), 1)


def test_a_network_of_pixels_is_equivariant_and_exact():
    images = torch.randint(256, (20, 1, 16, 12), dtype=torch.uint8)
    masks = (images[:, 0] > 127).to(torch.uint8)
    masks[:, :2] = 255
    result = evaluate_shift(by_brightness, batches(images, masks, 6))
    assert set(result) == {"mean_iou", "pixel_accuracy", "loss", "shift_equivariance", "shift_equivariance_zero"}
    for name in set(result) - {"loss"}:
        assert result[name]["value"] == 1
    assert result["shift_equivariance"]["protocol"]["name"] == "circular"
    assert result["shift_equivariance_zero"]["protocol"]["name"] == "zero"


def test_the_equivariance_of_a_network_that_ignores_its_input():
    N, W = 60, 16
    images, masks = torch.zeros(N, 1, 10, W, dtype=torch.uint8), torch.zeros(N, 10, W, dtype=torch.uint8)
    result = evaluate_shift(left_and_right, batches(images, masks, 11), [Circular(repeats=1), Zero(repeats=1)], seed=4)
    # A shift by dx moves the border between the halves: |dx| columns disagree, and as many at the seam of a roll.
    dx = offsets(Circular.stream, 4, torch.arange(N), 0, 7)[1] - 3
    assert result["shift_equivariance"]["value"] == pytest.approx((1 - 2 * dx.abs() / W).double().mean().item())
    dy, dx = (offsets(Zero.stream, 4, torch.arange(N), 0, 7) - 3)[:2].abs()
    same, seen = (10 - dy) * (W - 2 * dx), (10 - dy) * (W - dx)
    assert result["shift_equivariance_zero"]["value"] == pytest.approx((same.sum() / seen.sum()).item())


def test_segmentation_figures_do_not_depend_on_batch_size():
    torch.manual_seed(0)
    net = nn.Conv2d(1, 3, 5, padding=2).double()
    images = torch.randint(256, (40, 1, 12, 12), dtype=torch.uint8)
    masks = torch.randint(3, (40, 12, 12), dtype=torch.uint8)
    whole, parts = (evaluate_shift(lambda x: net(x.double() / 255), batches(images, masks, n)) for n in (64, 7))
    for name, figure in whole.items():
        assert parts[name]["value"] == pytest.approx(figure["value"], abs=1e-12)
        assert parts[name]["interval"] == pytest.approx(figure["interval"], abs=1e-9)
    seen: list[int] = []
    evaluate_shift(lambda x: net(x.double()), batches(images, masks), progress=seen.append)
    assert seen[-1] == passes(None, 40, segmentation=True)


# Mistakes


@pytest.mark.parametrize(
    "protocols, message",
    [
        (["circlar"], "did you mean 'circular'"),
        ([Grid(m=12)], "leave nothing of 12x12"),
        (["zero", Zero(m=20)], "leave nothing of 12x12"),
    ],
)
def test_a_protocol_that_does_not_work(protocols, message):
    with pytest.raises(ValueError, match=message):
        evaluate_shift(one_pixel, batches(columns_bright(4, 12, [0]), torch.zeros(4).long()), protocols)


def test_a_protocol_without_a_figure_for_segmentation():
    images = torch.zeros(2, 1, 12, 12, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"'crop' has no figure for segmentation .* circular, zero"):
        evaluate_shift(by_brightness, batches(images, torch.zeros(2, 12, 12).long()), ["crop"])


@pytest.mark.parametrize("bad", [{"m": 0}, {"m": 1.5}, {"repeats": 0}, {"repeats": True}, {"m": None}])
def test_a_setting_out_of_range(bad):
    with pytest.raises(ValueError, match="must be an integer >= 1"):
        Circular(**bad)


def test_networks_that_do_not_fit_their_targets():
    images, targets = columns_bright(4, 12, [0]), torch.tensor([0, 1, 2, 0])
    with pytest.raises(ValueError, match="2 classes, and targets run from 0 to 2"):
        evaluate_shift(one_pixel, batches(images, targets))
    with pytest.raises(ValueError, match="need logits"):
        evaluate_shift(by_brightness, batches(images, targets * 0))
    with pytest.raises(ValueError, match="NaN, first for image 2"):
        evaluate_shift(
            lambda x: one_pixel(x).masked_fill(torch.arange(4)[:, None] == 2, torch.nan), batches(images, targets * 0)
        )
    with pytest.raises(ValueError, match="no images"):
        evaluate_shift(one_pixel, [])


def test_an_infinite_loss_is_null_in_json():
    images, targets = columns_bright(4, 12, [0]), torch.zeros(4, dtype=torch.long)
    result = evaluate_shift(lambda x: torch.tensor([-torch.inf, 0.0]).expand(len(x), 2), batches(images, targets), [])
    assert result["loss"]["value"] is None
    json.dumps(result, allow_nan=False)
