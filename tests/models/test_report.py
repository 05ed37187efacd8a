"""python -m models: the table, one network's sites, the picture, and the page in docs/."""

import itertools
import sys
from pathlib import Path

import pytest
import torch

import models
from models import report
from models.__main__ import main, parsed

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.fixture
def call(monkeypatch, capsys):
    """`call("resnet50", "pooling=aps")`: exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["models", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return run


def test_the_page_in_docs_is_what_the_command_prints(call):
    code, printed, _ = call("--markdown")
    assert code == 0
    assert printed == PAGE.read_text()
    assert all(f"| `{name}` |" in printed for name in models.names())


def test_the_table_names_what_its_columns_say(call, monkeypatch):
    monkeypatch.setattr("models.registry.names", lambda task=None: ["resnet18"])
    code, printed, _ = call()
    assert code == 0
    for word in ("resnet18", "11.69 M", "3.63 G", "conv 7x7/2, max 3x3/2, 3 conv 3x3/2, gap", "He et al. 2016"):
        assert word in printed


def test_one_networks_sites_with_resolution_and_operator(call):
    code, printed, _ = call("resnet50", "pooling=aps", "pooling.sites=all", "image_size=64")
    assert code == 0
    (line,) = [line for line in printed.splitlines() if "layer3.0.conv2" in line]
    assert line.split() == ["layer3.0.conv2", "conv", "3x3/2", "256", "16x16", "8x8", "aps"]
    assert "shortcut" in printed


@pytest.mark.parametrize("name", ["lenet5", "googlenet", "efficientnet_b0", "unet"])
def test_the_path_falls_only_at_sites_and_ends_where_the_head_begins(name):
    size = models.info(name).image_size
    with torch.device("meta"):
        net = models.create(name, pooling="blur", sites="all")
    path = report.steps(net, (1, 3, size, size))
    assert path[0].resolution == (size, size)
    falls = [step.site for before, step in itertools.pairwise(path) if 2 * step.resolution[0] <= before.resolution[0]]
    assert [site.name for site in falls if site] == [site.name for site in models.sites(net)]


def test_the_picture(call, tmp_path):
    file = tmp_path / "sites.png"
    code, printed, _ = call("lenet5", "pooling=blur", "--plot", file)
    assert code == 0
    assert str(file) in printed
    assert file.read_bytes().startswith(b"\x89PNG")


def test_settings_are_those_of_create_and_of_the_command_line():
    settings = [
        "pooling=blur",
        "pooling.filter=5",
        "pooling.sites=all",
        "model.width=8",
        "head.levels=[1,2]",
        "head=spp",
    ]
    assert parsed(settings) == {
        "pooling": {"name": "blur", "filter": 5},
        "sites": "all",
        "width": 8,
        "head": {"name": "spp", "levels": [1, 2]},
    }
    assert parsed(["pooling={name: blur, filter: 5}"]) == {"pooling": {"name": "blur", "filter": 5}}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["resnet5O"], "did you mean"),
        (["resnet50", "pooling=stochastc"], "did you mean 'stochastic'"),
        (["resnet50", "pooling"], "'pooling' is no KEY=VALUE"),
        (["resnet50", "widht=3"], "no option 'widht'"),
        (["--plot", "x.png"], "--plot needs a NAME"),
    ],
)
def test_mistakes_are_one_line(arguments, words, call):
    code, _, err = call(*arguments)
    assert code == 1
    assert words in err
    assert len(err.strip().splitlines()) == 1
