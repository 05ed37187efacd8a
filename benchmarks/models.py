"""python -m benchmarks.models [--models NAME ...]: what a backbone costs, and what its operators do.

Each backbone with its native pooling against torchvision's own with the same weights (`native / torchvision`), and
with each operator at its sites against native: ratios of medians, forward in evaluation mode and forward + backward in
training mode. All of them take about 20 minutes on two quiet cores: two images at the backbone's usual size, or,
where one of these costs more than 10 GFLOPs, one of 128 pixels (a segmenter's batch statistics need two); as many
rounds as fit into `--seconds`, at least 7 against torchvision, in twice the time, and 3 of the operators.

Keeps benchmarks/results/models-ENVIRONMENT.csv: the last rows of each backbone, written whenever one is measured.
"""

import argparse
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import nn

import models
import pooling
from benchmarks import tables
from benchmarks.timing import environment_name, interleaved, wall_time
from models import report

OPERATORS = ("max", "stochastic", "soft", "blur", "aps")
COLUMNS = ("model", "size", "batch", "threads", "rounds", "mode", "network", "milliseconds", "ratio", "against")
Row = tuple[str | int | float, ...]

LARGE = 10e9  # FLOPs of an image
LEAST = {"torchvision": 7, "native": 3}  # rounds, by what is compared against
MOST = 200  # rounds of any


def torchvisions(name: str) -> nn.Module | None:
    """torchvision's network of this name, or None."""
    import torchvision

    title = models.info(name).torchvision
    if title is None:
        return None
    options = {"googlenet": {"aux_logits": False, "init_weights": False}, "deeplabv3": {"weights_backbone": None}}
    return torchvision.models.get_model(title.format(backbone="resnet50"), weights=None, **options.get(name, {}))


def networks(name: str, size: int, operators: Sequence[str] = OPERATORS) -> dict[str, nn.Module]:
    """The networks to time beside each other, for images of one size, all on the same weights in the same memory.

    A max pool's branches, and so its time, depend on the values. An operator's own parameters stay its own.
    """
    classes = 21 if models.info(name).task == "segmentation" else 1000
    common = {"num_classes": classes, "image_size": size, "stem": "paper"}
    found = {"native": models.create(name, **common)}
    weights = found["native"].state_dict()
    if (theirs := torchvisions(name)) is not None:
        theirs.load_state_dict(weights, assign=True)
        found["torchvision"] = theirs
    for operator in operators:
        found[operator] = models.create(name, pooling=operator, **common)
        found[operator].load_state_dict(weights, strict=False, assign=True)
    return found


def usual(name: str) -> tuple[int, int]:
    """The side and number of the images to time a backbone with."""
    (row,) = report.rows([name])
    if row.flops <= LARGE:
        return row.image_size, 2
    return 128, 2 if models.info(name).task == "segmentation" else 1


def output(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    y = net(x)
    return y["out"] if isinstance(y, dict) else y


def forward(net: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    net.eval()

    def call() -> None:
        with torch.inference_mode():
            net(x)

    return call


def forward_backward(net: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    net.train()

    def call() -> None:
        output(net, x).sum().backward()
        net.zero_grad()

    return call


def measure(name: str, size: int, batch: int, seconds: float, operators: Sequence[str] = OPERATORS) -> list[Row]:
    """The rows of one backbone.

    Args:
        seconds: time for a comparison of the operators, where it is enough for the least number of rounds.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    nets = {key: net.to(device) for key, net in networks(name, size, operators).items()}
    x = torch.rand(batch, 3, size, size, device=device)
    theirs = nets.pop("torchvision", None)
    if theirs is not None:
        with torch.inference_mode():
            ours, same = output(nets["native"].eval(), x), output(theirs.eval(), x)
        assert (ours - same).abs().max() <= 1e-4 * same.abs().max(), f"{name}: torchvision's output is another"
    rows: list[Row] = []
    for mode, caller in (("forward", forward), ("forward+backward", forward_backward)):
        calls = {key: caller(net, x) for key, net in nets.items()}
        compare = {"native": calls}
        if theirs is not None:  # alone, so that no other call leaves its traces: this ratio is the closest call
            compare = {"torchvision": {"native": calls["native"], "torchvision": caller(theirs, x)}, **compare}
        for against, some in compare.items():
            some["native"]()
            fit = seconds * (2 if against == "torchvision" else 1) / (len(some) * wall_time(some["native"]))
            rounds = max(LEAST[against], min(MOST, int(fit)))
            times = interleaved(some, rounds)
            setting = (name, size, batch, torch.get_num_threads(), rounds, mode)
            rows += [(*setting, key, *compared(times, key, against)) for key in some if key != against]
    return rows


def compared(seconds: dict[str, list[float]], name: str, against: str) -> tuple[float, float, str]:
    """Milliseconds of a call, and the median of its rounds' ratios: what slows a round down slows both calls."""
    ratio = median(a / b for a, b in zip(seconds[name], seconds[against], strict=True))
    return round(1000 * median(seconds[name]), 2), round(ratio, 3), against


def main(given: Sequence[str] | None = None) -> None:
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser("python -m benchmarks.models", usage="%(prog)s [options]", description=about)
    # A detector's passes need targets, and its features are resnet20's.
    measured = [name for name in models.names() if models.info(name).task != "detection"]
    parser.add_argument(
        "--models", nargs="+", metavar="NAME", choices=measured, default=measured, help="all by default"
    )
    parser.add_argument("--seconds", type=float, default=3, help="for each comparison, if that is enough; 3 by default")
    parser.add_argument("--batch", type=int, help="number of images; 2 by default, 1 for large networks")
    parser.add_argument("--size", type=int, help="side of the images; by default the usual one, 128 for large networks")
    parser.add_argument("--threads", type=int, default=2, help="2 by default")
    parser.add_argument("--plugins", nargs="+", metavar="FILE", default=[], help="operators of your own, timed too")
    tables.add_output(parser)
    arguments = parser.parse_args(given)
    for name in ("threads", "batch", "size"):
        number = getattr(arguments, name)
        if number is not None and number < 1:
            parser.error(f"--{name} must be at least 1, got {number}")
    tables.make_output(parser, arguments.output)
    torch.set_num_threads(arguments.threads)
    pooling.plugins.load(arguments.plugins)
    theirs = [
        name for kind in ("reducer", "downsampler") for name in pooling.names(kind) if not pooling.info(name).ours
    ]
    file = arguments.output / f"models-{environment_name()}.csv"
    for name in arguments.models:
        size, batch = usual(name)
        rows = measure(name, arguments.size or size, arguments.batch or batch, arguments.seconds, (*OPERATORS, *theirs))
        tables.keep(rows, COLUMNS, file)
        for mode in ("forward", "forward+backward"):
            cells = [f"{network} {ratio}" for *_, its, network, _, ratio, _ in rows if its == mode]
            print(f"{name:16} {mode:17} {'  '.join(cells)}", flush=True)
    print(f"written to {file}; native is relative to torchvision, the operators to native")


if __name__ == "__main__":
    main()
