"""Checkpoints: plain tensors and containers, read without ever running code from the file."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.weights import first, misfits


def read(file: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, not one of ours, or with anything but data in it.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no checkpoint {str(file)!r}")
    try:
        if not zipfile.is_zipfile(file):
            raise pickle.UnpicklingError("not in torch's format")
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error):
            raise ValueError(
                f"refused {str(file)!r}: it holds code or objects, not just weights; nothing was run"
            ) from None
        raise ValueError(f"cannot read {str(file)!r}: it is damaged or no checkpoint") from None
    except (OSError, RuntimeError, EOFError, KeyError, ValueError):
        raise ValueError(f"cannot read {str(file)!r}: it is damaged or no checkpoint") from None
    if not isinstance(content, dict) or "state_dict" not in content or "config" not in content:
        raise ValueError(f"{str(file)!r} is not a checkpoint of poolzoo: it lacks a state_dict or a config")
    return content


def load_weights(net: nn.Module, state_dict: dict[str, Any], source: Path) -> None:
    """Load a task's state_dict into its network, strictly.

    Raises:
        ValueError: the keys or shapes are another architecture's; the message names the first.
    """
    weights = {key.removeprefix("net."): value for key, value in state_dict.items() if key.startswith("net.")}
    if wrong := misfits(net.state_dict(), weights):
        raise ValueError(f"{str(source)!r} is of another architecture: {first(wrong)}")
    net.load_state_dict(weights)
