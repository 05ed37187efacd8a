"""Names, options and their errors; what an import costs."""

import subprocess
import sys

import pytest
import torch

import datamodules
from datamodules import Dataset, Split, registry
from datamodules.registry import LOADING_OPTIONS


@pytest.fixture
def sets(monkeypatch):
    """A registry that forgets what a test adds."""
    monkeypatch.setattr(registry, "_sets", dict(registry._sets))


def tiny(N=20):
    images = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1).expand(N, 1, 4, 4).contiguous()
    return Split(images, torch.arange(N) % 2)


def test_all_data_sets_of_the_catalogue_are_registered():
    assert datamodules.names() == [
        "cifar10",
        "cifar100",
        "digit_scenes",
        "digits",
        "fashion_mnist",
        "image_folder",
        "mnist",
    ]


@pytest.mark.parametrize("name", datamodules.names())
def test_a_data_set_tells_what_it_is_and_its_options(name):
    entry = datamodules.info(name)
    assert entry.name == name
    assert len(entry.summary) > 20
    assert list(entry.options) == [*entry.own_options, *LOADING_OPTIONS]
    for option in entry.options.values():
        if option.default is not option.REQUIRED:
            registry.check_options(name, {option.name: option.default}, {option.name: option})


def test_a_set_has_its_own_defaults():
    assert datamodules.info("digits").options["random_crop"].default == 2
    assert datamodules.info("digit_scenes").options["random_crop"].default == 0


def test_importing_costs_no_heavy_imports():
    heavy = "pytorch_lightning", "lightning", "torchvision", "sklearn", "PIL", "scipy"
    code = f"import datamodules, sys; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("ask", [datamodules.info, datamodules.load, datamodules.create])
def test_an_unknown_name_is_answered_with_the_nearest(ask):
    message = r"data set 'mnits' is not known; did you mean 'mnist'.*\? \(python train.py --help lists all\)"
    with pytest.raises(ValueError, match=message):
        ask("mnits")


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("digits", {"batchsize": 3}, TypeError, "no option 'batchsize'; did you mean 'batch_size'"),
        ("digits", {"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, got 0"),
        ("digits", {"val_fraction": 0.9}, ValueError, "val_fraction must be a number > 0 and <= 0.5, got 0.9"),
        ("digits", {"random_flip": "yes"}, TypeError, "random_flip must be true or false, got 'yes'"),
        ("digit_scenes", {"scene": 10}, TypeError, "no option 'scene'; did you mean 'scenes'"),
        ("digit_scenes", {"task": "depth"}, ValueError, "'classification', 'segmentation' or 'detection', got 'depth'"),
        ("image_folder", {}, TypeError, "root must be given"),
    ],
)
def test_a_wrong_option_is_answered_when_the_module_is_made(name, options, kind, message):
    with pytest.raises(kind, match=message):
        datamodules.create(name, **options)


def test_load_takes_a_sets_own_options_only():
    with pytest.raises(TypeError, match="data set 'digits': no option 'batch_size'"):
        datamodules.load("digits", batch_size=3)


def test_a_function_is_all_that_a_new_data_set_needs(sets):
    @datamodules.register("tiny", batch_size=7)
    def make(*, classes: int = 2) -> Dataset:
        """Squares of even and odd grey."""
        return Dataset(tiny(), tiny(4), tuple(map(str, range(classes))))

    assert datamodules.info("tiny").summary == "Squares of even and odd grey."
    dataset = datamodules.load("tiny", classes=3)
    assert (dataset.name, dataset.task, dataset.class_names) == ("tiny", "classification", ("0", "1", "2"))
    assert dataset.mean == pytest.approx((9.5 / 255,))
    assert dataset.std == pytest.approx((33.25**0.5 / 255,))
    module = datamodules.create("tiny", classes=3)
    assert (module.num_classes, module.loading.batch_size) == (3, 7)
    assert module.sizes == {"train": 18, "val": 2, "test": 4}


def test_what_cannot_be_registered(sets):
    with pytest.raises(ValueError, match="'digits' is registered already"):
        datamodules.register("digits")
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got 0"):
        datamodules.register("other", batch_size=0)
    with pytest.raises(TypeError, match="no option 'crop'"):
        datamodules.register("other", crop=2)
    with pytest.raises(ValueError, match="every data set has the option seed already"):

        @datamodules.register("other")
        def make(*, seed: int = 0) -> Dataset: ...


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((torch.zeros(2, 1, 4, 4), torch.zeros(2)), "images must be uint8"),
        (
            (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3)),
            r"targets must be \(2,\), \(2, 4, 4\) or \(2, K, 5\)",
        ),
        (
            (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2), None, torch.zeros(1, 1, 4)),
            "boxes must have one entry for each of the 2 images, got 1",
        ),
    ],
)
def test_tensors_that_are_no_split_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Split(*parts)
