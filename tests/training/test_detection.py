"""Detection: targets, the network's sites and losses, its figures, and a run."""

import json

import pytest
import torch
from torchvision.ops import box_iou

import datamodules
import models
from evaluation.detection import measure_detection
from evaluation.intervals import wilson
from models.fasterrcnn import described

SCENES = {"task": "detection", "scenes": 20}


@pytest.fixture(scope="module")
def data():
    return datamodules.create("digit_scenes", **SCENES)


def test_targets_are_the_scenes_boxes_with_their_digits_class(data):
    split = data.split("train")
    assert split.targets.shape == (len(split), 3, 5)
    assert torch.equal(split.targets[..., 1:], split.boxes)
    for image in range(3):
        for label, left, top, right, bottom in split.targets[image].tolist():
            inside = split.masks[image, top:bottom, left:right]
            assert data.class_names[label] in map(str, range(10))
            assert label in inside
    with pytest.raises(ValueError, match="random_crop and random_flip do not move boxes"):
        datamodules.create("digit_scenes", random_flip=True, **SCENES).setup()


@pytest.mark.parametrize("roi", ["roi_align", "roi_pool"])
@pytest.mark.parametrize("backbone, sites", [("resnet20", 2), ("resnet18", 2)])
def test_a_detector_has_its_backbone_s_sites_and_learns(roi, backbone, sites, data):
    torch.manual_seed(0)
    net = models.create(
        "fasterrcnn", num_classes=11, in_channels=1, pooling="aps", backbone=backbone, roi=roi, hidden=16
    )
    assert [s.operator for s in models.sites(net) if s.follows is None] == ["aps"] * sites
    assert net.detector.roi_heads.box_roi_pool.operator.operator == roi
    images, targets, _ = next(data.evaluation_batches("train", 2))
    losses = net(images / 255, targets)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    for found in net.eval()(images / 255):
        assert found["boxes"].shape == (len(found["scores"]), 4)


def test_precision_of_detections_that_are_known(data):
    """All right is 1; boxes moved by a fifth of their side overlap by less than 0.5 and are all wrong; none give 0."""
    _, targets, _ = next(data.evaluation_batches("train", 4))
    truth = [one | {"scores": torch.ones(len(one["labels"]))} for one in described(targets)]

    def figures(found):
        return {
            k: v["value"]
            for k, v in measure_detection(lambda images: found, [(targets, targets, None)]).figures.items()
        }

    assert figures(truth) == pytest.approx({"map": 1.0, "map_50": 1.0})
    squares = [
        {**one, "boxes": torch.tensor([[0.0, 0, 10, 10]]).expand(3, 4) + 20 * torch.arange(3)[:, None]} for one in truth
    ]
    moved = [{**one, "boxes": one["boxes"] + 2} for one in squares]
    assert box_iou(squares[0]["boxes"][:1], moved[0]["boxes"][:1]).item() == pytest.approx(64 / 136)
    targets = torch.stack([torch.cat((one["labels"][:, None], one["boxes"].long()), 1) for one in squares])
    assert figures(moved) == {"map": 0.0, "map_50": 0.0}
    slightly = [{**one, "boxes": one["boxes"] + torch.tensor([0.0, 0, 0, -1.8])} for one in squares]  # overlap 0.82
    assert figures(slightly) == pytest.approx({"map": 0.7, "map_50": 1.0})
    nothing = [{name: value[:0] for name, value in one.items()} for one in truth]
    assert figures(nothing) == {"map": 0.0, "map_50": 0.0}


def measured(found, targets):
    return measure_detection(lambda images: found, [(targets, targets, None)]).figures


def test_the_interval_of_a_precision_that_is_a_share():
    """One object an image, either found or not and nothing else found: the precision is the share of those found, and
    its interval about that of a share."""
    n, share = 400, 0.6
    box = torch.tensor([[3, 10, 10, 30, 30]])
    targets = box.expand(n, 1, 5)
    hit = torch.rand(n) < share
    found = [
        {"boxes": box[:, 1:].float(), "labels": box[:, 0], "scores": torch.ones(1)} if yes
        else {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)}
        for yes in hit
    ]  # fmt: skip
    rate = float(hit.float().mean())
    low, high = wilson(rate, n)
    for figure in measured(found, targets).values():
        assert figure["n"] == n
        assert figure["value"] == pytest.approx(rate, abs=0.01)  # COCO reads it at 101 steps
        assert figure["interval"][1] - figure["interval"][0] == pytest.approx(high - low, rel=0.4)
    everything = [{"boxes": box[:, 1:].float(), "labels": box[:, 0], "scores": torch.ones(1)}] * n
    for figure in measured(everything, targets).values():
        assert (figure["value"], *figure["interval"]) == pytest.approx((1, *wilson(1, n)))


def test_one_image_or_no_object_has_no_variance():
    box = torch.tensor([[[3, 10, 10, 30, 30]]])
    found = [{"boxes": box[0, :, 1:].float(), "labels": box[0, :, 0], "scores": torch.ones(1)}]
    assert measured(found, box)["map"]["interval"] == pytest.approx(wilson(1, 1))
    assert measured(found, box[:, :0])["map"]["value"] is None


@pytest.mark.slow
def test_a_run(train, run):
    folder = train(
        "model=fasterrcnn", "model.roi=roi_pool", "model.hidden=16", "data=digit_scenes", "data.task=detection",
        "data.scenes=24", "data.batch_size=8", "pooling=blur",
    )  # fmt: skip
    results = json.loads((folder / "results.json").read_text())
    assert 0 <= results["map"] <= results["map_50"] <= 1
    outcome = run("eval", f"run={folder}")
    assert outcome.code == 0, outcome.err
    assert json.loads((folder / "eval" / "test.json").read_text())["figures"]["map"]["value"] == results["map"]
    outcome = run("train", "model=fasterrcnn", "data=digit_scenes")
    assert outcome.code == 1
    assert "'fasterrcnn' is for detection, data 'digit_scenes' for segmentation" in outcome.err
