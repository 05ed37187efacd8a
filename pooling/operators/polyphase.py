"""Downsamplers that choose among the polyphase components, so that a shifted image keeps its samples."""

from typing import Annotated, Any, Literal

from torch import Tensor

from pooling import functional
from pooling.operators.base import Downsampler2d
from pooling.options import Range
from pooling.registry import register


class PolyphasePool2d(Downsampler2d):
    """Base of the polyphase operators: implement `choose(x, phase)`.

    A main branch and its shortcut must use one grid: `y, phase = main(y, return_phase=True)`, then
    `x = shortcut(x, phase=phase)`.
    """

    def choose(self, x: Tensor, phase: Tensor | None) -> tuple[Tensor, Tensor]:
        """(N, C, H, W), and the phase (N,) where it is given -> (N, C, H', W') and the phase."""
        raise NotImplementedError

    def forward(self, x: Tensor, phase: Tensor | None = None, *, return_phase: bool = False) -> Any:
        y, phase = self.choose(x, phase)
        return (y, phase) if return_phase else y


@register("aps", kind="downsampler", paper="Chaman & Dokmanic 2021, arXiv:2011.14214")
class AdaptivePolyphase2d(PolyphasePool2d):
    """Adaptive polyphase sampling: of the stride^2 subsampled grids, the one of largest norm, for each image.

    With circular padding and a stride that divides H and W, a circular shift of the input shifts the output.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        norm: the norm that is compared, over channels and positions: 1, 2 or "inf"; ties go to the lowest phase. Not
            "inf" at a max site, whose dense half repeats its largest value in neighbouring components.
        filter: length of a binomial filter applied first (APS with blur), 2 to 7; none where None.
    """

    def __init__(
        self,
        *,
        norm: Literal[1, 2, "inf"] = 2,
        filter: Annotated[int, Range(least=2, most=7)] | None = None,
        **site,
    ) -> None:
        super().__init__(**site)
        self.norm = float(norm)
        self.row: Tensor | None
        self.register_buffer(
            "row", None if filter is None else functional.binomial_row(filter).float(), persistent=False
        )

    def choose(self, x: Tensor, phase: Tensor | None) -> tuple[Tensor, Tensor]:
        x, _ = self.dense(x)
        circular = self.padding_mode == "circular"
        if self.row is not None:
            x = functional.blur_pool2d(x, 1, filter=self.row, pad_mode="circular" if circular else "reflect")
        return functional.polyphase_pool2d(
            x, self.window.stride, norm=self.norm, phase=phase, far_mode="circular" if circular else "edge"
        )
