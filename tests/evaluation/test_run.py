"""`evaluate` and its files, on a network that poolzoo did not train."""

import csv
import json
import re

import pytest
import torch
from torch import nn

import datamodules
from evaluation import report
from evaluation.efficiency import evaluating
from evaluation.run import evaluate

SMALL = {"layers": {"limit": 10, "repeats": 1}, "cam": {"limit": 10, "steps": 4}, "grid": {"m": 1, "limit": 20}}


@pytest.fixture(scope="module")
def digits():
    data = datamodules.create("digits")
    data.setup()
    return data


def network(spatial: bool = True) -> nn.Module:
    torch.manual_seed(0)
    features = 8 if spatial else 1024
    body = [nn.Conv2d(1, 8, 5, 2), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)] if spatial else []
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(features, 10))


def test_any_network_is_evaluated_and_written_and_nothing_is_lost(digits, tmp_path):
    net = network().train()
    result = evaluate(net, digits, protocols=["crop", "grid", "subpixel"], also=["cam", "layers"], limit=30, **SMALL)
    assert not result.failures
    assert {"accuracy", "consistency", "flip_rate", "consistency_subpixel", "cam_equivariance", "deletion",
            "local_equivariance_error"} <= set(result.figures)  # fmt: skip
    arguments = (digits.class_names, {"title": "mine <&>"}, {"parameters": 7}, {"torch": torch.__version__})
    first = report.write(result, tmp_path, "test", *arguments)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    second = report.write(result, tmp_path, "test", *arguments)
    assert all(file.read_bytes() == content for file, content in before.items())
    names = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    pictures = ("grid", "diagonal", "distance", "cams")
    for number in ("", "-2"):
        expected = {f"test{number}.json", f"test{number}.csv", f"report{number}.html"}
        assert names >= expected | {f"test{number}/{picture}.png" for picture in pictures}
    assert len(names) == 2 * (3 + len(pictures))
    assert (first.report.name, second.report.name) == ("report.html", "report-2.html")

    page = first.report.read_text()
    assert "mine &lt;&amp;&gt;" in page
    assert page.count("data:image/png;base64,") == len(pictures)
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    for name in result.figures:
        assert f"<td>{name}<" in page
    written = json.loads(first.json.read_text())
    assert written["figures"] == result.figures
    assert written["versions"]["torch"] == torch.__version__
    with first.csv.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 30
    mean = sum(float(row["consistency"]) for row in rows) / 30
    assert mean == pytest.approx(result.figures["consistency"]["value"], abs=1e-5)
    right = sum(row["target"] == row["predicted"] for row in rows) / 30
    assert right == pytest.approx(result.figures["accuracy"]["value"])
    assert sum(row["cam_equivariance"] != "" for row in rows) == result.figures["cam_equivariance"]["n"]


def test_a_part_that_fails_is_named_and_the_others_go_on(digits, tmp_path):
    settings = SMALL | {"zero": {"m": 40}}
    result = evaluate(
        network(spatial=False), digits, protocols=["zero", "crop"], also=["cam", "layers"], limit=20, **settings
    )
    assert set(result.failures) == {"zero", "cam"}
    assert "leave nothing of 32x32" in result.failures["zero"]
    assert "no spatial map" in result.failures["cam"]
    assert {"consistency", "local_equivariance_error"} <= set(result.figures)
    written = report.write(result, tmp_path, "val", digits.class_names, {}, {}, {})
    assert written.report.name == "report-val.html"
    assert "no spatial map" in written.report.read_text()
    assert json.loads(written.json.read_text())["failed"] == result.failures


@pytest.mark.parametrize("also", [[], ["cam"], ["layers", "cam"]])
def test_progress_ends_at_its_total(digits, also):
    seen: list[tuple[int, int]] = []
    options = {"progress": lambda *numbers: seen.append(numbers), "limit": 25} | SMALL
    evaluate(network(), digits, protocols=["crop"], also=also, **options)
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_without_masks_the_figures_of_the_object_are_left_out_with_a_note(digits):
    result = evaluate(network(), digits, protocols=[], also=["cam"], limit=10, **SMALL)
    assert "pointing_game" not in result.figures
    (note,) = result.notes
    assert "digits has no masks" in note


def test_on_scenes_the_cams_know_where_the_digit_is():
    data = datamodules.create("digit_scenes", task="classification", scenes=40)
    data.setup()
    (part, numbers) = data.parts["test"]

    class Oracle(nn.Module):
        """Its last map is the image where the main digit is, whatever the class: a perfect CAM."""

        def __init__(self) -> None:
            super().__init__()
            self.map, self.fc = nn.Conv2d(1, 1, 1), nn.Linear(1, 10)
            nn.init.ones_(self.fc.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.map(x).mean((2, 3)))

    net = Oracle()
    result = evaluate(
        net, data, protocols=[], also=["cam"], limit=10, cam={"method": "hires_cam", "limit": 10, "steps": 2}
    )
    assert {"pointing_game", "energy_in_mask", "max_box_acc_30", "max_box_acc_50", "max_box_acc_70"} <= set(
        result.figures
    )
    assert result.figures["pointing_game"]["n"] == 10
    assert result.figures["max_box_acc_30"]["value"] >= result.figures["max_box_acc_70"]["value"]
    # By hand: HiResCAM of this network is its map; where it peaks, the mask of the main digit (class + 1) decides.
    images, targets = part.images[numbers[:10]], part.targets[numbers[:10]]
    sign = torch.sign(net.map.weight).item()
    peaks = (sign * images[:, 0].float()).flatten(1).argmax(1)
    hits = part.masks[numbers[:10]].flatten(1).gather(1, peaks[:, None])[:, 0] == 1 + targets
    assert result.figures["pointing_game"]["value"] == pytest.approx(hits.double().mean().item())
    assert result.figures["cam_equivariance"]["value"] == pytest.approx(1)  # a 1x1 convolution moves with the image


def test_segmentation_has_pairs_and_its_own_figures(tmp_path):
    data = datamodules.create("digit_scenes", scenes=40)
    data.setup()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 11, 3, padding=1))
    result = evaluate(net, data, also=["cam", "layers"], layers={"limit": 10, "repeats": 1}, cam={"limit": 10})
    assert not result.failures
    assert {"shift_equivariance", "shift_equivariance_zero", "cam_equivariance", "pointing_game"} <= set(result.figures)
    assert "deletion" not in result.figures
    written = report.write(result, tmp_path, "test", data.class_names, {}, {}, {})
    assert set(written.pictures) == {"cams", "pairs"}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"also": ["cams"]}, "no further part 'cams'"),
        ({"also": ["cam"], "cam": {"method": "gradcam"}}, "did you mean 'grad_cam'"),
        ({"also": ["layers"], "layers": {"m": 0}}, "must be an integer >= 1"),
        ({"split": "tets"}, "split must be one of train, val, test"),
        ({"limit": 0}, "limit must be at least 1"),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(digits, settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate(lambda x: pytest.fail("ran"), digits, **settings)


def test_a_network_comes_back_in_the_modes_it_had():
    net = network()
    net.train()
    net[1].eval()
    with evaluating(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net] == [True, False, True, True, True]
