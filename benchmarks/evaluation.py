"""python -m benchmarks.evaluation: does a grid evaluation cost what its forward passes cost?

Images per second of a 15x15 grid evaluation (225 passes an image) against plain inference at the same batch size, both
from uint8 images in memory on the device. The goal is a ratio of at least 0.9.
"""

import argparse
import statistics
from collections.abc import Sequence

import torch

import models
from benchmarks import tables
from benchmarks.timing import environment_name
from datamodules.transforms import normalise
from evaluation.efficiency import timed
from evaluation.shift import Grid, measure, passes

NETWORKS = (("lenet5", 32, 250), ("resnet20", 32, 50), ("resnet18", 64, 8))  # name, image size, batch size
GRID = Grid(m=7)


def benchmark(name: str, image_size: int, batch_size: int, device: torch.device, rounds: int) -> dict[str, object]:
    """One row of the table: medians over rounds, in which the two take turns."""
    torch.manual_seed(0)
    net = models.create(name, num_classes=10, image_size=image_size, in_channels=3).eval().to(device)
    images = torch.randint(256, (batch_size, 3, image_size, image_size), dtype=torch.uint8, device=device)
    targets, indices = torch.randint(10, (batch_size,), device=device), torch.arange(batch_size)
    mean, std = torch.full((3,), 0.5, device=device), torch.full((3,), 0.25, device=device)

    def predict(x: torch.Tensor) -> torch.Tensor:
        return net(normalise(x, mean, std))

    count = passes([GRID], batch_size) // batch_size

    def plain() -> None:
        with torch.no_grad():
            for _ in range(count):
                predict(images)

    def grid() -> None:
        measure(predict, [(images, targets, indices)], [GRID])

    grid()  # warms up both
    seconds = [(timed(plain, device), timed(grid, device)) for _ in range(rounds)]
    rates = [statistics.median(count * batch_size / s for s in column) for column in zip(*seconds, strict=True)]
    ratio = statistics.median(plain / grid for plain, grid in seconds)
    return {
        "network": name, "image_size": image_size, "batch_size": batch_size, "grid": "15x15",
        "plain_images_per_second": round(rates[0], 1), "grid_images_per_second": round(rates[1], 1),
        "ratio": round(ratio, 3), "rounds": rounds, "threads": torch.get_num_threads(),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="timings of each, of which the median counts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    tables.add_output(parser)
    options = parser.parse_args(arguments)
    tables.make_output(parser, options.output)
    device = torch.device(options.device)
    rows = []
    for network in NETWORKS:
        rows.append(benchmark(*network, device, options.rounds))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    file = options.output / f"evaluation-{environment_name(device.type)}.csv"
    tables.keep([tuple(row.values()) for row in rows], tuple(rows[0]), file)
    print(f"written to {file}")


if __name__ == "__main__":
    main()
