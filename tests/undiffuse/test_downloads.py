"""Downloads against a server of our own: cuts, wrong bytes, no server at all, odd archives."""

import gzip
import hashlib
import io
import pickle
import socket
import struct
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from undiffuse import data, downloads, sources

FILE = "file.bin"
CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``cut_at``, ``codes`` and ``ranges`` make it behave badly."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {FILE: CONTENT}
        self.cut_at: list[int] = []  # for each answer in turn: after how many bytes it is cut
        self.codes: list[int] = []  # for each answer in turn: an error to give
        self.ranges = True
        self.told_length = True
        self.shift = 0  # by how much a range's beginning is wrong
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server: Server = self.server
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if server.codes:
            self.send_error(server.codes.pop(0))
            return
        content = server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        total, start = len(content), 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-")) + server.shift
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if server.told_length:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        stop = start + server.cut_at.pop(0) if server.cut_at else total
        self.wfile.write(content[start:stop])
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    s = Server()
    thread = threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield s
    s.shutdown()
    s.server_close()
    thread.join()


@pytest.fixture
def place(server, tmp_path, monkeypatch):
    """A set called "toy" at the server; its folder."""
    monkeypatch.setenv("UNDIFFUSE_DOWNLOADS", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    toy(monkeypatch, server.address, {FILE: CONTENT})
    return tmp_path / "toy"


def toy(monkeypatch, address, files, **more):
    remote = downloads.Remote(
        address=address,
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        licence="none",
        about="a toy",
        size="1 MB",
        shipped="mnist10k",
        **more,
    )
    monkeypatch.setitem(downloads.SETS, "toy", remote)


def fetch(**more):
    return downloads.fetch("toy", **{"progress": False, "pause": 0.0, "timeout": 5.0, **more})


def test_a_file_arrives_whole_and_is_not_asked_for_twice(server, place):
    assert fetch() == {FILE: place / FILE}
    assert (place / FILE).read_bytes() == CONTENT
    assert [p.name for p in place.iterdir()] == [FILE]
    fetch()
    assert len(server.asked) == 1


def test_a_cut_download_goes_on_where_it_stopped(server, place):
    server.cut_at = [100_000, 50_000]
    fetch()
    assert (place / FILE).read_bytes() == CONTENT
    assert [r for _, r in server.asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_the_next_call_goes_on_too(server, place):
    server.cut_at = [100_000]
    with pytest.raises(downloads.DownloadFailed, match="100,000 bytes are kept"):
        fetch(retries=0)
    assert not (place / FILE).exists()
    fetch()
    assert (place / FILE).read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=100000-"


def test_a_server_without_ranges_starts_over(server, place):
    server.ranges = False
    server.cut_at = [100_000]
    fetch()
    assert (place / FILE).read_bytes() == CONTENT


def test_a_server_that_goes_on_in_the_wrong_place_is_not_believed(server, place):
    server.cut_at = [100_000]
    server.shift = 7
    fetch()
    assert (place / FILE).read_bytes() == CONTENT
    assert server.asked[-1][1] is None


def test_a_server_that_does_not_tell_the_length(server, place):
    server.told_length = False
    fetch()
    assert (place / FILE).read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_used(server, place):
    place.mkdir()
    (place / f"{FILE}.part").write_bytes(CONTENT)
    fetch()
    assert (place / FILE).read_bytes() == CONTENT


def test_a_stale_part_is_thrown_away(server, place):
    place.mkdir()
    for stale in (b"x" * 1000, b"x" * 400_000):
        (place / f"{FILE}.part").write_bytes(stale)
        fetch()
        assert (place / FILE).read_bytes() == CONTENT
        (place / FILE).unlink()


def test_the_wrong_file_is_refused_by_name(server, place):
    server.files[FILE] = CONTENT[:-1] + b"!"
    with pytest.raises(downloads.DamagedDownload, match=FILE) as e:
        fetch()
    assert hashlib.sha256(CONTENT).hexdigest() in str(e.value)
    assert hashlib.sha256(server.files[FILE]).hexdigest() in str(e.value)
    assert not any(place.iterdir())
    assert len(server.asked) == 1


def test_a_damaged_file_in_the_folder_is_refused_and_left_alone(server, place):
    place.mkdir()
    (place / FILE).write_bytes(b"damaged")
    with pytest.raises(downloads.DamagedDownload, match=FILE) as e:
        fetch()
    assert hashlib.sha256(b"damaged").hexdigest() in str(e.value)
    assert (place / FILE).read_bytes() == b"damaged" and not server.asked


def test_errors_that_pass_are_tried_again(server, place):
    server.codes = [503, 429]
    fetch()
    assert len(server.asked) == 3


def test_a_missing_file_is_not_asked_for_again(server, place):
    server.files.clear()
    with pytest.raises(downloads.DownloadFailed, match="404"):
        fetch()
    assert len(server.asked) == 1


def test_offline_says_what_was_tried_and_what_serves_instead(place, monkeypatch):
    with socket.socket() as s:  # a port that nobody listens at
        s.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{s.getsockname()[1]}/"
    toy(monkeypatch, address, {FILE: CONTENT})
    with pytest.raises(downloads.DownloadFailed) as e:
        fetch(retries=2)
    for words in (
        f"tried: {address}{FILE}",
        "try 3: no connection",
        "Nothing else in the course needs it",
        "data.load('mnist10k')",
        str(place / FILE),
        "UNDIFFUSE_DOWNLOADS",
    ):
        assert words in str(e.value)


def test_a_silent_server_counts_as_cut(place, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as s:
        toy(monkeypatch, f"http://127.0.0.1:{s.getsockname()[1]}/", {FILE: CONTENT})
        with pytest.raises(downloads.DownloadFailed, match="timed out"):
            fetch(retries=0, timeout=0.1)


def test_a_folder_that_cannot_be_made(server, place):
    place.write_text("a file in the way")
    with pytest.raises(downloads.DownloadFailed, match="cannot be made"):
        fetch()


def test_nothing_is_downloaded_unasked(server, place, monkeypatch):
    toy(monkeypatch, server.address, {FILE: CONTENT}, reader="idx")
    with pytest.raises(downloads.NotDownloaded, match=r"downloads\.fetch\('toy'\)"):
        downloads.load("toy")
    assert not server.asked


def test_unknown_names(monkeypatch):
    with pytest.raises(ValueError, match="no download is called 'minst': there are mnist, fashion"):
        downloads.fetch("minst")
    with pytest.raises(ValueError, match="not a set of images"):
        downloads.load("speech_commands")


def test_the_table_is_complete():
    for name, remote in downloads.SETS.items():
        assert remote.address.startswith("http") and remote.address.endswith("/")
        assert all(len(sha) == 64 and int(sha, 16) for sha in remote.files.values()), name
        assert bool(remote.files) != bool(remote.archive), name
        assert remote.licence and remote.about and remote.size
        if remote.reader:
            assert len(remote.classes) == 10 and remote.shipped in data.sets()
    assert next(iter(downloads.SETS["mnist"].files)) == "train-images-idx3-ubyte.gz"


# ------------------------------------------------------------------------------------ file formats


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(head + array.tobytes())


def test_a_full_set_is_read(server, place, monkeypatch):
    rng = np.random.default_rng(1)
    train, test = (rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (30, 10))
    labels = [np.arange(n, dtype=np.uint8) % 10 for n in (30, 10)]
    names = downloads.SETS["mnist"].files
    files = dict(zip(names, map(idx, (train, labels[0], test, labels[1]))))
    server.files = files
    toy(monkeypatch, server.address, files, reader="idx", classes=tuple("0123456789"))
    held = downloads.load("toy", download=True, progress=False)
    assert (held.take("train")[0] == train).all() and (held.take("test")[1] == labels[1]).all()
    assert len(held) == 40 and len(server.asked) == 4
    assert (downloads.load("toy").images == held.images).all() and len(server.asked) == 4
    # the labels of the wrong file
    files = dict(zip(names, map(idx, (train, labels[1], test, labels[1]))))
    toy(monkeypatch, server.address, files, reader="idx", classes=tuple("0123456789"))
    for name, content in files.items():
        (place / name).write_bytes(content)
    with pytest.raises(downloads.DamagedDownload, match="do not belong together"):
        downloads.load("toy")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "idx"),
        (b"no gzip", "gzip"),
        (gzip.compress(b"\0\0"), "idx"),
        (gzip.compress(b"\0\0\x0d\x01\0\0\0\x05hello"), "00000d01"),
        (gzip.compress(b"\0\0\x08\x03" + b"\0" * 8), "00000803"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x09hello"), "9 bytes were expected.*5 are there"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x02hello"), "more are there"),
        (gzip.compress(b"\0\0\x08\x01\xff\xff\xff\xffhello"), "4294967295"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x05hello")[:-9], "idx"),
    ],
    ids=["empty", "plain", "short", "type", "axes", "missing", "more", "huge", "cut"],
)
def test_odd_idx_files_are_refused(tmp_path, content, says):
    (tmp_path / "odd.gz").write_bytes(content)
    with pytest.raises(downloads.DamagedDownload, match=says) as e:
        downloads.read_idx(tmp_path / "odd.gz", 1)
    assert "odd.gz" in str(e.value)


def archive(path, batches: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in batches.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def batch(seed: int, n: int = 4) -> dict:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)
    return {b"data": pixels, b"labels": [(seed + k) % 10 for k in range(n)], b"filenames": [b"x"]}


BATCHES = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]


def test_cifar_from_a_server_to_tensors(server, tmp_path, monkeypatch):
    """Fetched, checked, read, and given as a recipe's data; the published file cannot be asked for
    here, so that a small one of its form stands in."""
    path = tmp_path / "made.tar.gz"
    content = {name: pickle.dumps(batch(k, 2000), protocol=3) for k, name in enumerate(BATCHES)}
    archive(path, content)
    packed = path.read_bytes()
    name = "cifar-10-python.tar.gz"
    server.files[name] = packed
    server.cut_at = [len(packed) // 2]
    monkeypatch.setenv("UNDIFFUSE_DOWNLOADS", str(tmp_path / "down"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    remote = replace(
        downloads.SETS["cifar10"], address=server.address,
        files={name: hashlib.sha256(packed).hexdigest()},
    )  # fmt: skip
    monkeypatch.setitem(downloads.SETS, "cifar10", remote)
    with pytest.raises(downloads.NotDownloaded, match=r"downloads.fetch\('cifar10'\) gets it"):
        downloads.cifar10()
    downloads.fetch("cifar10", progress=False, pause=0.0)
    x, labels = sources.source("cifar10").take("train", 6)
    assert x.shape == (6, 3, 32, 32) and x.dtype == torch.float32 and labels.dtype == torch.int64
    pixels = torch.from_numpy(batch(0, 2000)[b"data"][:6]).reshape(6, 3, 32, 32)
    torch.testing.assert_close(x, pixels / 127.5 - 1)
    sizes = {split: len(downloads.cifar10(split)[0])
             for split in ("train", "validation", "reference", "held_out")}  # fmt: skip
    assert sizes == {"train": 5000, "validation": 5000, "reference": 1000, "held_out": 1000}
    with pytest.raises(ValueError, match="no split 'test'"):
        downloads.cifar10("test")
    assert sources.source("cifar10").names[0] == "airplane"


# Arrays pickle differently by version and by protocol; the published files are of protocol 2.
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_cifar_is_read_without_unpickling(tmp_path, module):
    path = tmp_path / "cifar.tar.gz"
    content = {name: pickle.dumps(batch(k), protocol=3) for k, name in enumerate(BATCHES)}
    here = next(
        m for m in (b"numpy._core.multiarray", b"numpy.core.multiarray") if m in content[BATCHES[0]]
    )
    archive(path, {name: text.replace(here, module) for name, text in content.items()})
    train, test = downloads.read_cifar(path)
    assert train[0].shape == (20, 3, 32, 32) and train[0].dtype == np.uint8
    assert (train[0][4:8].reshape(4, 3072) == batch(1)[b"data"]).all()
    assert (test[1] == batch(5)[b"labels"]).all()


class Code:
    """A pickle that runs code where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_with_code_in_it_runs_nothing(tmp_path):
    path, proof = tmp_path / "cifar.tar.gz", tmp_path / "it-ran"
    poisoned = pickle.dumps({b"data": Code(proof), b"labels": []})
    archive(path, {name: poisoned for name in BATCHES})
    with pytest.raises(downloads.DamagedDownload, match=r"it asks for .*open"):
        downloads.read_cifar(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pickle.dumps([]), "cifar"),
        (pickle.dumps({b"data": 3}), "cifar"),
        (pickle.dumps({b"data": np.zeros((2, 7), np.uint8), b"labels": [0, 1]}), r"\(2, 7\)"),
        (pickle.dumps({b"data": np.zeros((2, 3072), "f4"), b"labels": [0, 1]}), "f4"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}), "1"),
        (b"", "cifar"),
    ],
)
def test_odd_batches_are_refused(tmp_path, content, says):
    path = tmp_path / "cifar.tar.gz"
    archive(path, {name: content for name in BATCHES})
    with pytest.raises(downloads.DamagedDownload, match=says):
        downloads.read_cifar(path)


def test_odd_archives_are_refused(tmp_path):
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(b"no archive")
    with pytest.raises(downloads.DamagedDownload):
        downloads.read_cifar(path)
    archive(path, {"data_batch_1": b""})
    with pytest.raises(downloads.DamagedDownload):
        downloads.read_cifar(path)


def test_the_command_lists_and_fails_clearly(capsys, place, server):
    assert downloads.main([]) == 0
    assert "mnist" in capsys.readouterr().out
    assert downloads.main(["toy"]) == 0
    assert str(place / FILE) in capsys.readouterr().out
    assert downloads.main(["nothing"]) == 1
    assert "no download is called" in capsys.readouterr().err
