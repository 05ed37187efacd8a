"""Times that can be compared: calls take turns, so that whatever else the machine does falls on all of them alike."""

import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, by name. Every round runs all calls once; one round before is not counted.

    The order alternates between rounds: a call that leaves the caches cold does not always hit the same neighbour.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name in list(calls) if number % 2 else reversed(calls):
            start = time.perf_counter()
            calls[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def environment_name() -> str:
    """What a results file is named by: `xeon-8375c-torch2.10.0`."""
    return f"{_processor()}-torch{torch.__version__.split('+')[0]}"


def _processor() -> str:
    if torch.cuda.is_available():
        return _word(torch.cuda.get_device_name())
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*:\s*(.*)", info.read_text())):
        name = found.group(1)
    return _word(re.sub(r"\((?:R|TM)\)|\bCPU\b|@.*|\bProcessor\b", " ", name))


def _word(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9.]+", text.lower()))
