"""What several families share."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from models.placement import Place, Site
from pooling.operators.heads import FlattenGrid, SpatialPyramidPool2d
from pooling.options import Range

Rate = Annotated[float, Range(least=0, most=1)]


def own_modules(net: nn.Module) -> Iterator[nn.Module]:
    """A network's modules without its pooling operators, which come with a starting point of their own."""
    if not getattr(net, "operator", ""):
        yield net
        for child in net.children():
            yield from own_modules(child)


def initialise(net: nn.Module) -> None:
    """He's normal initialisation of the convolutions, by their outputs."""
    for module in own_modules(net):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def after(activation: nn.Module, down: nn.Module) -> nn.Module:
    """An activation and the operator behind it, as one module: those that follow keep their numbers in a Sequential."""
    return activation if isinstance(down, nn.Identity) else nn.Sequential(activation, down)


def conv_norm(
    place: Place,
    name: str,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = None,
) -> nn.Sequential:
    """A convolution that keeps the size, batch normalisation, an activation; strided, it is the site `name`."""
    site = Site(name, "conv", out_channels, kernel_size, stride, kernel_size // 2)
    conv, down = place.conv(site, in_channels, groups=groups, bias=False)
    layers = [conv, nn.BatchNorm2d(out_channels)]
    layers += [] if activation is None else [activation(inplace=True)]
    return nn.Sequential(*layers, *([] if isinstance(down, nn.Identity) else [down]))


def local_response_norm() -> nn.LocalResponseNorm:
    """Krizhevsky et al. 2012, section 3.3: n = 5, k = 2, alpha = 1e-4, beta = 0.75.

    The paper sums over n channels where torch takes their mean: its alpha is n times the paper's.
    """
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def keeps_positions(head: nn.Module) -> bool:
    """Whether the paper's fully connected layers follow a head; one linear layer follows a head without positions."""
    return isinstance(head, FlattenGrid | SpatialPyramidPool2d)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): in training drops a whole sample with probability `rate`.

    Shape: (N, ...) -> (N, ...); kept samples are divided by 1 - rate.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.empty((len(x), *[1] * (x.dim() - 1)), dtype=x.dtype, device=x.device).bernoulli_(1 - self.rate)
        return x * (kept.div_(1 - self.rate) if self.rate < 1 else kept)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


def rename_on_load(net: nn.Module, rename: Callable[[str], str | None]) -> None:
    """Let a network load files with other keys: `rename` gives its own, or None for what it has no use for."""
    net.rename = rename  # pyright: ignore[reportArgumentType]

    def translate(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        for key in [key for key in state_dict if key.startswith(prefix)]:
            value, name = state_dict.pop(key), rename(key.removeprefix(prefix))
            if name is not None:
                state_dict[prefix + name] = value

    net.register_load_state_dict_pre_hook(translate)


def without(*prefixes: str) -> Callable[[str], str | None]:
    """For `rename_on_load`: leave out the modules of these names."""
    return lambda key: None if key.startswith(prefixes) else key
