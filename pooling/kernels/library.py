"""Loading: which of the built libraries this process uses."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from pooling.kernels import toolchain


@dataclass
class Loaded:
    """The libraries in use by device, and for a device without one the reason."""

    variants: dict[str, toolchain.Variant] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    told: bool = False

    def tell(self, device: str) -> None:
        """One line, once, for the user whose machine has no native operators."""
        if not self.told and device in self.missing:
            self.told = True
            logging.getLogger("pooling").warning(
                "no native operators for %s: %s; the composite backend is used", device, self.missing[device]
            )


def load(plugin: Path | None = None) -> Loaded:
    """Load the best built library for the CPU and, with a GPU at hand, the one for it. Never builds, never raises.

    Args:
        plugin: a header whose reducers are wanted, in place of our own.
    """
    loaded = Loaded()
    _load_first(loaded, "cpu", [replace(variant, plugin=plugin) for variant in toolchain.usable_cpu_variants()])
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        _load_first(loaded, "cuda", [toolchain.Variant("cuda", f"sm_{major}{minor}", plugin)])
    return loaded


def _load_first(loaded: Loaded, device: str, candidates: list[toolchain.Variant]) -> None:
    command = "python -m pooling.kernels.build"
    if candidates[0].plugin is not None:
        command += f" --plugins {candidates[0].plugin}"
    reason = f"not built ({command})"
    if device != "cpu" and "cpu" not in loaded.variants:
        loaded.missing[device] = "needs the library for the CPU, which declares the operators"
        return
    for variant in candidates:
        if not variant.built:
            if variant.path.exists():
                reason = f"the library is damaged ({command})"
            continue
        try:
            torch.ops.load_library(str(variant.path))
        except (OSError, RuntimeError) as error:
            reason = f"the library does not load: {str(error).splitlines()[0]}"
            continue
        loaded.variants[device] = variant
        return
    loaded.missing[device] = reason
