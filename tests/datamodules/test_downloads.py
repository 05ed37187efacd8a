"""Files in their real formats where they are present, and one clear line where they are not. No network."""

import gzip
import hashlib
import pickle
import struct
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

import datamodules
from datamodules import DataUnavailable, mnist
from datamodules.idx import read_idx

SIZES = {"train": 30, "t10k": 10}


def idx(values):
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx_files(folder, zipped=True, seed=0):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for part, N in SIZES.items():
        arrays = {
            "images-idx3": rng.integers(0, 256, (N, 28, 28), dtype=np.uint8),
            "labels-idx1": (np.arange(N) % 10).astype(np.uint8),
        }
        for kind, values in arrays.items():
            path = folder / f"{part}-{kind}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(idx(values)) if zipped else idx(values))


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No network, and no system folder with Fashion-MNIST."""

    def refuse(*args, **kwargs):
        raise URLError("[Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", refuse)
    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", refuse)
    monkeypatch.setattr(mnist, "DEBIAN", tmp_path / "no-such-folder")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_files_in_torchvisions_folder_are_read(tmp_path, name, folder, zipped):
    write_idx_files(tmp_path / folder / "raw", zipped)
    dataset = datamodules.load(name, root=str(tmp_path))
    rng = np.random.default_rng(0)
    expected = rng.integers(0, 256, (30, 28, 28), dtype=np.uint8)
    assert torch.equal(dataset.train.images, torch.from_numpy(expected)[:, None])
    assert dataset.train.targets.tolist() == [i % 10 for i in range(30)]
    assert (len(dataset.test), dataset.test.targets.dtype, len(dataset.class_names)) == (10, torch.int64, 10)


def test_fashion_mnist_is_found_where_debian_puts_it(tmp_path, monkeypatch):
    write_idx_files(tmp_path / "system")
    monkeypatch.setattr(mnist, "DEBIAN", tmp_path / "system")
    assert len(datamodules.load("fashion_mnist", root=str(tmp_path / "data")).train) == 30
    assert not (tmp_path / "data").exists()


def test_files_of_ones_own_come_before_the_systems(tmp_path, monkeypatch):
    write_idx_files(tmp_path / "system", seed=1)
    write_idx_files(tmp_path / "data/FashionMNIST/raw", seed=2)
    monkeypatch.setattr(mnist, "DEBIAN", tmp_path / "system")
    dataset = datamodules.load("fashion_mnist", root=str(tmp_path / "data"))
    expected = np.random.default_rng(2).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    assert torch.equal(dataset.train.images[:, 0], torch.from_numpy(expected))


def test_torchvisions_download_is_used_where_nothing_is_present(tmp_path, monkeypatch):
    def fetch(root, download):
        assert download
        write_idx_files(root / "MNIST" / "raw", zipped=False)

    monkeypatch.setattr(torchvision.datasets, "MNIST", fetch)
    assert len(datamodules.load("mnist", root=str(tmp_path)).train) == 30


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mnist", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "MNIST/raw", "name resolution"]),
        ("fashion_mnist", ["train-labels-idx1-ubyte.gz", "FashionMNIST/raw", "dataset-fashion-mnist"]),
        ("cifar10", ["cifar-10-python.tar.gz", "name resolution"]),
        ("cifar100", ["cifar-100-python.tar.gz"]),
    ],
)
def test_a_failed_download_says_in_one_line_what_to_put_where(tmp_path, name, expected):
    with pytest.raises(DataUnavailable) as caught:
        datamodules.create(name, root=str(tmp_path)).prepare_data()
    message = str(caught.value)
    assert "\n" not in message
    assert isinstance(caught.value, FileNotFoundError)
    for part in (f"data set {name!r} is not on this machine and cannot be downloaded", str(tmp_path), *expected):
        assert part in message


@pytest.mark.parametrize("damage", [lambda b: b[:100], lambda b: b"", lambda b: b"not an idx file", lambda b: b[:-40]])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_file_is_named(tmp_path, damage, zipped):
    write_idx_files(tmp_path / "MNIST/raw", zipped)
    path = next((tmp_path / "MNIST/raw").glob("t10k-images*"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"t10k-images.* is damaged \(.*\); remove it") as caught:
        datamodules.load("mnist", root=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_idx_keeps_shape_and_values(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "file").write_bytes(idx(values))
    assert torch.equal(read_idx(tmp_path / "file"), torch.from_numpy(values))


def test_cifar_is_read_from_torchvisions_files(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    cls = torchvision.datasets.CIFAR10
    folder = tmp_path / cls.base_folder
    folder.mkdir()

    def write(name, content):
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    pixels = rng.integers(0, 256, (6, 3 * 32 * 32), dtype=np.uint8)
    train = write("data_batch_1", {"data": pixels, "labels": [0, 1, 2, 3, 4, 5]})
    test = write("test_batch", {"data": pixels[:2], "labels": [7, 8]})
    meta = write("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    monkeypatch.setattr(cls, "train_list", [["data_batch_1", train]])
    monkeypatch.setattr(cls, "test_list", [["test_batch", test]])
    monkeypatch.setattr(cls, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})

    dataset = datamodules.load("cifar10", root=str(tmp_path))
    assert torch.equal(dataset.train.images, torch.from_numpy(pixels).view(6, 3, 32, 32))
    assert (dataset.test.targets.tolist(), dataset.class_names[3]) == ([7, 8], "class 3")
