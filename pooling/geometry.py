"""Window: which positions a pooling operator looks at. The only place that knows the size formula."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

Pair = int | tuple[int, int]


def pair(value: Pair) -> tuple[int, int]:
    """An int for both axes, or a pair (rows, columns) as it is."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


@dataclass(frozen=True)
class Window:
    """A sliding window over the last two axes, with the meaning that `torch.nn.MaxPool2d` gives to the same numbers.

    Padding is never a member of a window: it shortens the windows at the border.
    Build one with `Window.of`, which takes ints or pairs and checks them.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False

    @classmethod
    def of(
        cls,
        kernel_size: "Pair | Window",
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
        *,
        owner: str = "Window",
    ) -> "Window":
        """A checked window; `stride` defaults to `kernel_size`, and a Window is taken as it is.

        Raises:
            TypeError: an argument is not an int or a pair of ints.
            ValueError: kernel_size, stride or dilation < 1, padding < 0 or > kernel_size / 2.
        """
        if isinstance(kernel_size, Window):
            return kernel_size
        size = _checked_pair(owner, "kernel_size", kernel_size, least=1)
        pad = _checked_pair(owner, "padding", padding, least=0)
        if any(2 * p > k for p, k in zip(pad, size, strict=True)):
            raise ValueError(f"{owner}: padding must be at most half of kernel_size {size}, got {padding}")
        if not isinstance(ceil_mode, bool):
            raise TypeError(f"{owner}: ceil_mode must be True or False, got {ceil_mode!r}")
        return cls(
            kernel_size=size,
            stride=size if stride is None else _checked_pair(owner, "stride", stride, least=1),
            padding=pad,
            dilation=_checked_pair(owner, "dilation", dilation, least=1),
            ceil_mode=ceil_mode,
        )

    @property
    def extent(self) -> tuple[int, int]:
        """Positions from the first tap to the last, along each axis."""
        (kh, kw), (dh, dw) = self.kernel_size, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    def output_size(self, height: int, width: int, owner: str = "Window") -> tuple[int, int]:
        """(H, W) -> (H', W'), MaxPool2d's sizes.

        Raises:
            ValueError: the window is larger than the padded input, or dilated past it on both sides.
        """
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = self.kernel_size, self.stride, self.padding, self.dilation
        rows = _output_length(height, kh, sh, ph, dh, self.ceil_mode)
        columns = _output_length(width, kw, sw, pw, dw, self.ceil_mode)
        fits = rows >= 1 and columns >= 1
        if fits and (height < dh or width < dw):
            fits = not (_misses(height, kh, sh, ph, dh, rows) or _misses(width, kw, sw, pw, dw, columns))
        if not fits:
            raise ValueError(
                f"{owner}: kernel_size {self.kernel_size} with dilation {self.dilation} does not fit an input of "
                f"{height}x{width} with padding {self.padding}; use a larger input or a smaller kernel_size"
            )
        return rows, columns

    def overhang(self, height: int, width: int) -> tuple[int, int]:
        """Positions that the last window reaches past the input, at least 0: the padding needed at the far side."""
        out = self.output_size(height, width)
        reach = [(o - 1) * s + e - p for o, s, e, p in zip(out, self.stride, self.extent, self.padding, strict=True)]
        return max(0, reach[0] - height), max(0, reach[1] - width)

    def beyond_padding(self, height: int, width: int) -> tuple[int, int]:
        """Positions that the last window reaches past the padding at the far side: 0 unless in `ceil_mode`."""
        if not self.ceil_mode:
            return 0, 0
        far, (ph, pw) = self.overhang(height, width), self.padding
        return max(0, far[0] - ph), max(0, far[1] - pw)

    def dense(self) -> "Window":
        """The same window at every position (stride 1)."""
        return replace(self, stride=(1, 1))

    def unpadded(self) -> "Window":
        """The same window for an input that has been padded already."""
        return replace(self, padding=(0, 0))

    def taps(self) -> Iterator[tuple[int, int]]:
        """Offsets of the taps from the window's first position, row-major."""
        (kh, kw), (dh, dw) = self.kernel_size, self.dilation
        return ((i * dh, j * dw) for i in range(kh) for j in range(kw))


def _checked_pair(owner: str, name: str, value: Any, least: int) -> tuple[int, int]:
    if type(value) is int and value >= least:  # most calls
        return value, value
    numbers = value if isinstance(value, (tuple, list)) else (value, value)
    if len(numbers) != 2 or any(not isinstance(n, int) or isinstance(n, bool) for n in numbers):
        raise TypeError(f"{owner}: {name} must be an int or a pair of ints, got {value!r}")
    if min(numbers) < least:
        raise ValueError(f"{owner}: {name} must be at least {least}, got {value!r}")
    return numbers[0], numbers[1]


def _output_length(length: int, taps: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    room = length + 2 * padding - dilation * (taps - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    out = -(-room // stride) + 1
    # The last window must start inside the input or its left padding.
    return out - 1 if (out - 1) * stride >= length + padding else out


def _misses(length: int, taps: int, stride: int, padding: int, dilation: int, out: int) -> bool:
    """Whether some window has no member: its taps step over an input that is shorter than the dilation."""
    starts = (i * stride - padding for i in range(out))
    steps = [t * dilation for t in range(taps)]
    return any(all(not 0 <= start + step < length for step in steps) for start in starts)
