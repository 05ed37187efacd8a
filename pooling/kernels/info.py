"""What is built, for which devices, and why something is not: `python -m pooling.kernels.info`."""

import sys

import torch

from pooling.kernels import native, toolchain


def describe() -> list[str]:
    """Lines for a person."""
    lines = [f"torch {torch.__version__}, processor capability {torch.backends.cpu.get_cpu_capability()}"]
    lines.append(f"cache: {toolchain.cache_folder()}")
    used = set(native.LOADED.variants.values())
    for name in toolchain.INSTRUCTION_SETS:
        variant = toolchain.Variant("cpu", name)
        runs = variant in toolchain.usable_cpu_variants()
        state = "in use" if variant in used else "built" if variant.built else "not built"
        lines.append(f"cpu  {name:8} {state}{'' if runs else ' (this machine does not run it)'}")
    home = toolchain.cuda_home()
    architectures = sorted({path.name.split("-")[1] for path in toolchain.cache_folder().glob("cuda-*.so")}) or [
        "sm_90"
    ]
    for arch in architectures:
        variant = toolchain.Variant("cuda", arch)
        state = "in use" if variant in used else "built" if variant.built else "not built"
        lines.append(f"cuda {arch:8} {state}{'' if home else ' (no CUDA toolkit found)'}")
    lines.append(f"CUDA toolkit: {home or 'none'}; GPU: {'yes' if torch.cuda.is_available() else 'none'}")
    lines += [f"{device}: {reason}" for device, reason in native.LOADED.missing.items()]
    lines.append(f"operators: {', '.join(native.REDUCERS) if native.LOADED.variants else 'none native'}")
    return lines


if __name__ == "__main__":
    print("\n".join(describe()))
    sys.exit(0)
