"""Downloads that fail in one clear line."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datamodules.dataset import DataUnavailable


def download(name: str, fetch: Callable[[], Any], files: Sequence[str], folder: Path, also: str = "") -> Any:
    """What `fetch` returns, which downloads a data set's files.

    Args:
        files, folder: what to put where by hand, for the message; `also`: another way to get the files.
    Raises:
        DataUnavailable: `fetch` failed.
    """
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # without one, a firewall that drops packets stops the program for good
    try:
        return fetch()
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataUnavailable(
            f"data set {name!r} is not on this machine and cannot be downloaded ({reason[:200]}); "
            f"put {', '.join(files)} into {folder}{also}"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
