"""Reader of IDX, the format of MNIST's files: two zero bytes, 8 for uint8, number of axes, their sizes, the values."""

import gzip
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor


def read_idx(path: Path) -> Tensor:
    """The uint8 array in an IDX file, gzipped or not.

    Raises:
        ValueError: the file is not IDX of uint8, or is cut short.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        zeros, kind, axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{axes}I", content, 4)
        if zeros or kind != 8:
            raise ValueError("not an IDX file of uint8")
        return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * axes).reshape(shape)
    except (ValueError, RuntimeError, EOFError, struct.error, zlib.error, gzip.BadGzipFile) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} is damaged ({reason}); remove it, or put a good copy in its place") from error
