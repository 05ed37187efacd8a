"""Class activation maps (CAMs) of any network with a spatial map: torchcam behind one call, and three of our own.

maps = ClassMaps(net, "grad_cam", example)(images, classes)     # raw, at the resolution of the target layer

Letters: N images of (H, W) pixels, K classes; C channels of a target layer's map of (h, w) positions.
"""

from collections.abc import Callable

import torch
import torchcam.methods
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from pooling.options import did_you_mean


def grad_cam_pp(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al. 2018, equations 10 and 19). Shape: (N, C, h, w), twice -> (N, h, w)

    torchcam 0.5 has other weights: its division by the denominator is lost on a copy.
    """
    squares, cubes = gradients.square(), gradients.pow(3)
    below = 2 * squares + maps.sum((2, 3), keepdim=True) * cubes
    alpha = torch.where(squares > 0, squares / below.where(below != 0, torch.ones_like(below)), 0.0)
    weights = (alpha * gradients.relu()).sum((2, 3), keepdim=True)
    return (weights * maps).sum(1).relu()


def hires_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM (Draelos & Carin 2020, equation 2): map times gradient, position by position.

    Shape: (N, C, h, w), twice -> (N, h, w)
    """
    return (maps * gradients).sum(1)


def eigen_cam(maps: Tensor, gradients: Tensor | None = None) -> Tensor:
    """EigenCAM (Muhammad & Yeasin 2020, section III): the map's projection on its first right singular vector.

    The class has no part in it. A singular vector has no sign of its own: the one that makes the sum positive is taken.

    Shape: (N, C, h, w) -> (N, h, w)
    """
    flat = maps.flatten(2)  # (N, C, h w)
    # The first eigenvector over channels: C x C, whatever the resolution.
    _, vectors = torch.linalg.eigh((flat @ flat.mT).double())
    projected = (vectors[..., -1:].mT.to(flat.dtype) @ flat).view(len(maps), *maps.shape[2:])
    return projected * torch.where(projected.sum((1, 2), keepdim=True) < 0, -1.0, 1.0)


OWN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad_cam_pp": grad_cam_pp,
    "hires_cam": hires_cam,
    "eigen_cam": eigen_cam,
}
TORCHCAM = {
    "cam": torchcam.methods.CAM,
    "grad_cam": torchcam.methods.GradCAM,
    "layer_cam": torchcam.methods.LayerCAM,
    "score_cam": torchcam.methods.ScoreCAM,
}
METHODS = (*TORCHCAM, *OWN)


class ClassMaps:
    """Raw CAMs of a network, in evaluation mode, by one method.

    `cam` (Zhou et al. 2016), `grad_cam` (Selvaraju et al. 2017), `layer_cam` (Jiang et al. 2021) and `score_cam` (Wang
    et al. 2020) are torchcam's; `grad_cam_pp`, `hires_cam` and `eigen_cam` are ours.

    Args:
        net: normalised images -> logits (N, K) or, for segmentation, (N, K, H, W).
        example: (1, C, H, W), normalised, on the network's device.
        layer: name of the target layer; None: the last spatial map.
    Raises:
        ValueError: an unknown method or layer, a network without a spatial map, `cam` on another head than a global
            average and one linear layer.
    """

    def __init__(self, net: nn.Module, method: str, example: Tensor, layer: str | None = None) -> None:
        check_method(method)
        self.net, self.method, self.shape = net, method, tuple(example.shape[1:])
        self.layer = last_spatial_map(net, example) if layer is None else layer
        modules = dict(net.named_modules())
        if self.layer not in modules:
            raise ValueError(f"the network has no layer {self.layer!r}{did_you_mean(self.layer, modules)}")
        self.target = modules[self.layer]
        self.classifier = self._classifier(example) if method == "cam" else None

    def __call__(self, images: Tensor, classes: Tensor, regions: Tensor | None = None) -> Tensor:
        """Shape: normalised images (N, C, H, W), classes (N,) -> (N, h, w)

        Args:
            regions: for segmentation, the pixels whose logits of the class are added up to one score (Vinogradova et
                al. 2020), boolean (N, H, W).
        """
        if self.method in OWN:
            maps, gradients = self._maps_and_gradients(images, classes, regions)
            return OWN[self.method](maps, gradients)
        options = {"fc_layer": self.classifier} if self.method == "cam" else {}
        with torch.enable_grad():
            extractor = TORCHCAM[self.method](self.net, self.layer, input_shape=self.shape, **options)
            with extractor:
                scores = self.net(images.detach().requires_grad_())
                if regions is None:
                    (maps,) = extractor(classes.tolist(), scores, normalized=False)
                else:
                    pairs = zip(classes.tolist(), regions.to(scores.dtype), strict=True)
                    targets = [lambda out, c=c, region=region: (out[c] * region).sum() for c, region in pairs]
                    (maps,) = extractor(scores=scores, normalized=False, targets=targets)
        return maps.detach()

    def _maps_and_gradients(self, images: Tensor, classes: Tensor, regions: Tensor | None) -> tuple[Tensor, Tensor]:
        kept, handle = self._keep()
        try:
            with torch.enable_grad():
                logits = self.net(images.detach().requires_grad_())
                (gradients,) = torch.autograd.grad(scores_of(logits, classes, regions).sum(), kept[-1])
        finally:
            handle.remove()
        # An activation that followed in place has changed the map, and its gradient is by what it is now.
        return kept[-1].detach(), gradients

    def _keep(self) -> tuple[list[Tensor], RemovableHandle]:
        """A list that the target layer's outputs will be added to, and the hook that does it."""
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            kept.append(output)

        return kept, self.target.register_forward_hook(keep)

    def _classifier(self, example: Tensor) -> nn.Module:
        """The one linear layer after a global average: found by what it must satisfy, whatever its name."""
        kept, handle = self._keep()
        try:
            with torch.no_grad():
                logits = self.net(example)
        finally:
            handle.remove()
        pooled = kept[-1].mean((2, 3))
        for module in reversed(list(self.net.modules())):
            if isinstance(module, nn.Linear) and module.in_features == pooled.shape[1] and logits.dim() == 2:
                with torch.no_grad():
                    expected = module(pooled)
                if expected.shape == logits.shape and torch.allclose(expected, logits, rtol=1e-3, atol=1e-4):
                    return module
        raise ValueError(
            "method 'cam' needs a global average pool and one linear layer after the last map (head=gap); take another "
            f"method: {', '.join(METHODS[1:])}"
        )


def scores_of(logits: Tensor, classes: Tensor, regions: Tensor | None = None) -> Tensor:
    """The logit of each image's class, or for segmentation its sum over the image's region.

    Shape: (N, K) or (N, K, H, W), (N,), None or (N, H, W) -> (N,)
    """
    own = logits[torch.arange(len(logits), device=logits.device), classes]
    return own if regions is None else (own * regions).sum((1, 2))


def check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f"no CAM method {method!r}{did_you_mean(method, METHODS)} (methods: {', '.join(METHODS)})")


def last_spatial_map(net: nn.Module, example: Tensor) -> str:
    """The name of the module that gives the last map of more than one position, the network's own output left out.

    Raises:
        ValueError: there is none.
    """
    names = {module: name for name, module in net.named_modules() if name}
    ran: list[tuple[str, Tensor]] = []  # the maps themselves: memory that was freed could be the output's by now

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            ran.append((names[module], output))

    handles = [module.register_forward_hook(note) for module in names]
    try:
        with torch.no_grad():
            logits = net(example)
    finally:
        for handle in handles:
            handle.remove()
    found = [name for name, output in ran if output.data_ptr() != logits.data_ptr()]
    if not found:
        raise ValueError("the network has no spatial map for a CAM: no module of it gives (N, C, H, W) with H * W > 1")
    return found[-1]


def upsample(maps: Tensor, size: tuple[int, int], wrap: bool = False) -> Tensor:
    """Maps at the image's resolution, bilinearly. Shape: (N, h, w) -> (N, H, W)

    Args:
        wrap: the map's opposite borders are neighbours, as in a circular network; else its border goes on.
    """
    if not wrap:
        return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    H, W = size
    # Padded by a whole map on every side, so that the sampling positions stay those of the plain map.
    tiled = F.interpolate(maps.repeat(1, 3, 3)[:, None], (3 * H, 3 * W), mode="bilinear", align_corners=False)
    return tiled[:, 0, H : 2 * H, W : 2 * W]
