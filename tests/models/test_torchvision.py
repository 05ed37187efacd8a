"""The families that torchvision has too: the same keys and, from the same weights, the same outputs."""

import pytest
import torch
import torchvision
from torch import nn

import models
from tests.models.torchvision_twins import PUBLISHED, both, theirs_of

NAMES = [name for name in models.names() if models.info(name).torchvision]


def test_every_family_that_torchvision_has_is_compared():
    missing = set(torchvision.models.list_models()) & set(models.names()) - set(NAMES)
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_outputs_are_torchvisions(name):
    """In both modes; dropout and stochastic depth draw alike from one seed, so they stay on."""
    ours, theirs = both(name, num_classes=7)
    x = torch.rand(2, 3, 64, 64)
    for training in (True, False):
        logits = []
        for net in (ours.train(training), theirs.train(training)):
            torch.manual_seed(1)
            with torch.no_grad():
                y = net(x)
            logits.append(y["out"] if isinstance(y, dict) else y)
        assert logits[0].std() > 1e-3
        error = (logits[0] - logits[1]).abs().max() / logits[1].abs().max().clamp(min=1)
        assert error < 1e-5


@pytest.mark.parametrize("name, auxiliary", [("googlenet", "aux1."), ("deeplabv3", "aux_classifier.")])
def test_weights_with_auxiliary_classifiers_load_strictly(name, auxiliary):
    with torch.device("meta"):
        ours, theirs = models.create(name, num_classes=7), theirs_of(name, num_classes=7, auxiliary=True)
    state = theirs.state_dict()
    assert any(key.startswith(auxiliary) for key in state)
    ours.load_state_dict(state, strict=True, assign=True)


def test_densenets_published_files_load_strictly():
    """Their keys are of an earlier torch, which allowed a dot in a module's name: `denselayer1.norm.1.weight`."""
    ours, theirs = both("densenet121")
    state = {}
    for key, value in theirs.state_dict().items():
        parts = key.split(".")
        if any(part.startswith("denselayer") for part in parts):
            parts[3] = f"{parts[3][:-1]}.{parts[3][-1]}"
        state[".".join(parts)] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    ours.load_state_dict(state, strict=True)
    nn.ModuleDict({"net": ours}).load_state_dict({f"net.{key}": value for key, value in state.items()}, strict=True)


@pytest.mark.parametrize("name, options", PUBLISHED)
def test_published_weights_are_those_of_the_same_architecture(name, options):
    """By their number of parameters, which torchvision states."""
    title = models.info(name).torchvision.format(**options)
    weights = torchvision.models.get_model_weights(title).DEFAULT
    with torch.device("meta"):
        ours = models.create(name, num_classes=len(weights.meta["categories"]), **options)
        auxiliary = theirs_of(name, num_classes=len(weights.meta["categories"]), auxiliary=True, **options)
    left_out = sum(p.numel() for key, p in auxiliary.named_parameters() if key.startswith("aux"))
    # Of GoogLeNet's torchvision counts the parameters without the auxiliary classifiers, of DeepLab's with them.
    counted = sum(p.numel() for p in ours.parameters())
    assert weights.meta["num_params"] in (counted, counted + left_out)
