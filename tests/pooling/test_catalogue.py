"""The catalogue in print: docs/operators.md is what the registry says, and every operator is worked through."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pooling
from pooling import catalogue, plugins, reference, registry
from pooling.__main__ import main

ROOT = Path(__file__).parents[2]
OPERATORS = catalogue.operators(plugins=False)


def test_the_page_is_what_the_registry_says() -> None:
    page = (ROOT / "docs" / "operators.md").read_text()
    assert page == catalogue.markdown(), "print it again: python -m pooling --markdown > docs/operators.md"


def test_the_table_has_every_operator_in_lines_that_fit(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 150
    for operator in OPERATORS:
        assert any(line.split()[:2] == [operator.name, operator.kind] for line in lines)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: f"{o.name}-{o.kind}")
def test_an_operator_is_described_with_its_source_its_options_and_an_example(operator: registry.Operator) -> None:
    text = catalogue.description(operator)
    assert operator.paper in text
    assert operator.summary in text
    for option in operator.options.values():
        assert option.allowed in text.partition("Options:")[2]
    found = catalogue.example(operator)
    assert found.result.isfinite().all()
    assert found.gradient.shape == found.given.shape
    assert found.gradient.isfinite().all()
    assert found.gradient.any()


def test_an_example_leaves_torch_s_random_state_alone() -> None:
    before = torch.get_rng_state()
    catalogue.example(pooling.info("stochastic"), training=True)
    assert torch.equal(torch.get_rng_state(), before)


def shown(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_max_and_average_worked_by_hand(capsys) -> None:
    assert "y\n    [6  4]\n    [8  6]\n" in shown("max", capsys=capsys)
    assert "[0  0  0  1]\n    [0  1  0  0]\n    [0  0  0  0]\n    [0  1  0  1]\n" in shown("max", capsys=capsys)
    text = shown("avg", capsys=capsys)
    assert "y\n    [3.75  2.25]\n    [5.25  3.75]\n" in text
    assert text.count("    [0.25  0.25  0.25  0.25]\n") == 4


def test_options_of_one_s_choice_and_the_numpy_definition_beside_them(capsys) -> None:
    text = shown("lp", "p=3", "normalize=false", capsys=capsys)
    assert "pooling.reference.lp_pool2d: (mean |x_i|^p)^(1/p)" in text
    y = reference.lp_pool2d(reference.EXAMPLE, 2, p=3, normalize=False)[0, 0]
    with np.printoptions(precision=4):
        assert all(f"{value:.4g}" in text for value in y.ravel())


def test_a_random_operator_shows_a_draw_and_the_rule_of_eval_mode(capsys) -> None:
    text = shown("stochastic", capsys=capsys)
    drawn = text.partition("y in training, seed 0\n")[2].partition("gradient")[0]
    windows = [(1, 3, 5, 6), (2, 4, 1, 2), (7, 2, 4, 8), (3, 1, 5, 6)]
    assert all(float(v) in w for v, w in zip(drawn.replace("[", "").replace("]", "").split(), windows, strict=True))
    assert f"{(1 + 9 + 25 + 36) / 15:.4g}" in text.partition("y in eval mode")[2]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["sotf"], "did you mean 'soft'?"),
        (["soft", "beta=-1"], "soft: beta must be a number > 0, got -1"),
        (["soft", "bta=1"], "did you mean 'beta'?"),
        (["soft", "2"], "'2' is no OPTION=VALUE"),
        (["gap", "--kind", "reducer"], "'gap' is not registered"),
        (["--plugins", "/no/such.py"], "there is no plugin file '/no/such.py'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(arguments: list[str], words: str, capsys) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_plugin_is_in_the_table_and_not_on_the_page(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    monkeypatch.setattr(plugins, "_loaded", set())
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch, pooling\n\n"
        "@pooling.register('mine', kind='reducer', paper='nobody 2030')\n"
        "class Mine(pooling.WindowPool2d):\n"
        "    'The range of each window.'\n"
        "    def __init__(self, *, factor: int, **geometry):\n"
        "        super().__init__(**geometry)\n"
        "        self.factor = factor\n"
        "    def reduce(self, x, window):\n"
        "        f = pooling.functional\n"
        "        return self.factor * (f.max_pool2d(x, window) - f.min_pool2d(x, window))\n"
    )
    text = shown("--plugins", str(file), capsys=capsys)
    assert "The range of each window." in text
    text = shown("mine", "factor=3", capsys=capsys)
    assert "y\n    [15   9]\n    [18  15]\n" in text
    assert "must be given" not in text
    assert "mine" not in catalogue.markdown()


@pytest.mark.parametrize(
    "value, text", [(1 / 32, "0.03125"), (0.28125 * 1e-4, "2.813e-05"), (1e-17, "0"), (-2.5, "-2.5")]
)
def test_numbers_do_not_hang_on_the_last_bit(value: float, text: str) -> None:
    for near in (np.nextafter(value, -1), value, np.nextafter(value, 1)):
        assert catalogue.number(near) == text


def test_it_needs_torch_and_numpy_alone() -> None:
    code = "import sys, pooling.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"hydra", "omegaconf", "pytorch_lightning", "rich", "torchvision", "matplotlib"} & set(loaded.split())
