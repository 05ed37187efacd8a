"""python -m models: the zoo as a table; python -m models NAME [KEY=VALUE ...] [--plot FILE]: one network's sites."""

import argparse
from pathlib import Path
from typing import Any

from conf.command import one_line_errors
from pooling import plugins

DESCRIPTION = """The zoo as a table; with a NAME the sites of one network.

  python -m models resnet50 pooling=aps sites=all image_size=64
  python -m models convnext_atto pooling=blur pooling.filter=5 head=spp head.levels=[1,2] --plot sites.png
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m models", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="a backbone")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="arguments of models.create")
    parser.add_argument("--markdown", action="store_true", help="print the zoo as docs/models.md has it")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the resolution along the network")
    parser.add_argument(
        "--plugins", action="append", default=[], metavar="FILE", help="a file with operators of your own"
    )
    arguments = parser.parse_intermixed_args()
    with one_line_errors(show_stack=False):
        plugins.load(arguments.plugins)
        if arguments.name is None:
            if arguments.plot:
                raise ValueError("--plot needs a NAME: python -m models resnet50 --plot FILE.png")
            _print_zoo(arguments.markdown)
        else:
            _print_network(arguments.name, parsed(arguments.settings), arguments.plot)


def parsed(settings: list[str]) -> dict[str, Any]:
    """KEY=VALUE arguments as `models.create` takes them; the command line's `pooling.sites` and `model.width` too.

    >>> parsed(["pooling=blur", "pooling.filter=5", "sites=all", "model.width=8"])
    {'pooling': {'name': 'blur', 'filter': 5}, 'sites': 'all', 'width': 8}
    """
    import yaml

    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"{setting!r} is no KEY=VALUE, for example pooling=blur")
        value = yaml.safe_load(text)
        group, dot, option = key.removeprefix("model.").partition(".")
        if group in ("pooling", "head"):
            if key == "pooling.sites":
                found["sites"] = value
            elif isinstance(value, dict):
                found.setdefault(group, {}).update(value)
            else:
                found.setdefault(group, {"name": "native"})[option if dot else "name"] = value
        else:
            found[key.removeprefix("model.")] = value
    return found


def _print_zoo(markdown: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.progress import track
    from rich.table import Table

    from models import report
    from models.registry import names

    if markdown:
        print(report.markdown(report.rows()), end="")
        return
    console = _console()
    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption="size of the images in pixels; a multiply-add is two FLOPs")
    for column in report.COLUMNS:
        number = column in ("size", "params", "FLOPs", "sites")
        table.add_column(column, justify="right" if number else "left", no_wrap=number or column == "name")
    for name in track(names(), "measuring", transient=True, console=console, disable=not console.is_terminal):
        *cells, paper = report.rows([name])[0].cells()
        table.add_row(*cells, paper.split(", arXiv")[0])
    console.print(table)


def _print_network(name: str, settings: dict[str, Any], plot: Path | None) -> None:
    import logging

    import torch
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    import models
    from models import report

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    size = settings.get("image_size") or models.info(name).image_size
    with torch.device("meta"):
        net = models.create(name, **settings)
    path = report.steps(net, (1, settings.get("in_channels", 3), size, size))
    after = {step.site.name: step.resolution for step in path if step.site is not None}
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"{name} on {size}x{size} pixels", title_justify="left")
    for column in ("site", "native", "channels", "before", "after", "operator"):
        table.add_column(column, justify="right" if column in ("channels", "before", "after") else "left", no_wrap=True)
    for site in models.sites(net):
        words = report.native(site) + (", shortcut" if site.follows else "")
        sides = ["x".join(map(str, sides)) for sides in (site.resolution or (), after.get(site.name, ()))]
        table.add_row(site.name, words, str(site.channels), *sides, site.operator)
    _console().print(table)
    if plot is not None:
        report.plot(f"{name} on {size}x{size} pixels", path, plot)
        print(f"picture: {plot}")


def _console() -> Any:
    """As wide as the terminal; in a file or a pipe wide enough for every table."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=140)


if __name__ == "__main__":
    main()
