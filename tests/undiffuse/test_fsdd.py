"""Spoken digits: fetched, unpacked, checked file by file, split by takes and by speaker."""

import hashlib
import io
import os
import socket
import tarfile
import threading

import numpy as np
import pytest
import soundfile
import torch
from test_downloads import Server

from undiffuse import _fsdd, data, downloads

SPEAKERS = ("anna", "ben", _fsdd.SPEAKER)
ARCHIVE = downloads.SETS["fsdd"].archive
FETCH = {"progress": False, "pause": 0.0, "timeout": 5.0}


def recordings(takes=10) -> dict[str, bytes]:
    """A small set of made-up recordings of another sound each."""
    rng = np.random.default_rng(0)
    files = {}
    for speaker in SPEAKERS:
        for digit in range(10):
            for take in range(takes):
                out = io.BytesIO()
                sound = rng.integers(-3000, 3000, rng.integers(500, 900), dtype=np.int16)
                soundfile.write(out, sound, 8000, format="WAV", subtype="PCM_16")
                files[f"{digit}_{speaker}_{take}.wav"] = out.getvalue()
    return files


FILES = recordings()


def packed(files: dict[str, bytes], top="free-spoken-digit-dataset-1.0.10/recordings") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in {"../README.md": b"not read", **files}.items():
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def server(monkeypatch):
    s = Server()
    thread = threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    s.files = {ARCHIVE: packed(FILES)}
    yield s
    s.shutdown()
    s.server_close()
    thread.join()


@pytest.fixture
def place(server, tmp_path, monkeypatch):
    """The recordings' folder of a small set at the server, which is empty."""
    known = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(_fsdd, "sums", lambda: known)
    monkeypatch.setenv("UNDIFFUSE_DOWNLOADS", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    remote = downloads.SETS["fsdd"]
    monkeypatch.setitem(
        downloads.SETS, "fsdd", downloads.Remote(**vars(remote) | {"address": server.address})
    )
    return tmp_path / "fsdd/recordings"


def test_all_recordings_arrive_and_nothing_else(server, place):
    found = downloads.fetch("fsdd", **FETCH)
    assert {p.name: p.read_bytes() for p in found.values()} == FILES
    assert sorted(os.listdir(place)) == sorted(FILES) and os.listdir(place.parent) == ["recordings"]
    downloads.fetch("fsdd", **FETCH)
    assert len(server.asked) == 1


def test_a_cut_download_goes_on(server, place):
    server.cut_at = [50_000]
    with pytest.raises(downloads.DownloadFailed, match="50,000 bytes are kept"):
        downloads.fetch("fsdd", **FETCH, retries=0)
    assert len(downloads.fetch("fsdd", **FETCH)) == len(FILES)
    assert server.asked[-1][1] == "bytes=50000-"


def test_only_what_is_missing_is_written(server, place):
    place.mkdir(parents=True)
    name = "3_anna_4.wav"
    (place / name).write_bytes(FILES[name])
    before = (place / name).stat().st_mtime_ns
    downloads.fetch("fsdd", **FETCH)
    assert (place / name).stat().st_mtime_ns == before and len(os.listdir(place)) == len(FILES)


def test_a_recording_that_is_not_the_published_one_is_named(server, place):
    server.files[ARCHIVE] = packed(FILES | {"3_anna_4.wav": FILES["3_anna_5.wav"]})
    with pytest.raises(downloads.DamagedDownload, match=r"3_anna_4\.wav is damaged") as e:
        downloads.fetch("fsdd", **FETCH)
    assert hashlib.sha256(FILES["3_anna_4.wav"]).hexdigest() in str(e.value)
    assert not (place / "3_anna_4.wav").exists() and not (place.parent / ARCHIVE).exists()


@pytest.mark.parametrize("content", [b"no archive", packed(FILES)[:-30_000], packed({})])
def test_odd_archives_are_refused(server, place, content):
    server.files[ARCHIVE] = content
    with pytest.raises(downloads.DamagedDownload, match=r"readable archive|missing in it"):
        downloads.fetch("fsdd", **FETCH)
    server.files[ARCHIVE] = packed(FILES)
    assert len(downloads.fetch("fsdd", **FETCH)) == len(FILES)


def test_a_damaged_file_in_the_folder_is_refused_and_left_alone(server, place):
    downloads.fetch("fsdd", **FETCH)
    (place / "0_ben_1.wav").write_bytes(b"damaged")
    for call in (lambda: downloads.fetch("fsdd", **FETCH), lambda: downloads.load("fsdd")):
        with pytest.raises(downloads.DamagedDownload, match=r"0_ben_1\.wav is damaged") as e:
            call()
        assert hashlib.sha256(b"damaged").hexdigest() in str(e.value)
    assert (place / "0_ben_1.wav").read_bytes() == b"damaged" and len(server.asked) == 1


def test_offline_says_what_was_tried_and_what_serves_instead(place, monkeypatch):
    with socket.socket() as s:  # a port that nobody listens at
        s.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{s.getsockname()[1]}/"
    remote = vars(downloads.SETS["fsdd"]) | {"address": address}
    monkeypatch.setitem(downloads.SETS, "fsdd", downloads.Remote(**remote))
    with pytest.raises(downloads.DownloadFailed) as e:
        downloads.fetch("fsdd", **FETCH, retries=1)
    for words in (
        f"tried: {address}{ARCHIVE}",
        "try 2: no connection",
        "Only training on speech needs it",
        "data.load('speech_prompts8k')",
        str(place),
        "UNDIFFUSE_DOWNLOADS",
    ):
        assert words in str(e.value)


def test_nothing_is_downloaded_unasked(server, place):
    with pytest.raises(downloads.NotDownloaded, match=r"downloads\.fetch\('fsdd'\)") as e:
        downloads.load("fsdd")
    assert "299 more" in str(e.value) and "speech_prompts" in str(e.value)
    assert not server.asked
    assert len(downloads.load("fsdd", download=True, progress=False)) == len(FILES)


@pytest.mark.parametrize("where", ["fsdd/recordings", "audio/fsdd/recordings", "fsdd"])
def test_a_copy_is_found_where_people_put_it(place, tmp_path, where, server):
    (tmp_path / where).mkdir(parents=True)
    for name, content in FILES.items():
        (tmp_path / where / name).write_bytes(content)
    held = downloads.load("fsdd")
    assert len(held) == len(FILES) and held.rate == 8000 and not server.asked
    for row in (0, 17, 299):
        speaker, take = held.more["speaker"][row], held.more["take"][row]
        name = f"{held.labels[row]}_{speaker}_{take}.wav"
        sound, _ = soundfile.read(io.BytesIO(FILES[name]), dtype="int16")
        assert held.more["length"][row] == len(sound)
        np.testing.assert_array_equal(held.audio[row, : len(sound)], sound)
        assert not held.audio[row, len(sound) :].any()
    held.audio[:] = 0
    assert downloads.load("fsdd").audio.any()


def test_the_command_names_one_folder(server, place, capsys):
    assert downloads.main(["fsdd"]) == 0
    assert capsys.readouterr().out.split() == [str(place)]


def small(copies=0):
    """(audio, labels, speakers) of 3 speakers, 10 digits, 50 takes; the first copies are copies."""
    rng = np.random.default_rng(1)
    labels, voice = np.tile(np.repeat(np.arange(10), 50), 3), np.repeat(np.arange(3), 500)
    audio = rng.integers(-9, 9, (1500, 30), dtype=np.int16)
    audio[:copies] = audio[500 : 500 + copies]
    return audio, labels, np.array(SPEAKERS)[voice]


def test_splits_are_disjoint_even_by_their_bytes_and_one_speaker_is_apart():
    audio, labels, speakers = small(copies=7)
    dealt = _fsdd.splits(audio, labels, speakers)
    assert tuple(dealt) == (*data.SPLITS, "unheard")
    seen = {}
    for split, rows in dealt.items():
        for row in rows:
            assert seen.setdefault(audio[row].tobytes(), split) == split
    assert len(seen) == 1500 - 7 == sum(map(len, dealt.values()))
    assert set(speakers[dealt["unheard"]]) == {_fsdd.SPEAKER}
    for split, takes in _fsdd.TAKES.items():
        rows = dealt[split]
        assert set(speakers[rows]) == {"anna", "ben"}
        counts = np.bincount(labels[rows], minlength=10)
        assert np.abs(counts - 2 * takes).max() <= (2 if split != "train" else 7)
        begin = np.bincount(labels[rows[:20]], minlength=10)
        assert np.abs(begin - 2).max() <= 1
    again = _fsdd.splits(audio, labels, speakers)
    assert all((again[s] == dealt[s]).all() for s in dealt)


def test_the_list_of_checksums():
    known = _fsdd.sums()
    assert len(known) == 3000 and len(set(known.values())) == 3000
    assert {n.split("_")[0] for n in known} == set("0123456789")
    assert _fsdd.SPEAKER in {n.split("_")[1] for n in known}


def test_the_published_set():
    """With the real recordings, where a folder of downloads has them (UNDIFFUSE_DOWNLOADS)."""
    if _fsdd.missing(_fsdd.find(downloads.folder())):
        pytest.skip("fsdd is not here: downloads.fetch('fsdd') gets it")
    held = downloads.load("fsdd")
    assert held.audio.shape == (3000, 8192) and len({a.tobytes() for a in held.audio}) == 3000
    sizes = {split: len(rows) for split, rows in held.splits.items()}
    assert sizes == {"train": 1250, "validation": 100, "reference": 350, "held_out": 350,
                     "features": 450, "unheard": 500}  # fmt: skip
    for split in data.SPLITS:
        counts = np.bincount(held.labels[held.splits[split]])
        assert (counts == counts[0]).all()
    x, digit = downloads.fsdd("reference", 50)
    assert x.shape == (50, 1, 8192) and x.dtype == torch.float32 and digit.dtype == torch.int64
    torch.testing.assert_close(x.abs().amax((1, 2)), torch.full((50,), 0.95))
    quiet = downloads.fsdd("reference", 50, peak=None)[0]
    assert quiet.abs().amax((1, 2)).min() < 0.1
    torch.testing.assert_close(
        x / 0.95, quiet / quiet.abs().amax((1, 2), keepdim=True), atol=1e-6, rtol=0
    )
