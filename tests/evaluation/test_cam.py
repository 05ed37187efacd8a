import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.nn import functional as F

import models
from evaluation.cam import METHODS, ClassMaps, last_spatial_map, scores_of, upsample


def network(name: str = "resnet20", **options) -> nn.Module:
    torch.manual_seed(0)
    return models.create(name, **({"num_classes": 7, "in_channels": 3, "image_size": 32} | options)).eval()


IMAGES, CLASSES = torch.rand(4, 3, 32, 32), torch.tensor([3, 0, 6, 3])


def map_and_gradient(net: nn.Module, layer: str) -> tuple[Tensor, Tensor]:
    kept = []
    handle = net.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.append(output))
    logits = net(IMAGES)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[torch.arange(4), CLASSES].sum(), kept[0])
    return kept[0].detach(), gradient


@pytest.mark.parametrize(
    "name, pooling", [("resnet20", None), ("resnet20", "aps"), ("resnet18", "blur"), ("lenet5", "max")]
)
def test_grad_cam_is_captums(name, pooling):
    net = network(name, pooling=pooling)
    maps = ClassMaps(net, "grad_cam", IMAGES[:1])
    expected = LayerGradCam(net, maps.target).attribute(IMAGES, CLASSES, relu_attributions=True)
    torch.testing.assert_close(maps(IMAGES, CLASSES), expected[:, 0].detach(), rtol=1e-4, atol=1e-6)
    assert maps(IMAGES, CLASSES).max() > 0


def test_zhous_cam_is_the_weighted_sum_and_its_mean_the_logit_less_the_bias():
    net = network()
    maps = ClassMaps(net, "cam", IMAGES[:1])(IMAGES, CLASSES)
    last, _ = map_and_gradient(net, "layer3")
    torch.testing.assert_close(maps, (net.fc.weight[CLASSES][:, :, None, None] * last).sum(1).detach())
    logits = net(IMAGES)[torch.arange(4), CLASSES]
    torch.testing.assert_close(maps.mean((1, 2)), (logits - net.fc.bias[CLASSES]).detach(), rtol=1e-4, atol=1e-5)


def test_with_a_global_average_grad_cam_and_hires_cam_are_zhous_cam_by_its_size():
    """The logit's gradient by the map is the weight over h w at every position (Draelos & Carin 2020, section 3)."""
    net = network()
    zhou, grad, hires = (
        ClassMaps(net, method, IMAGES[:1])(IMAGES, CLASSES) for method in ("cam", "grad_cam", "hires_cam")
    )
    positions = zhou.shape[1] * zhou.shape[2]
    torch.testing.assert_close(hires, zhou / positions)
    torch.testing.assert_close(grad, zhou.relu() / positions)


def test_layer_cam_and_grad_cam_pp_follow_their_papers():
    net = network("lenet5", activation="relu")
    maps, gradient = (x.double() for x in map_and_gradient(net, "pool2"))
    layer_cam = (gradient.relu() * maps).sum(1).relu()
    torch.testing.assert_close(ClassMaps(net, "layer_cam", IMAGES[:1])(IMAGES, CLASSES).double(), layer_cam)
    weights = torch.zeros(maps.shape[:2], dtype=torch.float64)
    for n in range(maps.shape[0]):
        for c in range(maps.shape[1]):
            for g in gradient[n, c].flatten():
                below = 2 * g**2 + maps[n, c].sum() * g**3
                weights[n, c] += g**2 / (below if below != 0 else 1) * g.relu()
    expected = (weights[:, :, None, None] * maps).sum(1).relu()
    found = ClassMaps(net, "grad_cam_pp", IMAGES[:1])(IMAGES, CLASSES).double()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_eigen_cam_is_numpys_singular_vector():
    import numpy as np

    net = network("lenet5", activation="relu")
    maps, _ = map_and_gradient(net, "pool2")
    found = ClassMaps(net, "eigen_cam", IMAGES[:1])(IMAGES, CLASSES)
    for cam, one in zip(found, maps, strict=True):
        flat = one.flatten(1).T.double().numpy()  # positions x channels
        expected = (flat @ np.linalg.svd(flat)[2][0]).reshape(cam.shape)
        expected *= np.sign(expected.sum())
        np.testing.assert_allclose(cam.numpy(), expected, atol=1e-4)


def test_score_cam_weighs_channels_by_what_they_alone_let_through():
    net = network("lenet5", activation="relu")
    maps, _ = map_and_gradient(net, "pool2")
    found = ClassMaps(net, "score_cam", IMAGES[:1])(IMAGES, CLASSES)
    with torch.no_grad():
        least, most = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        masks = F.interpolate((maps - least) / (most - least + 1e-8), (32, 32), mode="bilinear")
        for n in range(4):
            scores = net(IMAGES[n] * masks[n][:, None])[:, CLASSES[n]]
            expected = (scores.softmax(0)[:, None, None] * maps[n]).sum(0).relu()
            torch.testing.assert_close(found[n], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_finite_maps_one_by_one_as_in_a_batch_and_leaves_the_network_alone(method):
    net = network("resnet20", pooling="stochastic")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    maps = ClassMaps(net, method, IMAGES[:1])
    whole = maps(IMAGES, CLASSES)
    assert whole.shape == (4, 8, 8)
    assert whole.isfinite().all()
    for n in range(4):
        torch.testing.assert_close(maps(IMAGES[n : n + 1], CLASSES[n : n + 1])[0], whole[n], rtol=1e-3, atol=1e-5)
    assert not net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("method", [method for method in METHODS if method != "cam"])
def test_a_segmentation_networks_maps_are_of_the_region(method):
    net = network("unet", depth=2, width=4)
    maps = ClassMaps(net, method, IMAGES[:1])
    assert maps.layer == "decoder.1"
    regions = torch.zeros(4, 32, 32, dtype=torch.bool)
    regions[:, 4:12, 4:12] = True
    found = maps(IMAGES, CLASSES, regions)
    assert found.shape == (4, 32, 32)
    assert found.isfinite().all()
    if method == "hires_cam":  # after the decoder comes one 1x1 convolution: what is outside has no gradient
        assert (found[~regions] == 0).all()
        weight, last = net.classifier.weight[CLASSES], net.decoder[1]
        kept = []
        last.register_forward_hook(lambda module, inputs, output: kept.append(output))
        net(IMAGES)
        expected = (weight * kept[0]).sum(1) * regions
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)


def test_scores_are_the_logits_of_the_classes():
    logits = torch.randn(4, 7)
    assert torch.equal(scores_of(logits, CLASSES), logits.gather(1, CLASSES[:, None])[:, 0])


@pytest.mark.parametrize("name, layer", [("lenet5", "pool2"), ("resnet20", "layer3"), ("resnet18", "layer4")])
def test_the_last_spatial_map_is_found(name, layer):
    assert last_spatial_map(network(name), IMAGES[:1]) == layer


def test_a_named_layer_and_an_inplace_activation_behind_it():
    """A convolution followed by ReLU in place: map and gradient are those behind the ReLU, not a mixture."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3)

    def net_with(inplace: bool) -> nn.Module:
        return nn.Sequential(convolution, nn.ReLU(inplace), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.LazyLinear(7)).eval()

    inplace, apart = net_with(True), net_with(False)
    apart(IMAGES), inplace(IMAGES)
    inplace.load_state_dict(apart.state_dict())
    for method in METHODS[1:]:
        maps = ClassMaps(inplace, method, IMAGES[:1], "0")(IMAGES, CLASSES)
        expected = ClassMaps(apart, method, IMAGES[:1], "1")(IMAGES, CLASSES)
        torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)


def test_upsampling_round_a_corner_moves_with_the_map():
    maps = torch.rand(2, 4, 4)
    wide = upsample(maps, (16, 16), wrap=True)
    torch.testing.assert_close(upsample(maps.roll((1, -1), (1, 2)), (16, 16), wrap=True), wide.roll((4, -4), (1, 2)))
    torch.testing.assert_close(wide[:, 2:14, 2:14], upsample(maps, (16, 16))[:, 2:14, 2:14])


@pytest.mark.parametrize(
    "net, method, layer, message",
    [
        (lambda: network(), "gradcam", None, "did you mean 'grad_cam'"),
        (lambda: network(), "grad_cam", "layer33", "did you mean 'layer3"),
        (lambda: network("lenet5"), "cam", None, "needs a global average pool and one linear layer"),
        (lambda: network("resnet20", head="gmp"), "cam", None, "needs a global average pool"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 7)), "grad_cam", None, "no spatial map"),
    ],
)
def test_what_has_no_cam(net, method, layer, message):
    with pytest.raises(ValueError, match=message):
        ClassMaps(net(), method, IMAGES[:1], layer)
