"""Networks of timm and torchvision by name, with our operators at their sites, and what their weights expect."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pooling as operators
from models import weights as weight_files
from models.library import convert
from models.placement import Choice
from pooling.operators.base import PaddingMode
from pooling.options import did_you_mean

log = logging.getLogger(__name__)

LIBRARIES = ("timm", "torchvision")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what torchvision's published weights expect

# timm's names of the global pools that the registry has, and of the class token's output.
TIMM_HEADS = {"gap": "avg", "gmp": "max", "avgmax": "avgmax", "cat_avgmax": "catavgmax", "cls": "token", "map": "map"}


@dataclass(frozen=True)
class Weights:
    """A state_dict, or None for those that timm publishes, which it loads itself; and how many classes they know."""

    tensors: dict[str, Tensor] | None
    words: str
    classes: int


def create(
    library: str,
    name: str,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 224,
    pooling: str | dict[str, Any] | None = None,
    head: str | dict[str, Any] | None = None,
    sites: str | Iterable[str] = "auto",
    padding_mode: PaddingMode | None = None,
    weights: str | Path | None = None,
) -> nn.Module:
    """Build a classifier of a library: (N, in_channels, image_size, image_size) -> logits (N, num_classes).

    Args:
        pooling, sites, padding_mode: as for `models.convert`.
        head: for timm, its global pool: "gap", "gmp", "avgmax", "cat_avgmax"; for its vision transformers "cls", "gap"
            or "map" (attention pooling). Not every network has all of them.
        weights: "default", those that the library publishes, or a state_dict's file. One whose keys are others, but
            whose tensors have this network's shapes in its order, is taken by order. Another number of classes leaves
            the classifier out; the log says so.

    Raises:
        ValueError, TypeError: unknown names, what the library's network does not take, or weights that do not fit it.
        OSError: weights that cannot be found or downloaded.
    """
    if library not in LIBRARIES:
        raise ValueError(f"library must be one of {', '.join(LIBRARIES)}, got {library!r}")
    owner = f"{library}'s {name!r}"
    given = None if weights in (None, "none") else read(library, name, weights)
    arguments: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    published = given is not None and given.tensors is None
    if library == "torchvision" and Choice.of(head) is not None:
        raise ValueError(f"{owner}: has its own head and takes no other; model=timm does")
    pool: dict[str, Any] = _timm_head(owner, head) if library == "timm" else {}
    try:
        if library == "timm":
            net = _timm(name, **arguments, pretrained=published, **pool)
        else:
            net = _torchvision(name, **arguments)
    except (AssertionError, TypeError, RuntimeError) as error:
        raise ValueError(f"{owner} cannot be built with {arguments}: {error or type(error).__name__}") from error
    if given is not None and given.tensors is not None:
        _load(net, given.tensors, num_classes, f"{owner}: {given.words}")
    example = torch.zeros(1, in_channels, image_size, image_size)
    return convert(net, pooling, sites, example, padding_mode)


def names(library: str) -> list[str]:
    """The classifiers of a library."""
    if library == "timm":
        import timm

        return timm.list_models()
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _check_name(library: str, name: str) -> None:
    known = names(library)
    if name.split(".")[0] not in known:
        raise ValueError(f"{library} has no classifier {name!r}{did_you_mean(name, known)}")


def _timm(
    name: str, num_classes: int, in_channels: int, image_size: int, pretrained: bool, **options: str
) -> nn.Module:
    import timm

    _check_name("timm", name)
    stated = timm.get_pretrained_cfg(name)
    sized = {"img_size": image_size} if stated is not None and stated.fixed_input_size else {}
    arguments: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels, **sized, **options}
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments)
    except OSError as error:
        raise OSError(f"weights=default: cannot download {name!r} ({error}); give a file: weights=FILE") from error


def _timm_head(owner: str, head: str | dict[str, Any] | None) -> dict[str, str]:
    choice = Choice.of(head)
    if choice is None:
        return {}
    if choice.name not in TIMM_HEADS:
        raise ValueError(
            f"{owner}: takes no head {choice.name!r}{did_you_mean(choice.name, TIMM_HEADS)} "
            f"(heads: native, {', '.join(TIMM_HEADS)})"
        )
    known = {} if choice.name not in operators.names("global") else operators.info(choice.name, "global").options
    if changed := [key for key, value in choice.options.items() if key not in known or value != known[key].default]:
        raise TypeError(f"{owner}: its head {choice.name!r} is timm's own and has no options, got {', '.join(changed)}")
    return {"global_pool": TIMM_HEADS[choice.name]}


def _torchvision(name: str, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    import torchvision

    _check_name("torchvision", name)
    if in_channels != 3:
        raise ValueError(f"torchvision's {name!r} takes images of 3 channels, got {in_channels}; model=timm takes any")
    build = torchvision.models.get_model_builder(name)
    options: dict[str, Any] = {"image_size": image_size} if name.startswith("vit_") else {}
    if name in ("googlenet", "inception_v3"):  # auxiliary classifiers would make the output a tuple in training
        options = {"aux_logits": False, "init_weights": False}
    return build(weights=None, num_classes=num_classes, **options)


def read(library: str, name: str, weights: str | Path) -> Weights:
    """The weights that a setting means."""
    if weights == "default" and library == "timm":
        import timm

        _check_name(library, name)
        return Weights(None, "timm's weights", timm.get_pretrained_cfg(name).num_classes)  # pyright: ignore
    if weights == "default":
        _check_name(library, name)
        tensors, words = weight_files.published(name), "torchvision's weights"
    else:
        tensors, words = weight_files.read(weights, published="default"), f"weights {str(weights)!r}"
    return Weights(tensors, words, len(list(tensors.values())[-1]))  # the classifier comes last


def _load(net: nn.Module, given: Mapping[str, Tensor], num_classes: int, source: str) -> None:
    own = net.state_dict()
    given = {key: value for key, value in given.items() if key in own or not key.startswith(("aux", "AuxLogits"))}
    outputs = [name for name, module in net.named_modules() if _width(module) == num_classes]
    classifier = tuple(outputs[-1:])
    if not own.keys() & given.keys():
        body = [key for key in own if not key.startswith(classifier)]
        if [own[key].shape for key in body] == [value.shape for value in list(given.values())[: len(body)]]:
            log.info("%s has other keys, but the shapes of this network in its order: taken by order", source)
            given = dict(zip(own, given.values(), strict=False))
    weight_files.load(net, given, classifier, False, source)


def _width(module: nn.Module) -> int | None:
    return getattr(module, "out_features", getattr(module, "out_channels", None))


# What weights trained on ImageNet expect and tell apart


def normalisation(library: str, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and deviation of each channel that a library's weights were trained with."""
    if library == "torchvision":
        return IMAGENET
    import timm

    stated = timm.get_pretrained_cfg(name)
    return IMAGENET if stated is None else (tuple(stated.mean), tuple(stated.std))


def imagenet_classes(class_names: Sequence[str]) -> list[int] | None:
    """The numbers of these classes among ImageNet's 1000, by name or WordNet identifier; None where one is no such.

    >>> imagenet_classes(["tabby cat", "n01440764"]) is None, imagenet_classes(["tiger_shark", "n01440764"])
    (True, [3, 0])
    """
    from timm.data.imagenet_info import ImageNetInfo
    from torchvision.models import ResNet50_Weights

    titles = ResNet50_Weights.DEFAULT.meta["categories"]
    numbers = {_plain(title): number for number, title in reversed(list(enumerate(titles)))}  # two names occur twice
    numbers |= {identifier: number for number, identifier in enumerate(ImageNetInfo().label_names())}
    found = [numbers.get(_plain(name)) for name in class_names]
    return None if None in found else [number for number in found if number is not None]


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ")


class Selected(nn.Module):
    """A classifier's logits of some of its classes. Shape: (N, C, H, W) -> (N, len(classes)).

    Args:
        classes: their numbers among the network's own.
    """

    def __init__(self, net: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.classes: Tensor
        self.register_buffer("classes", torch.tensor(classes), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).index_select(1, self.classes)
