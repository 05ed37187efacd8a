"""Compiling the native operators, and where the libraries are kept.

One library per instruction set (the driver is compiled for all of them with `--all`, otherwise for this machine's), one
for CUDA where nvcc is found; loading picks what the machine runs. One more is for tests: "threads" runs the CUDA
driver's threads one by one on the CPU. $POOLZOO_FLAGS adds flags for the C++ compiler, such as a sanitizer's.

A library's name holds a hash of its sources, flags and torch version, so that a change is a new name. Compilers work
in a temporary folder, and a finished library is moved into place with its checksum in one step each: builders at the
same time do not disturb each other, and a file that was cut short is built again.
"""

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

HERE = Path(__file__).parent
TARGET = "-DTORCH_TARGET_VERSION=0x020A000000000000"  # the stable ABI of torch 2.10
FLAGS = (
    "-std=c++20 -O3 -fPIC -fvisibility=hidden -fno-math-errno -fno-trapping-math "
    "-Wall -Wno-psabi -Wno-maybe-uninitialized"
).split()
# Multiply-adds may fuse: what is sampled (random_reducers.h, rank.h) adds and compares only.
# 1675: a pragma that is the host compiler's.
CUDA_FLAGS = "-std=c++20 -O3 --expt-relaxed-constexpr -diag-suppress=1675 -Xcompiler -fPIC,-fvisibility=hidden".split()
THREADS_FLAGS = "-std=c++20 -O2 -fPIC -fvisibility=hidden -ffp-contract=off -Wall".split()
# Of the reducers (call.h), and the types that each is compiled for.
PARTS = ("POOLZOO_REDUCERS_1", "POOLZOO_REDUCERS_2", "POOLZOO_REDUCERS_3")
STORED = ("float", "double", "BFloat16", "Half")
# From the most capable down; the names are those of torch.backends.cpu.get_cpu_capability().
INSTRUCTION_SETS = {
    "AVX512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -ffp-contract=fast".split(),
    "AVX2": "-mavx2 -mfma -ffp-contract=fast".split(),
    "DEFAULT": ["-ffp-contract=off"],
}


class BuildError(Exception):
    """A library that could not be built; the message is one line, `details` what the compiler said."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class Variant:
    """One library: `device` is "cpu", "cuda" or "threads", `arch` an instruction set, "sm_90" or its like, or "cpu".

    `plugin`: the header whose reducers it holds, in place of our own.
    """

    device: str
    arch: str
    plugin: Path | None = None

    @property
    def path(self) -> Path:
        name = "" if self.plugin is None else f"{self.plugin.stem}-"
        return cache_folder() / f"{self.device}-{self.arch.lower()}-{name}{fingerprint(self)}.so"

    @property
    def built(self) -> bool:
        """Whether the library is there and whole."""
        try:
            return self.path.with_suffix(".sha256").read_text() == checksum(self.path)
        except OSError:
            return False


THREADS = Variant("threads", "cpu")


def cache_folder() -> Path:
    """$POOLZOO_CACHE, or poolzoo/ in the user's cache folder."""
    if folder := os.environ.get("POOLZOO_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "poolzoo"


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def _sources_hash() -> str:
    text = hashlib.sha256()
    for path in sorted(p for p in HERE.iterdir() if p.suffix in (".h", ".cpp", ".cu")):
        text.update(path.name.encode() + path.read_bytes())
    return text.hexdigest()


def fingerprint(variant: Variant) -> str:
    """What a library depends on, as 16 digits: sources, flags, torch and the processor's family."""
    flags = CUDA_FLAGS if variant.device == "cuda" else [*_flags(variant), *_added_flags()]
    parts = [_sources_hash(), torch.__version__, platform.machine(), *flags]
    parts += [] if variant.plugin is None else [namespace(variant.plugin)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def reducers_in(plugin: Path) -> list[str]:
    """The reducers that a header names with POOLZOO_REDUCER(NAME).

    Raises:
        BuildError: there is no such header, or it names none.
    """
    try:
        found = re.findall(r"^POOLZOO_REDUCER\((\w+)\)", plugin.read_text(), re.MULTILINE)
    except OSError as error:
        raise BuildError(f"cannot read {str(plugin)!r}: {error.strerror}") from error
    if not found:
        raise BuildError(f"{str(plugin)!r} names no reducer; a line POOLZOO_REDUCER(Name) after its struct does")
    return found


def namespace(plugin: Path) -> str:
    """Of a plugin's operators in torch.ops: another text is another library, and may stand beside the first."""
    digest = hashlib.sha256(plugin.read_bytes()).hexdigest()[:12]
    return f"poolzoo_{re.sub(r'[^a-zA-Z0-9]', '_', plugin.stem)}_{digest}"


def _plugin_flags(plugin: Path) -> list[str]:
    added = " ".join(f"X({name})" for name in reducers_in(plugin))
    defines = [f'POOLZOO_PLUGIN="{plugin}"', f"POOLZOO_LIBRARY={namespace(plugin)}", f"POOLZOO_ADDED(X)={added}"]
    return [*(f"-D{define}" for define in defines), f"-I{HERE}"]


def _flags(variant: Variant) -> list[str]:
    return [*THREADS_FLAGS] if variant == THREADS else [*FLAGS, *INSTRUCTION_SETS[variant.arch]]


def _added_flags() -> list[str]:
    return os.environ.get("POOLZOO_FLAGS", "").split()


def usable_cpu_variants() -> list[Variant]:
    """What this machine can run, the best first."""
    sets = list(INSTRUCTION_SETS)
    capability = torch.backends.cpu.get_cpu_capability()
    start = sets.index(capability) if capability in sets else len(sets) - 1
    if platform.machine() not in ("x86_64", "AMD64"):
        start = len(sets) - 1
    return [Variant("cpu", name) for name in sets[start:]]


def compiler() -> str:
    """The C++ compiler: $CXX, else g++. Raises BuildError where there is none."""
    name = os.environ.get("CXX", "g++")
    if shutil.which(name) is None:
        raise BuildError(f"no C++ compiler ({name} is not on the PATH; install g++ 12 or newer, or set CXX)")
    return name


def cuda_home() -> Path | None:
    """The CUDA toolkit's folder: the first candidate that holds both nvcc and the run-time headers.

    The nvcc on the PATH may be a wrapper outside the toolkit, so its folder is only one candidate.
    """
    found = shutil.which("nvcc")
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    candidates += [Path(found).resolve().parent.parent] if found else []
    candidates += [Path("/usr/local/cuda"), *sorted(Path("/usr/local").glob("cuda-*"), reverse=True)]
    for folder in (Path(c) for c in candidates if c):
        if (folder / "include" / "cuda_runtime.h").exists() and (folder / "bin" / "nvcc").exists():
            return folder
    return None


def cuda_architectures() -> list[str]:
    """What to build for where nothing is said: this machine's GPUs, sm_90 without one; nothing where it cannot be."""
    if torch.version.cuda is None or cuda_home() is None:
        return []
    capabilities = {torch.cuda.get_device_capability(k) for k in range(torch.cuda.device_count())}
    return [f"sm_{major}{minor}" for major, minor in sorted(capabilities)] or ["sm_90"]


def _includes() -> list[str]:
    include = Path(torch.__file__).parent / "include"
    return [f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}"]


def compile_commands(variant: Variant, folder: Path) -> list[tuple[list[str], Path]]:
    """(command, object file) for each source of a library; those that take longest first."""
    if variant.device == "cpu":
        source, binding, define = "cpu.cpp", "binding.cpp", "POOLZOO_WIDE"
        others = ("polyphase.cpp", "max_blur.cpp", "flat_index.cpp")
        parts = [*((part, "float") for part in PARTS), ("POOLZOO_REDUCERS", "double")]
    else:
        source, binding, define = "cuda.cu", "cuda.cu", "POOLZOO_STORAGE"
        others = ("polyphase.cu", "max_blur.cu", "flat_index.cu")
        parts = [(part, stored) for stored in STORED for part in PARTS]
    if variant.device == "cuda":
        home = cuda_home()
        if home is None:
            raise BuildError("no CUDA toolkit (a folder with bin/nvcc and include/cuda_runtime.h; set CUDA_HOME)")
        command = [str(home / "bin" / "nvcc"), *CUDA_FLAGS, f"-arch={variant.arch}", "-DUSE_CUDA"]
    else:
        command = [compiler(), *_flags(variant), *_added_flags(), "-x", "c++"]
    if variant.plugin is not None:
        command += _plugin_flags(variant.plugin)
        others, parts = (), [("POOLZOO_ADDED", stored) for stored in dict.fromkeys(stored for _, stored in parts)]
    jobs = []
    for part, stored in parts:
        defines = [f"-DPOOLZOO_PART={part}", f"-D{define}={stored}"]
        jobs.append(([*command, *defines, "-c", str(HERE / source)], folder / f"{part.lower()}_{stored}.o"))
    command += [TARGET, *_includes()]
    jobs += [([*command, "-c", str(HERE / other)], folder / f"{other}.o") for other in others]
    return [*jobs, ([*command, "-DPOOLZOO_BINDING", "-c", str(HERE / binding)], folder / "binding.o")]


def link_command(variant: Variant, objects: Sequence[Path], library: Path) -> list[str]:
    lib = Path(torch.__file__).parent / "lib"
    added = [] if variant.device == "cuda" else _added_flags()
    command = [compiler(), "-shared", *added, *map(str, objects), f"-L{lib}", "-ltorch", "-ltorch_cpu", "-lc10"]
    if variant.device == "cuda":
        home = cuda_home()
        folders = [f"-L{folder}" for folder in (home / "lib64", home / "lib") if folder.exists()] if home else []
        command += ["-ltorch_cuda", *folders, "-lcudart"]
    return [*command, "-o", str(library)]


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        source = next((Path(word).name for word in command if word.endswith((".cpp", ".cu"))), "the library")
        raise BuildError(f"{Path(command[0]).name} failed on {source}", result.stderr.strip())


def build(variants: Sequence[Variant], jobs: int | None = None, force: bool = False) -> list[Variant]:
    """Build those that are not built, all their sources in parallel; gives the list of those that were.

    Raises:
        BuildError: no compiler, or it failed.
    """
    wanted = [variant for variant in variants if force or not variant.built]
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="building-") as temporary:
        commands, objects = [], {}
        for variant in wanted:
            folder = Path(temporary) / f"{variant.device}-{variant.arch}"
            folder.mkdir()
            work = compile_commands(variant, folder)
            commands += [[*command, "-o", str(target)] for command, target in work]
            objects[variant] = [target for _, target in work]
        with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
            list(pool.map(_run, commands))
        for variant in wanted:
            library = Path(temporary) / variant.path.name
            _run(link_command(variant, objects[variant], library))
            digest = library.with_suffix(".sha256")
            digest.write_text(checksum(library))
            os.replace(library, variant.path)
            os.replace(digest, variant.path.with_suffix(".sha256"))
    return wanted
