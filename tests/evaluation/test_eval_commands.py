"""eval.py and cam.py as users meet them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

QUICK = tuple(
    "evaluation.crop.repeats=1 evaluation.grid.m=1 evaluation.subpixel.repeats=1 evaluation.layers.limit=8 "
    "evaluation.layers.repeats=1 evaluation.cam.limit=8 evaluation.cam.steps=2 limit=20".split()
)
PARTS = ("protocols=[crop,grid,subpixel]", "cam=true", "layers=true")


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Digits of several sizes and modes, and a file that is no picture."""
    folder = tmp_path / "my pictures, 2"
    (folder / "more").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name, mode, size in (("a.png", "RGB", (40, 50)), ("more/a.jpg", "L", (64, 32)), ("c.png", "RGBA", (28, 28))):
        pixels = draw.integers(256, size=(size[1], size[0], 4), dtype=np.uint8)
        Image.fromarray(pixels, "RGBA").convert(mode).save(folder / name) if mode != "L" else Image.fromarray(
            pixels[..., 0]
        ).save(folder / name)
    (folder / "broken.png").write_text("not a picture")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def test_eval_writes_figures_pictures_and_a_report_and_tensorboard_has_them_too(run, train):
    folder = train("pooling=blur")
    outcome = run("eval", f"run={folder}", *PARTS, *QUICK)
    assert outcome.code == 0, outcome.err
    assert "report.html" in outcome.out
    assert "digits has no masks" in outcome.out
    assert "and 4 distances before and after sites" in outcome.out
    content = json.loads((folder / "eval" / "test.json").read_text())
    assert content["limit"] == 20
    assert content["efficiency"]["inference_images_per_second"] > 0
    assert {"distance/pool1/in", "distance/pool2/out", "cam_equivariance"} <= set(content["figures"])
    page = (folder / "eval" / "report.html").read_text()
    assert "lenet5 with pooling blur on digits, test split" in page
    assert page.count("<img") == 5
    tags = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload().Tags()
    assert {f"eval-test/{name}" for name in ("grid", "diagonal", "distance", "sites", "cams")} <= set(tags["images"])
    assert {"eval-test/consistency", "eval-test/cam_equivariance"} <= set(tags["scalars"])


def test_a_network_is_evaluated_at_another_size_than_it_was_trained_at(run, train):
    folder = train("head=gap")
    brief = ("protocols=[crop]", *QUICK)
    assert run("eval", f"run={folder}", *brief).code == 0
    for size in (32, 48):
        outcome = run("eval", f"run={folder}", f"size={size}", *brief)
        assert outcome.code == 0, outcome.err
    plain, same, larger = (
        json.loads((folder / "eval" / f"{stem}.json").read_text()) for stem in ("test", "32px-test", "48px-test")
    )
    assert same["figures"] == plain["figures"]
    assert larger["size"] == 48
    assert larger["figures"]["loss"]["value"] != plain["figures"]["loss"]["value"]
    assert larger["efficiency"]["flops"] > 2 * plain["efficiency"]["flops"]
    assert "size must be an integer >= 1, got 0" in run("eval", f"run={folder}", "size=0", *brief).err


def test_what_fails_is_one_line_and_the_rest_is_written(run, train):
    folder = train()
    outcome = run("eval", f"run={folder}", "protocols=[crop,zero]", "evaluation.zero.m=32", *QUICK)
    assert outcome.code == 1
    (line,) = outcome.err.strip().splitlines()
    assert "not measured: zero: protocol 'zero': shifts of up to 32 pixels leave nothing of 32x32 images" in line
    assert "consistency" in json.loads((folder / "eval" / "test.json").read_text())["figures"]
    for wrong, words in (
        ("evaluation.cam.method=gradcam", "did you mean 'grad_cam'"),
        ("evaluation.cam.layer=pool3", "did you mean 'pool"),
        ("evaluation.cam.method=cam", "needs a global average pool and one linear layer"),
    ):
        outcome = run("eval", f"run={folder}", "protocols=[]", "cam=true", wrong, *QUICK)
        assert outcome.code == 1
        (line,) = outcome.err.strip().splitlines()
        assert words in line


def test_the_run_of_another_version_is_named_as_such(run, train):
    folder = train()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for change in (
        {"data": config["data"] | {"colour": "blue"}},
        {"model": {"name": "lenet5", "size": 3}},
        {"head": {}},
    ):
        (folder / "config.yaml").write_text(yaml.safe_dump(config | change))
        outcome = run("eval", f"run={folder}")
        assert outcome.code == 1
        (line,) = outcome.err.strip().splitlines()
        assert "does not fit this version of poolzoo" in line


def test_cam_lays_maps_over_a_users_pictures(run, train, pictures, tmp_path):
    folder = train()
    outcome = run("cam", f"run={folder}", f"images={pictures}")
    assert outcome.code == 0, outcome.err
    assert "skipped" in outcome.out
    assert "broken.png" in outcome.out
    assert "3 overlays" in outcome.out
    assert "1 skipped" in outcome.out
    written = {file.name for file in (folder / "cam").iterdir()}
    assert written == {"a.png", "a-2.png", "c.png", "contact_sheet.png"}  # two pictures are called a
    with Image.open(folder / "cam" / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 100
    again = run(
        "cam", f"run={folder}", f"images=[{pictures / 'a.png'}]".replace(", ", "\\, "), "label=7", "method=hires_cam"
    )
    assert again.code == 0, again.err
    assert (folder / "cam-2" / "a.png").exists()
    assert {file.name for file in (folder / "cam").iterdir()} == written
    elsewhere = tmp_path / "else where"
    assert (
        run("cam", f"checkpoint={folder}/checkpoints/best.ckpt", f"images={pictures}/c.png", f"output={elsewhere}").code
        == 0
    )
    assert (elsewhere / "c.png").exists()


def test_the_class_and_probability_of_an_overlay_are_the_networks(train, pictures):
    from datamodules.decode import read_image
    from evaluation.run import predictor
    from training.overlays import overlay_pictures
    from training.testing import load_trained

    folder = train()
    settings = {"run": str(folder), "checkpoint": None, "images": str(pictures), "output": None, "accelerator": "cpu"}
    found = overlay_pictures(settings | {"method": "grad_cam", "layer": None, "label": None})
    trained = load_trained(str(folder), None, "cpu")
    for overlay in found.overlays:
        grey = np.asarray(Image.fromarray(read_image(overlay.picture, 32).transpose(1, 2, 0)).convert("L"))
        with torch.no_grad():
            chances = predictor(trained.net, trained.data)(torch.tensor(grey)[None, None]).softmax(1)[0]
        assert overlay.label == trained.data.class_names[int(chances.argmax())]
        assert overlay.chance == pytest.approx(chances.max().item(), abs=0.02)


def test_cam_of_a_segmentation_network(run, train, pictures):
    folder = train("data=digit_scenes", "model=unet", "model.depth=2", "model.width=4", "data.scenes=60",
                   "evaluation.protocols=null")  # fmt: skip
    outcome = run("cam", f"run={folder}", f"images={pictures}")
    assert outcome.code == 0, outcome.err
    assert (folder / "cam" / "contact_sheet.png").exists()
    outcome = run("eval", f"run={folder}", "cam=true", "layers=true", "evaluation.zero.repeats=1", *QUICK)
    assert outcome.code == 0, outcome.err
    assert (folder / "eval" / "test" / "pairs.png").exists()


def test_wrong_input_to_cam_is_one_line(run, train, pictures, tmp_path):
    folder, empty = train("trainer.max_epochs=1"), tmp_path / "empty"
    empty.mkdir()
    for arguments, words in (
        ((), "images must be given"),
        (("images=/no/such/folder",), "there is no file or folder '/no/such/folder'"),
        ((f"images={empty}",), "holds no pictures"),
        ((f"images={pictures}/broken.png",), "none of the 1 pictures can be read"),
        ((f"images={pictures}", "label=seven"), "there is no class 'seven'"),
        ((f"images={pictures}", "method=gradcam"), "did you mean 'grad_cam'"),
        ((f"images={pictures}", "imagse=x"), "did you mean 'images'"),
    ):
        outcome = run("cam", f"run={folder}", *arguments)
        assert outcome.code == 1
        (line,) = outcome.err.strip().splitlines()
        assert words in line
        assert not (folder / "cam").exists()
