"""What CONTRIBUTING.md shows works as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import datamodules
import models
import pooling
from datamodules import registry as data_registry
from models import registry as model_registry
from pooling import plugins, registry
from pooling.kernels import build, native, toolchain

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)


def block(language: str, words: str) -> str:
    (found,) = [text for its, text in BLOCKS if its == language and words in text]
    return found


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    monkeypatch.setattr(model_registry, "_backbones", dict(model_registry._backbones))
    monkeypatch.setattr(data_registry, "_sets", dict(data_registry._sets))
    monkeypatch.setattr(plugins, "_loaded", set())
    monkeypatch.setattr(native, "PLUGINS", dict(native.PLUGINS))


@pytest.fixture
def midrange(tmp_path: Path) -> Path:
    file = tmp_path / "midrange.py"
    file.write_text(block("python", '"midrange", kind'))
    return file


def test_the_operator(midrange: Path) -> None:
    plugins.load([midrange])
    x = torch.tensor([[1.0, 2], [3, 9]])[None, None]
    assert pooling.create("midrange", kernel_size=2, weight=0.25)(x).item() == 0.25 * 9 + 0.75 * 1
    with pytest.raises(ValueError, match="weight must be a number >= 0 and <= 1, got 2"):
        pooling.create("midrange", weight=2)


def with_native(midrange: Path) -> Path:
    midrange.with_suffix(".h").write_text(block("cpp", "struct Midrange"))
    midrange.write_text(f"{midrange.read_text()}\n\n{block('python', 'midrange_native')}")
    return midrange


def test_the_native_operator_without_its_library(midrange: Path, monkeypatch, tmp_path, caplog) -> None:
    monkeypatch.setenv("POOLZOO_CACHE", str(tmp_path / "empty"))
    plugins.load([with_native(midrange)])
    x = torch.rand(1, 2, 6, 6)
    operator = pooling.create("midrange_native", kernel_size=2)
    assert torch.equal(operator(x), pooling.create("midrange", kernel_size=2)(x))
    operator(x)
    (record,) = caplog.records  # once
    assert f"not built (python -m pooling.kernels.build --plugins {midrange.with_suffix('.h')})" in record.getMessage()
    assert pooling.info("midrange_native").native == ()
    with (
        pooling.backend("native"),
        pytest.raises(RuntimeError, match=r"midrange_native: no native operator.*not built"),
    ):
        operator(x)


@pytest.mark.slow
def test_the_native_operator_passes_the_conformance_suite(midrange: Path) -> None:
    if "cpu" not in native.LOADED.variants:
        pytest.skip(f"native operators: {native.LOADED.missing['cpu']}")
    header = with_native(midrange).with_suffix(".h")
    assert build.main(["--plugins", str(header), "--cuda", "none"]) == 0
    plugins.load([midrange])
    assert pooling.info("midrange_native").native == ("cpu",)
    x = torch.rand(2, 3, 9, 8)
    with pooling.backend("native"):
        y = pooling.create("midrange_native", kernel_size=3, stride=2, padding=1)(x)
    torch.testing.assert_close(y, pooling.create("midrange", kernel_size=3, stride=2, padding=1)(x))

    suite = ["tests/pooling/test_conformance.py", "--plugins", str(midrange), "-k", "midrange and not inductor", "-x"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *suite]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]


def test_a_header_s_mistakes_are_said(tmp_path: Path, capsys) -> None:
    header = tmp_path / "mine.h"
    assert build.main(["--plugins", str(header)]) == 1
    assert "cannot read" in capsys.readouterr().err
    header.write_text("struct Mine {};\n")
    assert build.main(["--plugins", str(header)]) == 1
    assert "names no reducer; a line POOLZOO_REDUCER(Name)" in capsys.readouterr().err

    header.write_text("POOLZOO_REDUCER(Max)\n")
    with pytest.raises(ValueError, match="there is a reducer Max already; choose another name"):
        native.add(header, Max=lambda x, window, parameter: x)
    header.write_text("POOLZOO_REDUCER(Mine)\n")
    with pytest.raises(ValueError, match="names Mine, composites are for Main"):
        native.add(header, Main=lambda x, window, parameter: x)


def test_a_header_that_changes_is_another_library(tmp_path: Path) -> None:
    header = tmp_path / "mine.h"
    header.write_text("POOLZOO_REDUCER(Mine)\n")
    before = toolchain.Variant("cpu", "AVX2", header).path
    assert before != toolchain.Variant("cpu", "AVX2").path
    header.write_text("POOLZOO_REDUCER(Mine)  \n")
    assert toolchain.Variant("cpu", "AVX2", header).path != before


def test_the_backbone() -> None:
    exec(block("python", '@register("tiny"'), {})
    net = models.create("tiny", num_classes=5, pooling="blur", width=8)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    assert [site.operator for site in models.sites(net)] == ["blur"]


def test_the_data_set(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    rng = np.random.default_rng(0)
    parts = {"train": 40, "test": 10}
    images = {f"{part}_images": rng.integers(256, size=(n, 3, 40, 40), dtype=np.uint8) for part, n in parts.items()}
    np.savez(file, **images, **{f"{part}_labels": rng.integers(2, size=n) for part, n in parts.items()})
    exec(block("python", '@register("mine"'), {})
    data = datamodules.create("mine", file=str(file), seed=0)
    data.setup()
    assert (data.num_classes, data.image_size) == (2, 40)
    assert data.sizes["test"] == 10
