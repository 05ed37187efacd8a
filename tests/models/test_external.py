"""Networks of timm and torchvision by name: their weights, their classes, and the commands on them."""

import logging

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import models
from models import external

SMALL = {"num_classes": 4, "image_size": 64}


@pytest.mark.parametrize(
    "library, name, options",
    [
        ("timm", "test_resnet", {"in_channels": 2}),
        ("timm", "test_efficientnet.r160_in1k", {}),
        ("timm", "test_vit", {}),
        ("torchvision", "mobilenet_v3_small", {}),
        ("torchvision", "googlenet", {}),
    ],
)
def test_a_network_takes_the_data_s_classes_channels_and_size(library, name, options):
    net = external.create(library, name, pooling="blur", sites="all", **SMALL, **options)
    assert {site.operator for site in models.sites(net)} == {"blur"}
    assert net.train()(torch.rand(2, options.get("in_channels", 3), 64, 64)).shape == (2, 4)


@pytest.mark.parametrize("head, pool", [("cls", "token"), ("gap", "avg"), ("map", "map"), ("avgmax", "avgmax")])
def test_heads_of_a_vision_transformer_are_timm_s(head, pool):
    torch.manual_seed(0)
    ours = external.create("timm", "test_vit", head=head, **SMALL).eval()
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit", num_classes=4, img_size=64, global_pool=pool).eval()
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(ours(x), theirs(x))


@pytest.fixture
def state():
    torch.manual_seed(5)
    return timm.create_model("test_resnet", num_classes=1000).state_dict()


@pytest.mark.parametrize("rename", [lambda key: key, lambda key: f"module._{key}"], ids=["by key", "by order"])
def test_a_file_of_weights(rename, state, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    torch.save({rename(key): value for key, value in state.items()}, tmp_path / "net.pth")
    net = external.create("timm", "test_resnet", num_classes=1000, pooling="aps", weights=tmp_path / "net.pth")
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert ("taken by order" in caplog.text) == (rename("x") != "x")
    caplog.clear()
    few = external.create("timm", "test_resnet", weights=tmp_path / "net.pth", **SMALL)
    assert torch.equal(few.conv1[0].weight, state["conv1.0.weight"])
    assert caplog.messages[-1].endswith("but for fc.weight, fc.bias")


def test_published_weights_are_asked_of_the_library(monkeypatch):
    asked = []
    monkeypatch.setattr(external.weight_files, "published", lambda name: {"x": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"torchvision's weights does not fit"):
        external.create("torchvision", "squeezenet1_1", weights="default", **SMALL)
    made = timm.create_model

    def create_model(name, pretrained, **arguments):
        asked.append((name, pretrained))
        return made(name, **arguments)

    monkeypatch.setattr(timm, "create_model", create_model)
    external.create("timm", "test_resnet", weights="default", **SMALL)
    external.create("timm", "test_resnet", **SMALL)
    assert asked == [("test_resnet", True), ("test_resnet", False)]


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        (("keras", "vgg16", {}), ValueError, "library must be one of timm, torchvision"),
        (("timm", "resnet18x", {}), ValueError, "timm has no classifier 'resnet18x'; did you mean"),
        (("torchvision", "resnet2", {}), ValueError, "torchvision has no classifier 'resnet2'; did you mean"),
        (("torchvision", "resnet18", {"in_channels": 1}), ValueError, "takes images of 3 channels, got 1; model=timm"),
        (("torchvision", "resnet18", {"head": "gap"}), ValueError, "has its own head and takes no other"),
        (("timm", "test_vit", {"head": "spp"}), ValueError, "takes no head 'spp'"),
        (("timm", "test_vit", {"head": {"name": "gap", "grid": 3}}), TypeError, "has no options, got grid"),
        (("timm", "test_resnet", {"head": "cls"}), ValueError, "timm's 'test_resnet' cannot be built with"),
        (("timm", "test_vit", {"pooling": "blur"}), ValueError, "patch embeddings"),
        (("timm", "test_vit", {"weights": "none.pth"}), FileNotFoundError, "'default' for the published weights"),
    ],
)
def test_mistakes_are_named(arguments, error, words):
    library, name, options = arguments
    with pytest.raises(error, match=words):
        external.create(library, name, **SMALL, **options)


def test_imagenet_s_classes_by_name_and_identifier():
    assert external.imagenet_classes(["tiger shark", "goldfish"]) == [3, 1]
    assert external.imagenet_classes(["Egyptian_cat", "n01440764", "espresso"]) == [285, 0, 967]
    assert external.imagenet_classes(["goldfish", "my cat"]) is None


def test_selected_logits_are_those_of_the_classes():
    net = external.Selected(torch.nn.Linear(3, 5), [4, 0])
    x = torch.rand(2, 3)
    assert torch.equal(net(x), net.net(x)[:, [4, 0]])


@pytest.fixture
def pictures(tmp_path):
    """Four pictures of each of two classes, in train/ and test/."""
    root = tmp_path / "pictures"
    draw = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("goldfish", "espresso"):
            (root / part / name).mkdir(parents=True)
            for i in range(4):
                pixels = draw.integers(0, 255, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


def test_eval_takes_the_data_s_classes_of_imagenet_s(run, pictures, state, tmp_path):
    torch.save(state, tmp_path / "net.pth")
    data = ("data=image_folder", f"data.root={pictures}", "data.size=40", f"runs={tmp_path}", "protocols=[circular]")
    model = ("model=timm", "model.name=test_resnet", f"model.weights={tmp_path / 'net.pth'}")
    for pooling in ("native", "aps"):
        outcome = run("eval", *model, *data, f"pooling={pooling}", "evaluation.circular.m=2")
        assert outcome.code == 0, outcome.err
    written = sorted(tmp_path.glob("image_folder-pictures/timm-test_resnet-weights_net/*/eval/test.csv"))
    assert [path.parent.parent.name for path in written] == ["aps", "native"]
    assert len(written[0].read_text().splitlines()) == 9
    (pictures / "train" / "goldfish").rename(pictures / "train" / "my cat")
    (pictures / "test" / "goldfish").rename(pictures / "test" / "my cat")
    outcome = run("eval", *model, *data)
    assert outcome.code == 1
    assert "tell 1000 classes apart, data 'image_folder' has 2 (espresso, my cat, ...)" in outcome.err


def test_a_run_with_a_library_s_network(run, train, pictures, tmp_path):
    """Training on another number of channels, evaluation of the run, and where it looks."""
    folder = train("model=timm", "model.name=test_resnet", "pooling=blur", "data=digits")
    assert folder.parent.parent.name == "timm-test_resnet"
    outcome = run("eval", f"run={folder}", "protocols=[circular]", "layers=true", "limit=20")
    assert outcome.code == 0, outcome.err
    outcome = run("cam", f"run={folder}", f"images={pictures / 'test' / 'goldfish'}", f"output={tmp_path / 'cam'}")
    assert outcome.code == 0, outcome.err
    assert len(list((tmp_path / "cam").glob("*.png"))) == 5


def test_a_name_must_be_given(run):
    outcome = run("train", "model=timm")
    assert outcome.code == 1
    assert "model.name must be given: model.name=VALUE" in outcome.err
    outcome = run("train", "model=torchvision", "model.name=resnet18", "data=digit_scenes")
    assert "'resnet18' is for classification, data 'digit_scenes' for segmentation" in outcome.err
