"""What the conformance suite runs over: every registered operator, variants of its options, generated geometries."""

from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn

import pooling
from pooling.geometry import Window
from pooling.operators.heads import WholeMap

CHANNELS = 3

# Options without a default, by operator.
REQUIRED: dict[str, dict[str, Any]] = {
    "adaptive_max": {"output_size": 2},
    "adaptive_avg": {"output_size": 2},
    # Each position reads channels of its own, and there are 3.
    "ps_roi_pool": {"output_size": (3, 1)},
    "ps_roi_align": {"output_size": (3, 1)},
}

# Options worth a run of their own, by kind and operator; the defaults are always run.
VARIANTS: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("reducer", "max"): [{"padding_mode": "reflect"}, {"padding_mode": "circular"}],
    ("reducer", "avg"): [
        {"count_include_pad": False},
        {"divisor_override": 3},
        {"padding_mode": "reflect"},
        {"padding_mode": "circular"},
    ],
    ("reducer", "lp"): [
        {"p": 1},
        {"p": 3},
        {"p": 2.5, "normalize": False},
        {"p": 3, "padding_mode": "reflect"},
        {"learn_p": "layer"},
        {"learn_p": "channel", "normalize": False},
    ],
    ("reducer", "soft"): [{"beta": 3.0}, {"padding_mode": "circular"}],
    ("reducer", "mixed"): [
        {"a": 0.25},
        {"a": 1},
        {"a": "learned"},
        {"a": "learned", "per": "channel"},
        {"a": "random"},
        {"a": "random", "per": "channel"},
    ],
    ("reducer", "gem"): [{"p": 1.5, "eps": 0.1}, {"learn_p": "layer"}, {"learn_p": "channel"}],
    ("reducer", "lse"): [{"r": 4.0}, {"r": -1.0}, {"learn_r": "layer"}, {"learn_r": "channel"}],
    ("reducer", "median"): [{"padding_mode": "circular"}],
    ("reducer", "rap"): [{"t": 3}],
    ("reducer", "rwp"): [{"a": 0.25}],
    ("reducer", "rsp"): [{"a": 0.25, "padding_mode": "reflect"}],
    ("reducer", "max_dropout"): [{"q": 0.2}, {"q": 0}],
    ("reducer", "ordinal"): [{"per": "channel"}, {"padding_mode": "reflect"}],
    ("reducer", "subsample_scaled"): [{"padding_mode": "circular"}],
    ("reducer", "conv"): [{"depthwise": True}, {"padding_mode": "circular"}, {"padding_mode": "reflect"}],
    ("reducer", "stochastic"): [
        {"negatives": "shift"},
        {"negatives": "error"},
        {"eval": "max"},
        {"eval": "avg", "negatives": "shift"},
        {"padding_mode": "circular"},
    ],
    ("reducer", "s3"): [{"keep": 1}, {"keep": 3, "padding_mode": "reflect"}],
    ("reducer", "fractional"): [
        {"method": "random"},
        {"overlapping": False},
        {"ratio": 1.4, "method": "random", "overlapping": False},
    ],
    ("reducer", "gated"): [{"per": "channel"}, {"padding_mode": "circular"}],
    ("reducer", "tree"): [{"depth": 1}, {"depth": 3}, {"per": "channel", "padding_mode": "reflect"}],
    ("reducer", "lip"): [{"padding_mode": "reflect"}, {"padding_mode": "circular"}],
    ("reducer", "dpp"): [{"symmetric": True}, {"smooth": "full"}, {"padding_mode": "circular"}],
    ("downsampler", "blur"): [
        {"filter": 2},
        {"filter": 4, "pad_mode": "zeros"},
        {"filter": 5, "pad_mode": "circular"},
        {"filter": 6},
        {"filter": 7},
    ],
    ("downsampler", "aps"): [
        {"norm": 1},
        {"norm": "inf"},
        {"filter": 2},
        {"filter": 3, "padding_mode": "circular"},
        {"filter": 4, "norm": 1, "native": "conv"},
    ],
    ("downsampler", "wavelet"): [
        {"wavelet": "db2"},
        {"wavelet": "cdf22", "normalize": False, "pad_mode": "circular"},
    ],
    ("downsampler", "ddac"): [{"groups": 1, "filter": 2}, {"groups": 2}],
    ("downsampler", "spectral"): [{"size": 3}, {"size": 9}],
    ("downsampler", "lps"): [{"tau": 0.3, "hidden": 2}],
    ("region", "roi_pool"): [{"output_size": (2, 3), "spatial_scale": 0.5}],
    ("region", "roi_align"): [{"output_size": 3, "sampling_ratio": 2, "aligned": False}, {"spatial_scale": 0.5}],
    ("region", "ps_roi_align"): [{"sampling_ratio": 2, "spatial_scale": 0.5}],
    ("global", "spp"): [{"levels": (3,)}],
    ("global", "flatten"): [{"grid": 2}],
    ("global", "map"): [{"heads": CHANNELS, "mlp_ratio": 0.0}],
    ("global", "simpool"): [{"gamma": 1.25}],
    ("global", "covariance"): [{"features": 2}, {"iterations": 1}],
    ("upsample", "transposed_conv"): [{"out_channels": 2}],
    ("context", "ppm"): [{"bins": (2,), "out_channels": 4}, {"padding_mode": "circular"}],
    ("context", "aspp"): [{"rates": (1, 5), "out_channels": 4}, {"padding_mode": "reflect"}],
    ("adaptive", "adaptive_max"): [{"output_size": (3, 1)}],
    ("adaptive", "adaptive_avg"): [{"output_size": (3, 1)}, {"output_size": (9, 5)}],
}

# A reducer that is a head too is run with the same options.
WHOLE_MAPS = [name for name in pooling.names("global") if issubclass(pooling.info(name, "global").cls, WholeMap)]
for name in WHOLE_MAPS:
    known = pooling.info(name, "global").options.keys()
    VARIANTS["global", name] = [options for options in VARIANTS.get(("reducer", name), []) if options.keys() <= known]

# Every downsampler is run with each of these.
SITES = ({"native": "avg"}, {"native": "conv"}, {"padding_mode": "reflect"}, {"padding_mode": "circular"})


class Undone(nn.Module):
    """An upsampling partner at work: with the size it is to give, and places that a pool of its window may choose."""

    def __init__(self, operator: nn.Module) -> None:
        super().__init__()
        self.operator = operator

    def size(self, x: Tensor) -> tuple[int, int]:
        (sh, sw), (h, w) = self.operator.window.stride, x.shape[-2:]
        return h * sh, w * sw

    def choice(self, x: Tensor) -> Tensor | None:
        if self.operator.partner is None:
            return None
        (sh, sw), (h, w), N = self.operator.window.stride, x.shape[-2:], len(x) if x.dim() == 4 else 1
        if self.operator.choice == "phase":
            phase = 5 * torch.arange(N, device=x.device) % (sh * sw)
            if self.operator.partner == "lps" and self.training:
                return (torch.arange(N * sh * sw, device=x.device, dtype=torch.float64) / 8).view(N, sh * sw)
            return phase
        i, j = torch.arange(h, device=x.device).view(-1, 1), torch.arange(w, device=x.device)
        return ((i * sh + (i + 2 * j) % sh) * w * sw + j * sw + (2 * i + j) % sw).expand(x.shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.operator(x, self.choice(x), size=self.size(x))


@dataclass(frozen=True)
class Case:
    """A registered operator with options, and what stood at its site."""

    kind: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.arguments.items())])

    @property
    def windowed(self) -> bool:
        return self.kind in ("reducer", "downsampler")

    @property
    def padding_mode(self) -> str:
        return self.arguments.get("padding_mode", "zeros")

    @property
    def native(self) -> str:
        return self.arguments.get("native", "max")

    def option(self, name: str) -> Any:
        """The option's value: the one given or the default."""
        return {**REQUIRED.get(self.name, {}), **self.arguments}.get(
            name, pooling.info(self.name, self.kind).options[name].default
        )

    def create(self, window: Window | None = None, **overrides: Any) -> nn.Module:
        """The operator in float64, its parameters moved off their starting values."""
        window = window or Window.of(3, 2, 1)
        geometry = {name: getattr(window, name) for name in window.__dataclass_fields__}
        arguments = {"channels": CHANNELS, **geometry, **REQUIRED.get(self.name, {}), **self.arguments, **overrides}
        operator = pooling.create(self.name, kind=self.kind, **arguments).double()
        operator = Undone(operator) if self.kind == "upsample" else operator
        operator = WithBoxes(operator) if self.kind == "region" else operator
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in operator.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype, device="cpu")
                parameter += 0.3 * noise.to(parameter.device)
        return operator

    def values(self, *shape: int) -> Tensor:
        """Distinct float64 numbers in (-2, 2), none near another, 0 or the mean of some; above 0 where the operator
        takes no others."""
        generator = torch.Generator().manual_seed(2)
        count = torch.Size(shape).numel()
        x = (torch.randperm(count, generator=generator, device="cpu").double() + 0.5) / max(count, 1)
        x = x if self.arguments.get("negatives") == "error" else 2 * x - 1
        return 2 * (x.sign() * x.abs() ** 1.1).view(shape).to(torch.get_default_device())


def boxes_in(x: Tensor) -> Tensor:
    """One box in each image, whose corners are no halves."""
    N, (H, W) = len(x), x.shape[-2:]
    box = torch.tensor([0.3, 0.1, W - 0.6, H - 0.7], dtype=torch.float64)
    return torch.cat((torch.arange(N)[:, None], box.expand(N, 4)), 1).to(x.device)


class WithBoxes(nn.Module):
    """A region operator as a function of the map alone."""

    def __init__(self, operator: nn.Module) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        return self.operator(x, boxes_in(x))


def _all_cases() -> list[Case]:
    cases = []
    for kind in pooling.registry.KINDS:
        for name in pooling.names(kind):
            sites = SITES if kind == "downsampler" else ()
            cases += [Case(kind, name, arguments) for arguments in ({}, *sites, *VARIANTS.get((kind, name), ()))]
    return cases


CASES = _all_cases()


@dataclass(frozen=True)
class Geometry:
    """A window that fits an input of height x width."""

    window: Window
    height: int
    width: int

    @property
    def arguments(self) -> tuple[Any, ...]:
        """kernel_size, stride, padding, dilation, ceil_mode, as torch takes them."""
        window = self.window
        return window.kernel_size, window.stride, window.padding, window.dilation, window.ceil_mode

    def input_size(self, case: Case) -> tuple[int, int]:
        """What the operator is given: the input or, at a convolution site, what its dense convolution makes of it."""
        if case.kind != "downsampler" or case.native != "conv":
            return self.height, self.width
        padding, extent = self.window.padding, self.window.extent
        return self.height + 2 * padding[0] - extent[0] + 1, self.width + 2 * padding[1] - extent[1] + 1


@st.composite
def geometries(draw, dilations: int = 3, ceil_modes: tuple[bool, ...] = (False, True)) -> Geometry:
    """Windows and inputs of all shapes, from the smallest input that the window fits."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = draw(st.tuples(st.integers(0, kernel[0] // 2), st.integers(0, kernel[1] // 2)))
    dilation = draw(st.tuples(st.integers(1, dilations), st.integers(1, dilations)))
    window = Window.of(kernel, stride, padding, dilation, draw(st.sampled_from(ceil_modes)))
    least = [max(1, extent - 2 * p) for extent, p in zip(window.extent, padding, strict=True)]
    height, width = (n + draw(st.integers(0, 5)) for n in least)
    try:
        window.output_size(height, width)
    except ValueError:  # dilated past a short input on both sides: refused on purpose
        assume(False)
    return Geometry(window, height, width)
