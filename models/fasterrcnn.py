"""Faster R-CNN (Ren et al. 2015, arXiv:1506.01497): torchvision's detector on our features, with our region pool."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from torch import Tensor, nn

import pooling
from models.placement import Place
from models.registry import register
from models.resnet import BasicBlock, CifarResNet, ResNet
from pooling.options import Range

CELLS = 5  # rows and columns that are read from a box


class Features(nn.Sequential):
    """A residual network up to its last map. Shape: (N, in_channels, H, W) -> (N, out_channels, H', W')."""

    def __init__(self, net: ResNet | CifarResNet) -> None:
        kept = ((name, module) for name, module in net.named_children() if name not in ("avgpool", "fc"))
        super().__init__()
        for name, module in kept:
            self.add_module(name, module)
        self.out_channels = net.fc.in_features


class BoxPool(nn.Module):
    """The region pool as torchvision's detector calls it: a map by level, boxes by image, the images' sizes."""

    def __init__(self, operator: nn.Module) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor], sizes: Sequence[tuple[int, int]]) -> Tensor:
        (features,) = maps.values()
        scale = features.shape[-1] / max(width for _, width in sizes)
        return self.operator(features, [part * scale for part in boxes])


@register("fasterrcnn", paper="Ren et al. 2015, arXiv:1506.01497", image_size=64, least_side=16, task="detection")
class FasterRCNN(nn.Module):
    """A residual network's last map, a network that proposes boxes, a region pool, and a classifier for each box.

    Class 0 is the background. Small images keep a map of 16 positions a side, on which small objects have a few.

    Shape: images (N, in_channels, H, W), in evaluation mode -> for each image {"boxes" (L, 4), "labels" (L,), "scores"
    (L,)}; in training mode, with targets (N, K, 5) of class, left, top, right and bottom -> losses by name.
    Args:
        backbone: whose features are used.
        roi: the region pool, of the registry.
        hidden: units of each of the two fully connected layers behind it.
    """

    def __init__(
        self,
        place: Place,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        backbone: Literal["resnet20", "resnet18"] = "resnet20",
        roi: Literal["roi_align", "roi_pool"] = "roi_align",
        hidden: Annotated[int, Range(least=1)] = 128,
    ) -> None:
        super().__init__()
        from torchvision.models.detection import FasterRCNN as Detector
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

        net = (
            CifarResNet(place, 20, num_classes, in_channels)
            if backbone == "resnet20"
            else ResNet(place, BasicBlock, (2, 2, 2, 2), num_classes, in_channels)
        )
        place.heads.clear()  # a detector has none
        features = Features(net)
        sides = tuple(round(image_size * share) for share in (0.2, 0.3, 0.45))
        arguments: dict[str, Any] = {
            "rpn_anchor_generator": AnchorGenerator((sides,), ((1.0, 1.6),)),
            "box_head": TwoMLPHead(features.out_channels * CELLS**2, hidden),
            "box_predictor": FastRCNNPredictor(hidden, num_classes),
            # The images come normalised and at their size.
            "image_mean": [0.0] * in_channels, "image_std": [1.0] * in_channels,
            "min_size": image_size, "max_size": image_size,
            # For a few objects in a small image.
            "rpn_pre_nms_top_n_train": 200, "rpn_pre_nms_top_n_test": 200,
            "rpn_post_nms_top_n_train": 50, "rpn_post_nms_top_n_test": 50,
            "rpn_batch_size_per_image": 64, "box_batch_size_per_image": 32, "box_detections_per_img": 20,
        }  # fmt: skip
        self.detector = Detector(features, **arguments)
        self.detector.roi_heads.box_roi_pool = BoxPool(pooling.create(roi, kind="region", output_size=CELLS))

    def forward(self, images: Tensor, targets: Tensor | None = None) -> Any:
        if images.is_meta:  # without data there are no boxes: the features alone
            return self.detector.backbone(images)
        if targets is None:
            return self.detector(list(images))
        return self.detector(list(images), described(targets))


def described(targets: Tensor) -> list[dict[str, Tensor]]:
    """Targets (N, K, 5) in the form of detections: for each image {"boxes" (K, 4), "labels" (K,)}."""
    return [{"boxes": part[:, 1:].float(), "labels": part[:, 0].long()} for part in targets]
