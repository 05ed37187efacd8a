import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, top_k_accuracy_score
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from evaluation import metrics
from evaluation.cam_figures import THRESHOLDS, MaxBoxAcc
from evaluation.layers import FeatureDistance, LocalEquivarianceError

HERE = Path(__file__).parent


def test_accuracy_is_that_of_torchmetrics_and_scikit_learn():
    torch.manual_seed(0)
    logits, targets = torch.randn(200, 10), torch.randint(10, (200,))
    expected = MulticlassAccuracy(10, average="micro")(logits, targets)
    assert metrics.ratio(*metrics.accuracy(logits, targets)).value == pytest.approx(expected.item())
    top5 = top_k_accuracy_score(targets.numpy(), logits.numpy(), k=5, labels=range(10))
    assert metrics.ratio(*metrics.accuracy(logits, targets, top=5)).value == pytest.approx(top5)


def test_with_fewer_than_five_classes_top5_is_certain_and_ties_are_not_right_by_default():
    logits, targets = torch.zeros(4, 3), torch.tensor([0, 1, 2, 1])
    assert metrics.ratio(*metrics.accuracy(logits, targets, top=5)).value == 1
    assert metrics.ratio(*metrics.accuracy(logits, targets)).value == 0.25


def test_loss_is_the_cross_entropy_and_class_255_counts():
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 300), torch.randint(300, (50,))
    targets[:10] = 255
    assert metrics.ratio(*metrics.loss(logits, targets), "mean").value == pytest.approx(
        F.cross_entropy(logits, targets).item(), rel=1e-6
    )


def test_loss_of_masks_leaves_unlabelled_pixels_out():
    torch.manual_seed(0)
    logits, masks = torch.randn(3, 4, 8, 8), torch.randint(4, (3, 8, 8))
    masks[:, :3] = 255
    expected = F.cross_entropy(logits, masks, ignore_index=255).item()
    assert metrics.ratio(*metrics.loss(logits, masks), "mean").value == pytest.approx(expected, rel=1e-6)


def test_consistency_by_hand():
    first = torch.tensor([[1, 1, 2], [3, 3, 3]])
    second = torch.tensor([[1, 2, 2], [3, 3, 3]])
    hits, trials = metrics.consistency(first, second)
    assert (hits.tolist(), trials.tolist()) == ([2, 3], [3, 3])


def test_probability_change_follows_the_first_views_class():
    first = torch.tensor([[0.7, 0.2, 0.1]]).log()
    second = torch.tensor([[0.4, 0.5, 0.1]]).log()
    assert metrics.ratio(*metrics.mean_probability_change(first, second)).value == pytest.approx(0.3)
    assert metrics.ratio(*metrics.mean_probability_change(second, first)).value == pytest.approx(0.3)
    assert metrics.ratio(*metrics.mean_probability_change(first, first)).value == 0


def test_mean_iou_is_scikit_learns_with_unlabelled_pixels_left_out():
    torch.manual_seed(0)
    masks = torch.randint(6, (12, 16, 16))
    classes = torch.where(torch.rand(12, 16, 16) < 0.7, masks, torch.randint(6, (12, 16, 16)))
    labelled = torch.rand(12, 16, 16) < 0.8
    masks = torch.where(labelled, masks, 255)
    value = metrics.mean_iou(*metrics.intersections_and_unions(classes, masks, 6)).value
    expected = jaccard_score(masks[labelled].numpy(), classes[labelled].numpy(), average="macro")
    assert value == pytest.approx(expected)
    # A class that occurs nowhere changes nothing.
    assert metrics.mean_iou(*metrics.intersections_and_unions(classes, masks, 9)).value == pytest.approx(expected)
    pixels = metrics.ratio(*metrics.pixel_accuracy(classes, masks)).value
    assert pixels == pytest.approx((masks == classes)[labelled].double().mean().item())


def test_the_interval_of_mean_iou_is_as_wide_as_the_bootstraps():
    draw = torch.Generator().manual_seed(0)
    masks = (torch.rand(150, 12, 12, generator=draw) < torch.rand(150, 1, 1, generator=draw)).long()
    wrong = torch.rand(150, 12, 12, generator=draw) < 0.4 * torch.rand(150, 1, 1, generator=draw)
    counts = metrics.intersections_and_unions(torch.where(wrong, 1 - masks, masks), masks, 2)
    _, low, high, n = metrics.mean_iou(*counts)
    again = [torch.randint(150, (150,), generator=draw) for _ in range(2000)]
    bootstrap = np.quantile([metrics.mean_iou(counts[0][i], counts[1][i]).value for i in again], [0.025, 0.975])
    assert n == 150
    assert high - low == pytest.approx(bootstrap[1] - bootstrap[0], rel=0.1)


def test_perfect_masks_have_iou_one_and_none_at_all_have_none():
    masks = torch.randint(3, (5, 4, 4))
    assert metrics.mean_iou(*metrics.intersections_and_unions(masks, masks, 3)).value == 1
    nothing = torch.full((5, 4, 4), 255)
    assert np.isnan(metrics.mean_iou(*metrics.intersections_and_unions(masks, nothing, 3)).value)
    assert np.isnan(metrics.ratio(*metrics.pixel_accuracy(masks, nothing)).value)


def test_worst_is_at_most_mean_and_right_everywhere_is_both():
    torch.manual_seed(0)
    classes, targets = torch.randint(2, (50, 9)), torch.randint(2, (50,))
    worst, mean = metrics.accuracy_worst_shift(classes, targets), metrics.accuracy_mean_shift(classes, targets)
    assert metrics.ratio(*worst).value <= metrics.ratio(*mean).value
    assert (worst[0] <= (mean[0] == 9)).all()
    always = targets[:, None].expand(50, 9)
    assert metrics.ratio(*metrics.accuracy_worst_shift(always, targets)).value == 1


def test_flips_and_one_pixel_changes_by_hand():
    assert metrics.flip_rate(torch.tensor([[1, 1, 2, 1]]))[0].tolist() == [2]
    square = torch.tensor([[[9, 0, 9], [1, 0, 0], [9, 2, 9]]])  # the corners do not count
    hits, trials = metrics.top1_change_1px(square)
    assert (hits.tolist(), trials.tolist()) == ([2], [4])
    hits, _ = metrics.probability_wobble(torch.tensor([[0.2, 0.9, 0.5]]))
    assert hits.tolist() == pytest.approx([0.7])


def _first_pixels(images: torch.Tensor) -> torch.Tensor:
    return images[:, 0, 0]


def samples():
    """(metric, arguments of one update) for every metric, over 24 images."""
    draw = torch.Generator().manual_seed(0)

    def classes(*shape: int, K: int = 4) -> torch.Tensor:
        return torch.randint(K, shape, generator=draw)

    def logits(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    return {
        "accuracy": (metrics.Accuracy(), (logits(24, 4), classes(24))),
        "top": (metrics.Accuracy(top=2), (logits(24, 4), classes(24))),
        "loss": (metrics.Loss(), (logits(24, 4), classes(24))),
        "consistency": (metrics.Consistency(), (classes(24, 5), classes(24, 5))),
        "change": (metrics.MeanProbabilityChange(), (logits(24, 5, 4), logits(24, 5, 4))),
        "worst": (metrics.AccuracyWorstShift(), (classes(24, 3, K=2), classes(24, K=2))),
        "mean": (metrics.AccuracyMeanShift(), (classes(24, 9), classes(24))),
        "pixels": (metrics.PixelAccuracy(), (classes(24, 6, 6), classes(24, 6, 6))),
        "wobble": (metrics.ProbabilityWobble(), (torch.rand(24, 9, generator=draw),)),
        "top1": (metrics.Top1Change(), (classes(24, 5, 5, K=2),)),
        "flips": (metrics.FlipRate(), (classes(24, 7, K=2),)),
        "distance": (FeatureDistance(), (logits(24, 3, 6, 6), logits(24, 3, 6, 6), classes(24) - 2, classes(24) - 2)),
        "local": (LocalEquivarianceError(predict=_first_pixels), (torch.rand(24, 1, 6, 6, generator=draw),)),
        "boxes": (MaxBoxAcc(0.5), (torch.rand(24, len(THRESHOLDS), generator=draw),)),
        "iou": (metrics.MeanIoU(4), (classes(24, 6, 6), classes(24, 6, 6))),
        "equivariance": (
            metrics.ShiftEquivariance(wrap=False),
            (classes(24, 6, 6), classes(24, 2, 6, 6), classes(24, 2) - 2, classes(24, 2) - 2),
        ),
    }


@pytest.mark.parametrize("name", samples())
def test_a_metric_fed_in_parts_gives_what_the_whole_gives(name):
    metric, arguments = samples()[name]
    metric.update(*arguments)
    whole = metric.estimate()
    assert metric.compute().item() == pytest.approx(whole.value)
    assert whole.low <= whole.value <= whole.high
    assert whole.n == 24
    metric.reset()
    for part in torch.randperm(24).split(7):
        metric.update(*(argument[part] for argument in arguments))
    assert metric.estimate() == pytest.approx(whole, abs=1e-12)


def test_two_processes_give_what_one_gives(tmp_path):
    root = HERE.parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([sys.executable, HERE / "reduce_worker.py", tmp_path, str(rank)], env=environment, cwd=root)
        for rank in range(2)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    for name, (metric, arguments) in samples().items():
        metric.update(*arguments)
        for rank in range(2):
            result = json.loads((tmp_path / f"{rank}.json").read_text())[name]
            assert result["estimate"] == pytest.approx(metric.estimate(), abs=1e-12)
            assert result["value"] == pytest.approx(metric.compute().item())
            assert result["own"] == 12  # the process's own state is its own again
