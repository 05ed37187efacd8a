"""Heads that learn where to look or how channels go together: attention and second-order statistics."""

from typing import Annotated

import torch
from torch import Tensor, nn

from pooling import functional
from pooling.composite import safe_power
from pooling.operators.base import GlobalPool2d
from pooling.options import Range
from pooling.registry import register


@register(
    "map", kind="global", paper="Lee et al. 2019, arXiv:1810.00825, section 3.2; Zhai et al. 2022", learnable=True
)
class AttentionPool2d(GlobalPool2d):
    """Attention of one learned query to all positions, then a residual perceptron (multi-head attention pooling).

    y = sum_i softmax_i(q . K x_i / sqrt(C / heads)) V x_i of each head, projected; the result is
    y + MLP(LayerNorm(y)).

    Shape: (N, C, H, W) -> (N, C).
    Args:
        heads: a divisor of C; the largest of 8, 4, 2 and 1 that is one where None.
        mlp_ratio: the perceptron's width over C; 0 leaves it out.
    """

    def __init__(
        self,
        *,
        channels: int,
        heads: Annotated[int, Range(least=1)] | None = None,
        mlp_ratio: Annotated[float, Range(least=0)] = 4.0,
    ) -> None:
        super().__init__(channels)
        heads = next(count for count in (8, 4, 2, 1) if channels % count == 0) if heads is None else heads
        if channels % heads:
            raise ValueError(f"map: heads must be a divisor of the {channels} channels, got {heads}")
        self.heads = heads
        self.query = nn.Parameter(torch.randn(channels) * channels**-0.5)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(channels, channels)
        width = round(mlp_ratio * channels)
        self.mlp = None
        if width:
            layers = (nn.LayerNorm(channels), nn.Linear(channels, width), nn.GELU(), nn.Linear(width, channels))
            self.mlp = nn.Sequential(*layers)

    def extra_repr(self) -> str:
        return f"heads={self.heads}"

    def reduce(self, x: Tensor) -> Tensor:
        N, C = x.shape[:2]
        # Keys and values are (N, heads, H * W, C / heads). For one query an image, no fused attention pays.
        parts = self.key_value(x.flatten(2).transpose(1, 2)).unflatten(2, (2, self.heads, C // self.heads))
        keys, values = parts.permute(2, 0, 3, 1, 4)
        query = self.query.to(keys.dtype).view(self.heads, -1, 1) * (C // self.heads) ** -0.5
        attention = (keys @ query).softmax(dim=2)
        y = self.project((attention * values).sum(dim=2).reshape(N, C))
        return y if self.mlp is None else y + self.mlp(y)


@register("simpool", kind="global", paper="Psomas et al. 2023, arXiv:2309.06891, section 3.3", learnable=True)
class SimPool2d(GlobalPool2d):
    """Attention of the map's mean to its positions, which weighs a generalised mean of their values (SimPool).

    Positions are normalised over channels (LayerNorm) to z; a = softmax(K z . Q mean(x) / sqrt(C)), and the result is
    (sum_i a_i (z_i - min z)^gamma)^(1 / gamma). The minimum is each image's own, over channels and positions.

    Shape: (N, C, H, W) -> (N, C).
    Args:
        gamma: the exponent of the mean: the paper's is 2 for convolutional networks, 1.25 for transformers.
    """

    def __init__(self, *, channels: int, gamma: Annotated[float, Range(above=0)] = 2.0) -> None:
        super().__init__(channels)
        self.gamma = gamma
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma:g}"

    def reduce(self, x: Tensor) -> Tensor:
        positions = x.flatten(2).transpose(1, 2)  # (N, H * W, C)
        z = self.norm(positions)
        query = self.query(positions.mean(dim=1)).unsqueeze(2) * x.shape[1] ** -0.5
        attention = (self.key(z) @ query).softmax(dim=1)
        powers = safe_power(z - z.amin(dim=(1, 2), keepdim=True), self.gamma)
        return safe_power((attention * powers).sum(dim=1), 1 / self.gamma)


@register("covariance", kind="global", paper="Li et al. 2018, arXiv:1712.01034 (iSQRT-COV)", learnable=True)
class CovariancePool2d(GlobalPool2d):
    """The square root of the channels' covariance matrix by Newton-Schulz iterations: its upper triangle, row-major.

    Shape: (N, C, H, W) -> (N, D (D + 1) / 2), D the lesser of C and `features`.
    Args:
        features: more channels than this first pass a 1x1 convolution to this many.
        iterations: of Newton and Schulz; 5 in the paper, and the exact root in the limit.
    """

    def __init__(
        self,
        *,
        channels: int,
        features: Annotated[int, Range(least=1)] = 256,
        iterations: Annotated[int, Range(least=1)] = 5,
    ) -> None:
        super().__init__(channels)
        size = min(features, channels)
        self.out_features = size * (size + 1) // 2
        self.iterations = iterations
        self.fewer = nn.Conv2d(channels, size, 1, bias=False) if channels > features else nn.Identity()

    def extra_repr(self) -> str:
        return f"iterations={self.iterations}"

    def reduce(self, x: Tensor) -> Tensor:
        return functional.covariance_pool2d(self.fewer(x), iterations=self.iterations)
