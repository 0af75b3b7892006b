"""Files of data sets: what is packed comes back bit by bit, and damage is told."""

import io
import zipfile

import numpy as np
import pytest
import soundfile
from PIL import Image, features

from undiffuse import data, packing


def arrays(seed=0, n=11):
    g = np.random.default_rng(seed)
    audio = np.cumsum(g.integers(-900, 900, (n, 4000)), axis=1).astype(np.int16)
    audio[0], audio[1] = 32767, -32768
    held = audio[[3, 0, 1]].copy()
    held[:, 2000:] = g.integers(-32768, 32768, (3, 2000))
    return {
        "audio": audio,
        "label": g.integers(0, 9, n).astype(np.uint8),
        "held": held,
        "held_rows": np.array([3, 0, 1], np.uint16),
        "grey": g.integers(0, 256, (n, 5, 7)).astype(np.uint8),
        "colour": g.integers(0, 256, (n, 6, 4, 3)).astype(np.uint8),
        "words": np.array([f"a drum {i}" for i in range(n)]),
    }


def shapes(held):
    return {key: a.shape for key, a in held.items()}


@pytest.mark.parametrize("n", [4, 9, 10, 11])
def test_everything_comes_back_bit_by_bit(n):
    held = arrays(n=n)
    content = packing.pack(held, ("grey", "colour"), rate=16000)
    assert content == packing.pack(held, ("grey", "colour"), rate=16000)
    found = packing.unpack(content, shapes(held))
    assert list(found) == list(held)
    for key, array in held.items():
        assert found[key].dtype == array.dtype and found[key].shape == array.shape
        assert (found[key] == array).all(), key


def test_members_are_heard_and_seen_by_other_programs():
    held = arrays()
    with zipfile.ZipFile(io.BytesIO(packing.pack(held, ("colour",), rate=16000))) as z:
        assert set(z.namelist()) == {
            "audio.flac", "label.npy", "held_less_audio.flac", "held_rows.npy", "grey.npy",
            "colour.webp", "words.npy",
        }  # fmt: skip
        sound, rate = soundfile.read(io.BytesIO(z.read("audio.flac")), dtype="int16")
        with Image.open(io.BytesIO(z.read("colour.webp"))) as image:
            sheet = np.asarray(image)
    assert rate == 16000 and (sound == held["audio"].reshape(-1)).all()
    assert sheet.shape == (3 * 6, 4 * 4, 3)
    for i in range(11):
        y, x = 6 * (i // 4), 4 * (i % 4)
        assert (sheet[y : y + 6, x : x + 4] == held["colour"][i]).all()
    assert (sheet[12:, 12:] == 0).all()


def test_numpy_opens_it_too():
    held = arrays()
    with np.load(io.BytesIO(packing.pack(held, ("grey",)))) as z:
        assert (z["words"] == held["words"]).all()
        assert z["audio.flac"][:4] == b"fLaC"


def test_what_is_the_same_in_a_row_of_audio_is_kept_once():
    held = arrays()
    apart = len(packing.pack({"audio": held["audio"], "other": held["held"]}))
    rows = {k: held[k] for k in ("audio", "held", "held_rows")}
    assert len(packing.pack(rows)) < apart - 1000


def test_of_few_bytes_is_what_is_said():
    """Against deflate alone, on notes as they are."""
    notes = data.load("notes8k")
    some = notes.audio[:60]
    raw = io.BytesIO()
    np.savez_compressed(raw, audio=some)
    assert len(packing.pack({"audio": some})) < 0.85 * len(raw.getvalue())


@pytest.mark.parametrize(
    "change",
    [
        lambda c, s: (c[: len(c) // 2], s),
        lambda c, s: (b"no zip", s),
        lambda c, s: (c, s | {"more": (1,)}),
        lambda c, s: (c, s | {"audio": (3, 5)}),
        lambda c, s: (c, s | {"grey": (40, 5, 7)}),
        lambda c, s: (c, s | {"grey": (11, 6, 7)}),
    ],
)
def test_damage_raises_what_is_said(change):
    held = arrays()
    content, wanted = change(packing.pack(held, ("grey", "colour")), shapes(held))
    with pytest.raises(packing.ERRORS):
        packing.unpack(content, wanted)


def test_sounds_that_are_no_sounds():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("audio.flac", b"not FLAC")
        z.writestr("images.webp", b"nor WebP")
    for key, shape in (("audio", (2, 2)), ("images", (2, 2, 2))):
        with pytest.raises(packing.ERRORS):
            packing.unpack(out.getvalue(), {key: shape})


def test_pictures_of_other_kinds_are_refused():
    for wrong in (np.zeros((2, 3, 4)), np.zeros((2, 3, 4, 2), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(ValueError, match=r"x is .*; pictures are uint8 \(N, H, W\)"):
            packing.pack({"x": wrong}, ("x",))


def test_a_pillow_without_webp_says_so(monkeypatch):
    content = packing.pack({"x": np.zeros((2, 3, 4), np.uint8)}, ("x",))
    monkeypatch.setattr(features, "check", lambda feature: False)
    with pytest.raises(OSError, match="without WebP: bring in the usual one with"):
        packing.unpack(content, {"x": (2, 3, 4)})
