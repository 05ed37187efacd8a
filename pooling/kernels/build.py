"""Build the native operators: `python -m pooling.kernels.build`."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pooling.kernels import toolchain
from pooling.kernels.toolchain import BuildError, Variant


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 also where there is no compiler: everything works without, only slower. 1: a compiler failed."""
    parser = argparse.ArgumentParser(prog="python -m pooling.kernels.build", description="Build the native operators.")
    parser.add_argument("--all", action="store_true", help="every instruction set, not only this machine's")
    parser.add_argument(
        "--cuda",
        default="auto",
        help="architectures such as sm_90,sm_100; none; auto: where nvcc is, this machine's GPU's, sm_90 without one",
    )
    parser.add_argument("--threads", action="store_true", help="the CUDA driver's threads on the CPU, for tests")
    parser.add_argument("--force", action="store_true", help="build again what is built")
    parser.add_argument("--jobs", type=int, help="compilers at a time (default: the number of processors)")
    parser.add_argument("--plugins", nargs="+", type=Path, metavar="HEADER", help="reducers of your own, and no other")
    options = parser.parse_args(arguments)
    variants = toolchain.usable_cpu_variants()[:1]
    if options.all:
        variants = [Variant("cpu", name) for name in toolchain.INSTRUCTION_SETS]
    architectures = toolchain.cuda_architectures() if options.cuda == "auto" else options.cuda.split(",")
    variants += [Variant("cuda", arch) for arch in architectures if arch != "none"]
    variants += [toolchain.THREADS] if options.threads else []
    if options.plugins:
        headers = [header.resolve() for header in options.plugins]
        try:
            for header in headers:
                toolchain.reducers_in(header)
        except BuildError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        variants = [replace(v, plugin=h) for h in headers for v in variants if v != toolchain.THREADS]
    return max(_build(variant, options.jobs, options.force) for variant in variants)


def _build(variant: Variant, jobs: int | None, force: bool) -> int:
    """One library, so that the others are there where its compiler fails."""
    what = "native operators" if variant.plugin is None else str(variant.plugin)
    name = f"{what} for {variant.device} ({variant.arch})"
    started = time.perf_counter()
    try:
        built = toolchain.build([variant], jobs, force)
    except BuildError as error:
        print(f"{name}: not built: {error}; the composite backend is used", file=sys.stderr)
        print(error.details, end="\n" if error.details else "", file=sys.stderr)
        return 1 if error.details else 0
    print(f"{name}: {f'built in {time.perf_counter() - started:.0f} s' if built else 'up to date'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
