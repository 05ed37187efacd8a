"""What the families share: windowed reducers, downsamplers, global pools.

Shape letters: N images, C channels, H and W rows and columns of the input, H' and W' of the output, D features.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pooling import functional
from pooling.composite import pad2d
from pooling.geometry import Pair, Window
from pooling.options import Option, check_option

PaddingMode = Literal["zeros", "reflect", "circular"]
Native = Literal["max", "avg", "conv"]


def logged(operator: nn.Module) -> dict[str, Tensor]:
    """What is worth watching while an operator learns, by name: what its method `logged()` returns, where it has one.

    Otherwise its own parameters, not those of modules inside it. Where a parameter stands behind a constraint, what
    comes of it is worth watching: p = 1 + softplus(theta), not theta.
    """
    if hasattr(operator, "logged"):
        return operator.logged()  # pyright: ignore[reportCallIssue]
    return dict(operator.named_parameters(recurse=False))


def needed_channels(owner: str, channels: int | None) -> int:
    """channels, or a ValueError that says that the operator has weights per channel."""
    if not isinstance(channels, int) or channels < 1:
        raise ValueError(f"{owner}: has weights per channel and needs channels, a positive int, got {channels!r}")
    return channels


class Pool2d(nn.Module):
    """The part common to windowed operators and downsamplers: a checked window and a padding mode.

    Args:
        kernel_size, stride, padding, dilation, ceil_mode: as for `torch.nn.MaxPool2d`.
        padding_mode: "zeros" (padding is never a member of a window), "reflect" or "circular".
    """

    operator: str = ""
    no_weight_decay: tuple[str, ...] = ()  # parameters whose zero means nothing, by name

    def __init__(
        self,
        *,
        kernel_size: Pair = 2,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        owner = self.operator or type(self).__name__
        check_option(owner, Option("padding_mode", PaddingMode, "zeros"), padding_mode)
        self.window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner=owner)
        self.padding_mode = padding_mode

    def extra_repr(self) -> str:
        window = self.window
        parts = [f"kernel_size={window.kernel_size}", f"stride={window.stride}"]
        parts += [f"padding={window.padding}"] if any(window.padding) else []
        parts += [f"dilation={window.dilation}"] if window.dilation != (1, 1) else []
        parts += ["ceil_mode=True"] if window.ceil_mode else []
        parts += [f"padding_mode={self.padding_mode!r}"] if self.padding_mode != "zeros" else []
        return ", ".join(parts)

    def continued(self, x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
        """x continued past its border under `padding_mode`, in x's memory format."""
        padded = pad2d(x, left, right, top, bottom, self.padding_mode)
        return padded.contiguous(memory_format=functional.memory_format(x))

    def check(self, x: Tensor) -> tuple[int, int]:
        """H', W'. Raise ValueError or TypeError, naming the operator, for an input that does not fit."""
        return functional.check(self.operator, x, self.window)


class WindowPool2d(Pool2d):
    """Base of the reducers: implement `reduce(x, window)`.

    Shape: (N, C, H, W) or (C, H, W) -> MaxPool2d's H', W'.
    """

    def reduce(self, x: Tensor, window: Window) -> Any:
        """(N, C, H, W) -> (N, C, H', W') over the window's members."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        self.check(x)
        return self.reduce(*self.framed(x))

    def whole(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C): the same over the whole map, as its one window."""
        size = (x.shape[-2], x.shape[-1])
        # The compiled operators take the channels of one window side by side, and here is one window a channel:
        # in NHWC they are an order of magnitude faster, and several times so with the copy.
        return self.reduce(x.contiguous(memory_format=torch.channels_last), Window(size, size)).flatten(1)

    def framed(self, x: Tensor) -> tuple[Tensor, Window]:
        """x, continued past its border unless its padding is zeros, and the window for it."""
        if self.padding_mode == "zeros" or not any(self.window.padding):
            return x, self.window
        (ph, pw), far = self.window.padding, self.window.overhang(x.shape[-2], x.shape[-1])
        # No further than the windows reach: with `ceil_mode` a wider input would have one window more.
        return self.continued(x, pw, min(pw, far[1]), ph, min(ph, far[0])), self.window.unpadded()


class Downsampler2d(Pool2d):
    """Base of the operators that replace only the subsampling: implement `subsample(x, size)`.

    What stood at the site keeps its dense half: a max or average site's own pool runs first, at stride 1; a
    convolution site's convolution has run already. From H1 dense positions come ceil(H1 / stride), which is the size
    that the native operator gives. With `padding_mode="circular"` the dense half wraps around and keeps H, so the
    result has ceil(H / stride).

    Args:
        native: what stood there: "max", "avg" or "conv".
    """

    def __init__(self, *, native: Native = "max", **geometry) -> None:
        super().__init__(**geometry)
        check_option(self.operator or type(self).__name__, Option("native", Native, "max"), native)
        self.native = native

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, native={self.native!r}"

    @property
    def filter_padding(self) -> str:
        """How a filter sees past the border of the dense map: around it, or reflected."""
        return "circular" if self.padding_mode == "circular" else "reflect"

    @property
    def far_mode(self) -> str:
        """How sides of the dense map that the stride does not divide are continued, for polyphase components."""
        return "circular" if self.padding_mode == "circular" else "edge"

    def subsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Dense (N, C, H1, W1) -> (N, C, H', W')."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        # In half precision the average would be rounded before it is filtered.
        wide = x.float() if self.native == "avg" and x.dtype in (torch.float16, torch.bfloat16) else x
        y = self.subsample(*self.dense(wide))
        return y if y.dtype == x.dtype else y.to(x.dtype)

    def dense(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The site's dense half and the size to subsample it to."""
        if self.native == "conv":
            # The convolution has run, over an input that is known no more; only the stride is left to do.
            functional.check(self.operator, x)
            return x, self._strided(x)
        x, window, more, size = self.framed_dense(x)
        return self._dense_to_the_end(x, window.dense(), more), size

    def framed_dense(self, x: Tensor) -> tuple[Tensor, Window, tuple[int, int], tuple[int, int]]:
        """What the dense half pools over.

        x, continued past its border unless its padding is zeros; the window for it; by how many rows and columns a
        `ceil_mode` window reaches past the padding at the far side; and the size to subsample to.
        """
        size, (ph, pw) = self.check(x), self.window.padding
        if self.padding_mode == "circular":
            eh, ew = self.window.extent
            wrapped = self.continued(x, pw, ew - 1 - pw, ph, eh - 1 - ph)
            return wrapped, self.window.unpadded(), (0, 0), self._strided(x)
        more = self.window.beyond_padding(x.size(-2), x.size(-1))
        if self.padding_mode == "reflect":
            return self.continued(x, pw, pw, ph, ph), self.window.unpadded(), more, size
        return x, self.window, more, size

    def _strided(self, x: Tensor) -> tuple[int, int]:
        sh, sw = self.window.stride
        return -(-x.size(-2) // sh), -(-x.size(-1) // sw)

    def _dense_to_the_end(self, x: Tensor, dense: Window, more: tuple[int, int]) -> Tensor:
        """The site's pool at stride 1, continued at the far side for as long as a `ceil_mode` window reaches."""
        (ph, pw), (more_h, more_w) = dense.padding, more
        pool = functional.max_pool2d if self.native == "max" else functional.avg_pool2d
        if more_h == more_w == 0:
            return pool(x, Window(dense.kernel_size, (1, 1), dense.padding, dense.dilation))
        dense = Window(dense.kernel_size, (1, 1), (0, 0), dense.dilation)
        reach = (pw, pw + more_w, ph, ph + more_h)
        if self.native == "max":
            return pool(F.pad(x, reach, value=-torch.inf), dense)
        # torch's average counts the padding and never what lies beyond it.
        counted = F.pad(x.new_ones(1, 1, x.shape[-2] + 2 * ph, x.shape[-1] + 2 * pw), (0, more_w, 0, more_h))
        counted = counted if x.dim() == 4 else counted[0]
        return pool(F.pad(x, reach), dense) / pool(counted, dense)


class GlobalPool2d(nn.Module):
    """Base of the heads: implement `reduce(x)`.

    Shape: (N, C, H, W) or (C, H, W) -> (N, D) or (D,), D = `out_features`, for any H and W.

    Args:
        channels: C.
    """

    operator: str = ""
    no_weight_decay: tuple[str, ...] = ()

    def __init__(self, channels: int, features_per_channel: int = 1) -> None:
        super().__init__()
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(f"{self.operator}: channels must be a positive int, got {channels!r}")
        self.out_features = channels * features_per_channel

    def reduce(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        functional.check(self.operator, x)
        return self.reduce(x) if x.dim() == 4 else self.reduce(x.unsqueeze(0)).squeeze(0)
