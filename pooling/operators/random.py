"""Reducers that are random in training and deterministic in eval mode."""

from typing import Literal

from torch import Tensor

from pooling import functional
from pooling.geometry import Window
from pooling.operators.base import WindowPool2d
from pooling.registry import register


@register("stochastic", kind="reducer", paper="Zeiler & Fergus 2013, arXiv:1301.3557", random=True)
class StochasticPool2d(WindowPool2d):
    """Training draws one tap of each window with probability a_i / sum a, a = max(x, 0); eval gives sum a^2 / sum a.

    The drawn tap gets the gradient. A window without a positive value gives 0 and no gradient.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        negatives: what a negative x means: "relu": a = 0; "shift": a = x less the window's minimum, which the result
            gets back; "error": a ValueError.
        eval: the rule of eval mode: "weighted" (the paper's), "max" or "avg".
    """

    def __init__(
        self,
        *,
        negatives: Literal["relu", "shift", "error"] = "relu",
        eval: Literal["weighted", "max", "avg"] = "weighted",
        **geometry,
    ) -> None:
        super().__init__(**geometry)
        self.negatives = negatives
        self.eval_rule = eval

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.stochastic_pool2d(
            x, window, training=self.training, negatives=self.negatives, eval=self.eval_rule
        )
