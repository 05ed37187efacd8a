"""Building and loading, as a user meets them: without a compiler, with a damaged library, twice at once."""

import os
import subprocess
import sys

import pytest

from pooling.kernels import toolchain

USE = "import torch, pooling; print(pooling.functional.max_pool2d(torch.arange(16.).view(1, 1, 4, 4), 2).sum().item())"


def python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_without_a_compiler_one_line_says_so_and_everything_works(tmp_path):
    built = python("-m", "pooling.kernels.build", "--cuda", "none", POOLZOO_CACHE=str(tmp_path), CXX="no-such-compiler")
    assert built.returncode == 0
    (line,) = built.stderr.splitlines()
    assert "no C++ compiler (no-such-compiler is not on the PATH" in line
    used = python("-c", USE, POOLZOO_CACHE=str(tmp_path))
    assert used.stdout == "40.0\n"
    (line,) = used.stderr.splitlines()
    assert "not built (python -m pooling.kernels.build); the composite backend is used" in line


def test_a_compiler_that_fails_is_reported_with_its_words(tmp_path):
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho 'unknown instruction' >&2\nexit 1\n")
    compiler.chmod(0o755)
    built = python("-m", "pooling.kernels.build", "--cuda", "none", POOLZOO_CACHE=str(tmp_path), CXX=str(compiler))
    assert built.returncode == 1
    assert "compiler failed on" in built.stderr
    assert "unknown instruction" in built.stderr
    assert not list(tmp_path.glob("*.so"))
    assert not list(tmp_path.glob("building-*"))


def test_a_damaged_library_is_not_loaded_and_is_built_again(tmp_path, monkeypatch):
    (variant, *_) = (v for v in toolchain.usable_cpu_variants() if v.built)
    whole, digest = variant.path.read_bytes(), variant.path.with_suffix(".sha256").read_text()
    monkeypatch.setenv("POOLZOO_CACHE", str(tmp_path))
    variant.path.write_bytes(whole[: len(whole) // 2])
    variant.path.with_suffix(".sha256").write_text(digest)
    assert not variant.built
    used = python("-c", USE)
    assert used.stdout == "40.0\n"
    assert "the library is damaged (python -m pooling.kernels.build)" in used.stderr

    def compile_quickly(command):  # the real one takes a minute
        target = command[command.index("-o") + 1]
        assert not target.startswith(str(variant.path)), "must not be written in place"
        with open(target, "wb") as file:
            file.write(whole)

    monkeypatch.setattr(toolchain, "_run", compile_quickly)
    assert toolchain.build([variant]) == [variant]
    assert variant.built
    assert toolchain.build([variant]) == []
    assert python("-c", USE).stderr == ""


@pytest.mark.slow
def test_two_builders_at_once_do_not_disturb_each_other(tmp_path):
    # A compiler that is quick: it compiles nothing but what says whether it did.
    compiler = tmp_path / "compiler"
    compiler.write_text(
        '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nfor k in 1 2 3 4; do echo $k >> "$2"; sleep 0.05; done\n'
    )
    compiler.chmod(0o755)
    command = [sys.executable, "-m", "pooling.kernels.build", "--cuda", "none"]
    environment = os.environ | {"POOLZOO_CACHE": str(tmp_path), "CXX": str(compiler)}
    builders = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [builder.wait() for builder in builders] == [0, 0]
    (library,) = tmp_path.glob("*.so")
    assert library.read_text() == "1\n2\n3\n4\n"
    assert library.with_suffix(".sha256").read_text() == toolchain.checksum(library)
    assert not list(tmp_path.glob("building-*"))


def test_info_says_what_is_in_use():
    said = python("-m", "pooling.kernels.info").stdout
    assert "in use" in said
    assert "Stochastic" in said


def test_a_change_of_flags_is_another_library(monkeypatch):
    (variant, *_) = toolchain.usable_cpu_variants()
    before = variant.path
    monkeypatch.setenv("POOLZOO_FLAGS", "-fsanitize=address")
    assert variant.path != before
