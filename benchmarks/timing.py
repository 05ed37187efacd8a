"""Times that can be compared: calls take turns, so that whatever else the machine does falls on all of them alike."""

import ctypes
import math
import platform
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

Call = Callable[[], object]


def keep_freed_memory() -> None:
    """Ask glibc to keep what is freed for the next allocation, as a GPU's allocator does.

    Otherwise every large result is mapped anew, and the system clearing its pages takes as long as a quick operator:
    all contestants would be measured by that.
    """
    trim_threshold, mmap_threshold = -1, -3
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


def wall_time(call: Call) -> float:
    """Seconds until the call has returned and the GPU, where there is one, has nothing left to do."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def device_time(call: Call) -> float:
    """Seconds that the GPU takes, by CUDA events."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    # Some 10 ms in which the host gets ahead: launching small kernels may take it longer than the device running them.
    torch.cuda._sleep(20_000_000)
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


class ColdCaches:
    """A call that leaves nothing in a device's caches but what no other call reads: 256 MB of its own, read once.

    Otherwise a tensor of some 20 MB is in the last cache or is not, by what other programs on the machine have put
    there. Reading leaves nothing to be written back while the next call is timed.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.filler = torch.ones(1 << 26, device=device)

    def __call__(self) -> None:
        self.filler.sum()


def median_interval(figures: Sequence[float]) -> tuple[float, float]:
    """The median's 95% confidence interval: the k-th smallest and the k-th largest of independent figures.

    Each lies below the median with probability 1/2 (Thompson 1936). Of fewer than six all are inside.
    """
    ordered, count = sorted(figures), len(figures)
    left_out, beyond = 0, 2.0**-count  # the probability that at most `left_out` lie below
    while beyond <= 0.025:
        left_out += 1
        beyond += math.comb(count, left_out) * 2.0**-count
    k = max(left_out, 1)
    return ordered[k - 1], ordered[-k]


def interleaved(
    calls: dict[str, Call],
    rounds: int,
    clock: Callable[[Call], float] = wall_time,
    before: Call = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each call in each round, by name. Every round runs all calls once; one round before is not counted.

    The order alternates between rounds: what a call leaves behind does not always meet the same neighbour. `before`
    is run before each call and not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name in list(calls) if number % 2 else reversed(calls):
            before()
            passed = clock(calls[name])
            if number:
                seconds[name].append(passed)
    return seconds


def repeated(
    calls: dict[str, Call], rounds: int, clock: Callable[[Call], float] = wall_time, least: float = 0.005
) -> dict[str, list[float]]:
    """As `interleaved`, for short calls: each is made in its turn as often as takes `least` seconds; seconds of one."""
    counts = {}
    for name, call in calls.items():
        call()
        counts[name] = max(1, math.ceil(least / clock(call)))

    def often(call: Call, count: int) -> Call:
        def turn() -> None:
            for _ in range(count):
                call()

        return turn

    seconds = interleaved({name: often(call, counts[name]) for name, call in calls.items()}, rounds, clock)
    return {name: [passed / counts[name] for passed in times] for name, times in seconds.items()}


def environment_name(device: str | None = None) -> str:
    """What a results file is named by: `xeon-8375c-torch2.10.0`; the GPU's name where there is one, or the device's."""
    gpu = torch.cuda.is_available() and device != "cpu"
    return f"{_word(torch.cuda.get_device_name()) if gpu else _processor()}-torch{torch.__version__.split('+')[0]}"


def _processor() -> str:
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*:\s*(.*)", info.read_text())):
        name = found.group(1)
    return _word(re.sub(r"\((?:R|TM)\)|\bCPU\b|@.*|\bProcessor\b", " ", name))


def _word(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9.]+", text.lower()))
