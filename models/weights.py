"""Weights: read from a file or published by torchvision, checked against a network, loaded.

Files are data: `torch.load(weights_only=True)` or safetensors, so that no code in them is ever run.
"""

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.placement import placed

log = logging.getLogger(__name__)


def read(file: str | Path, published: str = "torchvision") -> dict[str, Tensor]:
    """The state_dict in a file: safetensors by its suffix, otherwise torch's format; or that of a run's checkpoint.

    Args:
        published: what a user gives instead of a file for published weights.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, or with anything but tensors in it.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(
            f"weights: there is no file {str(file)!r}; give a state_dict's file (torch.save or .safetensors) or "
            f"{published!r} for the published weights"
        )
    content = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = {key.removeprefix("net."): value for key, value in content["state_dict"].items()}
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"weights: {str(file)!r} holds no state_dict: it must map names to tensors")
    return dict(content)


def _read_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"weights: cannot read {str(file)!r}: it is damaged or not safetensors ({error})") from error


def _read_torch(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"weights: refused {str(file)!r}: it is damaged, or holds code or objects and not just tensors; "
            "nothing was run"
        ) from error
    except (OSError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"weights: cannot read {str(file)!r}: it is damaged or not in torch's format") from error


def published(name: str) -> dict[str, Tensor]:
    """torchvision's best published weights of its model of this name, downloaded unless its cache has them.

    Raises:
        OSError: they cannot be downloaded.
    """
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).DEFAULT  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except OSError as error:
        raise OSError(f"weights=torchvision: cannot download {weights} ({error}); give a file: weights=FILE") from error


def misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, str]:
    """What is wrong with each tensor of `given` for a network whose state_dict is `own`, in words, by its key."""
    wrong = {key: f"missing {key}" for key in own if key not in given}
    wrong |= {key: f"unexpected {key}" for key in given if key not in own}
    wrong |= {
        key: f"{key} is {tuple(given[key].shape)}, not {tuple(tensor.shape)}"
        for key, tensor in own.items()
        if key in given and given[key].shape != tensor.shape
    }
    return wrong


def first(wrong: Mapping[str, str]) -> str:
    """The first three misfits in words, and how many more there are."""
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return "; ".join(list(wrong.values())[:3]) + more


def load(net: nn.Module, given: Mapping[str, Tensor], classifier: tuple[str, ...], new_head: bool, source: str) -> None:
    """Load a state_dict, all of it but, where they do not fit, the classifier and what replaced sites' operators own.

    Args:
        classifier: the names of the modules that depend on the number of classes and on the head.
        new_head: the head is not the paper's, so that the classifier's tensors may be other ones, not just of other
            sizes.

    Raises:
        ValueError: another tensor is missing, unexpected or of another shape; the message names the first.
    """
    rename = getattr(net, "rename", None)
    renamed = dict(given) if rename is None else {new: value for key, value in given.items() if (new := rename(key))}
    own = net.state_dict()
    wrong = misfits(own, renamed)
    replaced = {module for module in placed(net).values() if module.site.operator != "native"}  # pyright: ignore
    operators = tuple(f"{name}." for name, module in net.named_modules() if module in replaced)
    head = tuple(f"{name}." for name in classifier)

    def excused(key: str) -> bool:
        if key.startswith(head):
            return new_head or (key in own and key in renamed)
        # Files of before 2018 do not count batches.
        return key.startswith(operators) or key.endswith(".num_batches_tracked")

    if serious := {key: words for key, words in wrong.items() if not excused(key)}:
        raise ValueError(f"{source} does not fit this network: {first(serious)}")
    if not any(tensor.is_meta for tensor in own.values()):  # a network without memory is only asked whether they fit
        net.load_state_dict({key: value for key, value in renamed.items() if key not in wrong}, strict=False)
    left_out = [key for key in wrong if not key.endswith(".num_batches_tracked")]
    if left_out:
        log.warning("loaded %s but for %s", source, ", ".join(left_out))
    else:
        log.info("loaded %s", source)
