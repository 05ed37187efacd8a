"""python -m benchmarks.models [--models NAME ...] [--rounds N]: what a backbone costs, and what its operators do.

Each backbone with its native pooling against torchvision's own (`native / torchvision`), and with each operator at its
sites against native: ratios of medians, forward in evaluation mode and forward + backward in training mode. Writes
benchmarks/results/models-ENVIRONMENT.csv.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import nn

import models
import pooling
from benchmarks.timing import RESULTS, environment_name, interleaved

OPERATORS = ("max", "stochastic", "soft", "blur", "aps")
Row = tuple[str, int, int, str, str, float, float, str]
COLUMNS = ("model", "size", "batch", "mode", "network", "milliseconds", "ratio", "against")


def torchvisions(name: str) -> nn.Module | None:
    """torchvision's network of this name, or None."""
    import torchvision

    title = models.info(name).torchvision
    if title is None:
        return None
    options = {"googlenet": {"aux_logits": False, "init_weights": False}, "deeplabv3": {"weights_backbone": None}}
    return torchvision.models.get_model(title.format(backbone="resnet50"), weights=None, **options.get(name, {}))


def networks(name: str, size: int, operators: Sequence[str] = OPERATORS) -> dict[str, nn.Module]:
    """The networks to time beside each other, all for images of one size; an operator that cannot stand is left out."""
    classes = 21 if models.info(name).task == "segmentation" else 1000
    common = {"num_classes": classes, "image_size": size, "stem": "paper"}
    found = {"native": models.create(name, **common)}
    theirs = torchvisions(name)
    if theirs is not None:
        # A max pool's branches, and so its time, depend on the values.
        theirs.load_state_dict(found["native"].state_dict())
        found["torchvision"] = theirs
    return found | {operator: models.create(name, pooling=operator, **common) for operator in operators}


def forward(net: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def call() -> None:
        net.eval()
        with torch.inference_mode():
            net(x)

    return call


def forward_backward(net: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def call() -> None:
        net.train()
        y = net(x)
        (y["out"] if isinstance(y, dict) else y).sum().backward()
        net.zero_grad()

    return call


def measure(name: str, size: int, batch: int, rounds: int, operators: Sequence[str] = OPERATORS) -> list[Row]:
    """The rows of one backbone; twice the rounds for native against torchvision, whose ratio is the closest call."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    nets = {key: net.to(device) for key, net in networks(name, size, operators).items()}
    x = torch.rand(batch, 3, size, size, device=device)
    rows: list[Row] = []
    for mode, caller in (("forward", forward), ("forward+backward", forward_backward)):
        calls = {key: caller(net, x) for key, net in nets.items()}
        theirs = calls.pop("torchvision", None)
        if theirs is not None:
            pair = interleaved({"native": calls["native"], "torchvision": theirs}, 2 * rounds)
            rows.append((name, size, batch, mode, "native", *compared(pair, "native", "torchvision")))
        seconds = interleaved(calls, rounds)
        rows += [(name, size, batch, mode, key, *compared(seconds, key, "native")) for key in calls if key != "native"]
    return rows


def compared(seconds: dict[str, list[float]], name: str, against: str) -> tuple[float, float, str]:
    """Milliseconds of a call, and the median of its rounds' ratios: what slows a round down slows both calls."""
    ratio = median(a / b for a, b in zip(seconds[name], seconds[against], strict=True))
    return round(1000 * median(seconds[name]), 2), round(ratio, 3), against


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.models", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", nargs="+", metavar="NAME", default=models.names(), help="all by default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, help="side of the images; the backbone's usual one by default")
    parser.add_argument("--plugins", nargs="+", metavar="FILE", default=[], help="operators of your own, timed too")
    arguments = parser.parse_args()
    pooling.plugins.load(arguments.plugins)
    theirs = [
        name for kind in ("reducer", "downsampler") for name in pooling.names(kind) if not pooling.info(name).ours
    ]
    rows: list[Row] = []
    for name in arguments.models:
        size = arguments.size or models.info(name).image_size
        of_this = measure(name, size, arguments.batch, arguments.rounds, (*OPERATORS, *theirs))
        rows += of_this
        for mode in ("forward", "forward+backward"):
            cells = [f"{network} {ratio}" for *_, its, network, _, ratio, _ in of_this if its == mode]
            print(f"{name:16} {mode:17} {'  '.join(cells)}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"models-{environment_name()}.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    print(f"written to {file}; native is relative to torchvision, the operators to native")


if __name__ == "__main__":
    main()
