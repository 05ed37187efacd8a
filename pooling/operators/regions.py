"""Region pools: what a detector reads from the map inside a box.

torchvision computes them; it is imported when one is built.

Shape letters: N images, C channels, H and W rows and columns of the map, K boxes, (h, w) the output's size.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from pooling import functional
from pooling.geometry import pair
from pooling.options import Range
from pooling.registry import register

Cells = Annotated[int, Range(least=1)] | tuple[Annotated[int, Range(least=1)], ...]
Scale = Annotated[float, Range(above=0)]
Samples = Annotated[int, Range(least=0)]


class RegionPool2d(nn.Module):
    """Base of the region pools. Boxes are (left, top, right, bottom), in the image's pixels.

    Shape: (N, C, H, W), boxes (K, 5), each led by its image's number, or a list of N tensors (L, 4) -> (K, C', h, w).
    Args:
        output_size: rows and columns of the output, h and w.
        spatial_scale: the map's pixels for each of the image's.
    """

    operator: str = ""
    per_position: ClassVar[bool] = False  # each output position reads channels of its own

    def __init__(self, *, output_size: Cells = 7, spatial_scale: Scale = 1.0) -> None:
        super().__init__()
        if not isinstance(output_size, int) and len(output_size) != 2:
            raise ValueError(f"{self.operator}: output_size must be one number or two, got {tuple(output_size)}")
        from torchvision import ops

        self.function = getattr(ops, self.operator)
        self.output_size = pair(output_size if isinstance(output_size, int) else (output_size[0], output_size[1]))
        # What torchvision's function takes beside map, boxes and size.
        self.options: dict[str, Any] = {"spatial_scale": float(spatial_scale)}

    def extra_repr(self) -> str:
        options = {"output_size": self.output_size} | self.options
        return ", ".join(f"{name}={value}" for name, value in options.items())

    def forward(self, x: Tensor, boxes: Tensor | Sequence[Tensor]) -> Tensor:
        functional.check(self.operator, x)
        if x.dim() != 4:
            raise ValueError(f"{self.operator}: the map must be (N, C, H, W), got {tuple(x.shape)}")
        cells = self.output_size[0] * self.output_size[1]
        if self.per_position and x.shape[1] % cells:
            raise ValueError(
                f"{self.operator}: channels must be a multiple of the {cells} positions of output_size "
                f"{self.output_size}, got {x.shape[1]}"
            )
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        y = self.function(wide, self._checked(x, boxes).to(wide), self.output_size, **self.options)
        return y.to(x.dtype).contiguous(memory_format=functional.memory_format(x))

    def _checked(self, x: Tensor, boxes: Tensor | Sequence[Tensor]) -> Tensor:
        """Boxes as (K, 5).

        Raises:
            ValueError: another shape, or a box that ends before it begins or belongs to no image.
        """
        N = len(x)
        if not isinstance(boxes, Tensor):
            shapes = [tuple(part.shape) for part in boxes]
            if len(boxes) != N or any(len(shape) != 2 or shape[1] != 4 for shape in shapes):
                raise ValueError(f"{self.operator}: boxes must be {N} tensors (L, 4), one for each image, got {shapes}")
            numbered = [torch.cat((part.new_full((len(part), 1), i), part), 1) for i, part in enumerate(boxes)]
            boxes = torch.cat(numbered) if numbered else x.new_zeros(0, 5)
        if boxes.dim() != 2 or boxes.shape[1] != 5:
            raise ValueError(f"{self.operator}: boxes must be (K, 5) or a list of (L, 4), got {tuple(boxes.shape)}")
        if not torch.compiler.is_compiling():  # a graph cannot look at values
            good = (boxes[:, 1:3] <= boxes[:, 3:]).all(1) & (boxes[:, 0] >= 0) & (boxes[:, 0] < N)
            if not bool(good.all()):
                first = boxes[~good][0].tolist()
                raise ValueError(
                    f"{self.operator}: a box is (image, left, top, right, bottom) with an image below {N}, left <= "
                    f"right and top <= bottom, got {first}"
                )
        return boxes


@register("roi_pool", kind="region", paper="Girshick 2015, arXiv:1504.08083, section 2.1")
class RoIPool2d(RegionPool2d):
    """The largest value of each cell of a box; its corners and cells are rounded to whole positions of the map.

    A cell that no position falls into is 0.

    Shape: (N, C, H, W), boxes (K, 5) or a list of N tensors (L, 4) -> (K, C, h, w).
    Args:
        output_size: rows and columns of the output, h and w.
        spatial_scale: the map's pixels for each of the image's.
    """


@register("roi_align", kind="region", paper="He et al. 2017, arXiv:1703.06870, section 3")
class RoIAlign2d(RegionPool2d):
    """The mean of bilinear samples in each cell of a box; nothing is rounded.

    Shape: (N, C, H, W), boxes (K, 5) or a list of N tensors (L, 4) -> (K, C, h, w).
    Args:
        output_size: rows and columns of the output, h and w.
        spatial_scale: the map's pixels for each of the image's.
        sampling_ratio: samples of a cell along each axis; 0: one for each position that it covers.
        aligned: a pixel's value is at its centre; False, the first implementations' convention, is half a pixel off.
    """

    def __init__(
        self, *, output_size: Cells = 7, spatial_scale: Scale = 1.0, sampling_ratio: Samples = 0, aligned: bool = True
    ) -> None:
        super().__init__(output_size=output_size, spatial_scale=spatial_scale)
        self.options |= {"sampling_ratio": sampling_ratio, "aligned": aligned}


@register("ps_roi_pool", kind="region", paper="Dai et al. 2016, arXiv:1605.06409, section 3")
class PSRoIPool2d(RegionPool2d):
    """Position-sensitive: the mean of each cell of a box, each cell from channels of its own; corners are rounded.

    torchvision's reads nothing from the last row and the last column of the map.

    Shape: (N, C, H, W), boxes (K, 5) or a list of N tensors (L, 4) -> (K, C / (h w), h, w).
    Args:
        output_size: rows and columns of the output, h and w; C is a multiple of h * w.
        spatial_scale: the map's pixels for each of the image's.
    """

    per_position = True


@register("ps_roi_align", kind="region", paper="Li et al. 2017, arXiv:1711.07264, section 3.2")
class PSRoIAlign2d(RegionPool2d):
    """Position-sensitive: `roi_align`, each cell from channels of its own.

    Shape: (N, C, H, W), boxes (K, 5) or a list of N tensors (L, 4) -> (K, C / (h w), h, w).
    Args:
        output_size: rows and columns of the output, h and w; C is a multiple of h * w.
        spatial_scale: the map's pixels for each of the image's.
        sampling_ratio: samples of a cell along each axis; 0: one for each position that it covers.
    """

    per_position = True

    def __init__(self, *, output_size: Cells = 7, spatial_scale: Scale = 1.0, sampling_ratio: Samples = 0) -> None:
        super().__init__(output_size=output_size, spatial_scale=spatial_scale)
        self.options |= {"sampling_ratio": sampling_ratio}

    def forward(self, x: Tensor, boxes: Tensor | Sequence[Tensor]) -> Tensor:
        y = super().forward(x, boxes)
        if self.options["sampling_ratio"]:
            return y
        # A box without an area covers no position: torchvision divides by their number.
        boxes = self._checked(x, boxes)
        flat = (boxes[:, 1:3] == boxes[:, 3:]).any(1)
        return y.masked_fill(flat.view(-1, 1, 1, 1), 0)
