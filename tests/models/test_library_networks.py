"""One network of each family of timm and torchvision, the smallest there is, with operators at all its sites."""

import pytest
import timm
import torch
import torchvision
from torch import nn

import models

TIMM = """
resnet10t test_resnet resnext26ts ecaresnet26t legacy_seresnet18 skresnet18 resnest14d gcresnext26ts
regnetx_002 regnety_002 densenet121 dla46x_c hrnet_w18_small selecsls42 ese_vovnet19b_slim hgnet_tiny
resnetv2_18d cspresnet50 cs3darknet_s darknet17 repvgg_a0 legacy_xception:96 inception_v3:96
test_efficientnet tf_efficientnet_lite0 mobilenetv3_small_050 lcnet_035 mixnet_s tf_mixnet_s hardcorenas_a
ghostnet_050 repghostnet_050 test_nfnet convnextv2_atto inception_next_atto poolformer_s12 starnet_s1 fasternet_t0
edgenext_xx_small efficientformer_l1:224 levit_128s:224 mobilevit_xxs mobilevitv2_050 fastvit_t8 efficientvit_b0
coatnet_pico_rw_224 maxvit_rmlp_pico_rw_256:64 pvt_v2_b0 twins_svt_small swin_tiny_patch4_window7_224:64 test_vit:160
xcit_nano_12_p16_224:64 repvit_m0_9 swiftformer_xs resnetblur50 mambaout_femto
""".split()
TORCHVISION = """
resnet18 squeezenet1_1 googlenet mnasnet0_5 shufflenet_v2_x0_5 mobilenet_v3_small efficientnet_b0 regnet_x_400mf
""".split()


def build(library: str, name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    if library == "timm":
        states_its_size = timm.get_pretrained_cfg(name).fixed_input_size and size != 224
        options = {"img_size": size} if states_its_size else {}
        options |= {"window_size": 2} if name.startswith("swin_") else {}
        return timm.create_model(name, num_classes=3, **options)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, num_classes=3, **options)


def reached(net: nn.Module, x: torch.Tensor) -> tuple[torch.Size, set[str]]:
    """The output's shape, and the parameters that its gradient reaches."""
    y = net.train()(x)
    y.square().mean().backward()
    found = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters() if parameter.grad is not None)
    net.zero_grad(set_to_none=True)
    return y.shape, found


@pytest.mark.slow
@pytest.mark.parametrize(
    "library, name", [("timm", name) for name in TIMM] + [("torchvision", name) for name in TORCHVISION]
)
def test_a_network_takes_operators_at_all_its_sites(library, name):
    name, _, size = name.partition(":")
    size = int(size or 64)
    net, x = build(library, name, size), torch.rand(2, 3, size, size)
    native = models.convert(net, "native", example_input=x[:1])
    with torch.no_grad():
        assert torch.equal(net.eval()(x), native.eval()(x))
    sites = models.sites(native)
    assert sites
    shape, parameters = reached(net, x)
    for pooling in ("max", "blur", "aps"):
        filled = models.convert(net, pooling, "all", example_input=x[:1])
        assert [site.operator for site in models.sites(filled)] == [pooling] * len(sites)
        shape_now, parameters_now = reached(filled, x)
        assert shape_now == shape
        assert parameters_now >= parameters
