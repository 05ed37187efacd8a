"""Weights: from files and from torchvision, what is left out, what is refused."""

import json
import logging

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models._api import WeightsEnum

import models
import pooling
from tests.models.torchvision_twins import random_state, theirs_of
from tests.training.test_checkpoints import Trap

FREE = [
    name
    for kind in ("reducer", "downsampler")
    for name in pooling.names(kind)
    if not list(pooling.create(name, channels=4, kernel_size=2).parameters())
]


@pytest.fixture
def state():
    """The state_dict of torchvision's resnet18 for 10 classes."""
    torch.manual_seed(3)
    with torch.device("meta"):
        net = torchvision.models.resnet18(num_classes=10)
    return random_state(net.state_dict())


@pytest.fixture
def file(state, tmp_path):
    torch.save(state, tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


def same(net, state, but=()):
    own = net.state_dict()
    return all(torch.equal(own[key], value) for key, value in state.items() if key not in but)


@pytest.mark.parametrize("form", ["torch", "torch before 1.6", "safetensors", "a checkpoint of a run", "half"])
def test_files(form, state, tmp_path):
    file = tmp_path / ("resnet18.safetensors" if form == "safetensors" else "resnet18.pth")
    if form == "safetensors":
        save_file(state, file)
    elif form == "a checkpoint of a run":
        torch.save({"state_dict": {f"net.{key}": value for key, value in state.items()}, "config": {}}, file)
    else:
        state = {key: value.half().to(value.dtype) for key, value in state.items()} if form == "half" else state
        saved = {key: value.half() if form == "half" else value for key, value in state.items()}
        torch.save(saved, file, _use_new_zipfile_serialization=form != "torch before 1.6")
    assert same(models.create("resnet18", weights=file), state)
    assert same(models.create("resnet18", weights=str(file)), state)


@pytest.mark.parametrize(
    "name, options, asked",
    [
        ("resnet18", {}, "ResNet18_Weights"),
        ("vgg11_bn", {}, "VGG11_BN_Weights"),
        ("deeplabv3", {"backbone": "resnet101"}, "DeepLabV3_ResNet101_Weights"),
    ],
)
def test_torchvisions_published_weights_are_asked_for_by_name(name, options, asked, monkeypatch):
    with torch.device("meta"):
        there_is = models.create(name, num_classes=1000, **options).state_dict()
    asked_for = []

    def get_state_dict(self, *args, **kwargs):
        asked_for.append(self)
        return random_state(there_is)

    monkeypatch.setattr(WeightsEnum, "get_state_dict", get_state_dict)
    net = models.create(name, num_classes=1000, weights="torchvision", **options)
    assert type(asked_for[0]).__name__ == asked
    assert asked_for[0] is type(asked_for[0]).DEFAULT
    assert next(net.parameters()).abs().max() > 0


def test_published_auxiliary_classifiers_are_passed_over(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with torch.device("meta"):
        theirs = theirs_of("googlenet", num_classes=10, auxiliary=True).state_dict()
    state = random_state(theirs)
    torch.save(state, tmp_path / "googlenet.pth")
    net = models.create("googlenet", weights=tmp_path / "googlenet.pth")
    assert same(net, {key: value for key, value in state.items() if not key.startswith("aux")})
    assert "but for" not in caplog.text


def test_a_download_that_fails_says_what_to_do(monkeypatch):
    def get_state_dict(self, *args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", get_state_dict)
    with pytest.raises(OSError, match=r"no route to host.*weights=FILE"):
        models.create("resnet18", weights="torchvision")
    with pytest.raises(ValueError, match=r"'lenet5': torchvision publishes no weights of it .*resnet18"):
        models.create("lenet5", weights="torchvision")


@pytest.mark.parametrize(
    "arguments, left_out",
    [
        ({"head": "gap"}, []),
        ({"num_classes": 37}, ["fc.weight", "fc.bias"]),
        ({"num_classes": 37, "head": "gap"}, ["fc.weight", "fc.bias"]),
        ({"head": "flatten"}, ["fc.weight"]),
    ],
)
def test_another_classifier_or_head_is_left_out_and_said(arguments, left_out, file, state, caplog):
    caplog.set_level(logging.INFO)
    net = models.create("resnet18", weights=file, **arguments)
    assert same(net, state, but=left_out)
    assert caplog.messages[-1].endswith(f"but for {', '.join(left_out)}" if left_out else "resnet18.pth'")


def test_a_head_that_changes_the_classifiers_layers(tmp_path, caplog):
    """LeNet's fully connected layers give way to one linear layer: its convolutions still load."""
    net = models.create("lenet5")
    torch.save(net.state_dict(), tmp_path / "lenet.pth")
    pooled = models.create("lenet5", head="gap", weights=tmp_path / "lenet.pth")
    assert torch.equal(pooled.conv2.weight, net.conv2.weight)
    assert "but for classifier.weight, classifier.bias, classifier.0.weight" in caplog.messages[-1]
    other = models.create("lenet5", num_classes=7, weights=tmp_path / "lenet.pth")
    assert torch.equal(other.classifier[2].weight, net.classifier[2].weight)
    assert caplog.messages[-1].endswith("but for classifier.4.weight, classifier.4.bias")


@pytest.mark.parametrize("name", FREE)
def test_operators_without_parameters_take_the_same_weights(name, file, state, caplog):
    caplog.set_level(logging.INFO)
    net = models.create("resnet18", pooling=name, sites="all", weights=file)
    assert net.state_dict().keys() == state.keys()
    assert same(net, state)
    assert "but for" not in caplog.text


def test_operators_with_parameters_keep_their_own(file, state, caplog):
    net = models.create("resnet18", pooling={"name": "lp", "learn_p": "channel"}, sites="all", weights=file)
    assert same(net, state)
    assert "but for down1.theta, maxpool.theta" in caplog.text


def test_weights_that_do_not_fit_name_the_first_keys(file, state, tmp_path):
    with pytest.raises(ValueError, match=r"conv1.weight is \(64, 3, 7, 7\), not \(64, 1, 7, 7\)$"):
        models.create("resnet18", in_channels=1, weights=file)
    with pytest.raises(
        ValueError, match=r"'resnet34': weights '.*' does not fit .*missing layer1.2.conv1.weight.*more"
    ):
        models.create("resnet34", weights=file)
    torch.save(state | {"conv9.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match=r"unexpected conv9.weight$"):
        models.create("resnet18", weights=tmp_path / "more.pth")
    torch.save({key: value for key, value in state.items() if key != "fc.bias"}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"missing fc.bias$"):
        models.create("resnet18", weights=tmp_path / "part.pth")


def test_a_sketch_of_a_network_is_told_whether_weights_fit(file, caplog):
    """`python -m models resnet18 weights=FILE num_classes=37` builds without memory for weights."""
    with torch.device("meta"):
        models.create("resnet18", weights=file, num_classes=37, head="gap")
        assert caplog.messages[-1].endswith("but for fc.weight, fc.bias")
        with pytest.raises(ValueError, match="does not fit"):
            models.create("resnet34", weights=file)


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file 'torchvison'.*'torchvision'"):
        models.create("resnet18", weights="torchvison")
    proof = tmp_path / "executed"
    torch.save({"conv1.weight": Trap(proof)}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match=r"refused .*nothing was run"):
        models.create("resnet18", weights=tmp_path / "trap.pth")
    assert not proof.exists()
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    for name in ("list.pth", "epoch.pth"):
        with pytest.raises(ValueError, match="holds no state_dict"):
            models.create("resnet18", weights=tmp_path / name)
    for name, content in (("text.pth", b"hello"), ("empty.pth", b""), ("text.safetensors", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            models.create("resnet18", weights=tmp_path / name)


def test_a_run_starts_from_weights_and_needs_them_no_more(tmp_path, run, train):
    """Training, resuming and evaluating; the file is gone once training has begun."""
    file = tmp_path / "a b=c.pth"
    net = models.create("lenet5", in_channels=1, image_size=12)
    torch.save(net.state_dict(), file)
    folder = train(f"model.weights={file}", "data=digits", "optimizer.lr=1e-12", "scheduler=constant")
    assert "a.b.c" in folder.parent.parent.name
    trained = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.allclose(trained[f"net.{key}"], value, atol=1e-6) for key, value in net.state_dict().items())
    figures = run("eval", f"model.weights={file}", "model=lenet5", "data=digits", "data.limit=200", f"runs={tmp_path}")
    assert figures.code == 0, figures.err
    (written,) = tmp_path.glob("digits/lenet5-*/native/eval/test.json")
    assert json.loads(written.read_text())["weights"] == str(file)
    file.unlink()
    assert run("eval", f"run={folder}").code == 0
    resumed = run("train", f"resume={folder}", "trainer.max_epochs=3")
    assert resumed.code == 0, resumed.err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["model=lenet5"], "needs its weights and data"),
        (["model=lenet5", "model.weights=none.pth", "data=digits"], "there is no file 'none.pth'"),
        (["model=lenet5", "run=x"], "one of them"),
        (["run=x", "pooling=blur", "head=gap"], "pooling, head cannot be chosen here"),
    ],
)
def test_eval_says_what_it_lacks(arguments, words, run):
    outcome = run("eval", *arguments)
    assert outcome.code == 1
    assert words in outcome.err
