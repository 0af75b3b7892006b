"""Sound files of every kind, whole and broken."""

import os
import struct

import numpy as np
import pytest
import soundfile
import torch

from undiffuse.audio_files import BadAudio, read_audio, write_audio

RATE = 8000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2000) / RATE)).astype(np.float32)


def wav(path, audio, subtype, rate=RATE, **more):
    soundfile.write(path, audio, rate, subtype=subtype, **more)
    return path


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 2**-24), ("FLOAT", 0),
     ("DOUBLE", 0)],
)  # fmt: skip
def test_every_width_of_numbers_is_read_to_its_precision(tmp_path, subtype, step):
    samples, rate = read_audio(wav(tmp_path / "a.wav", TONE, subtype))
    assert rate == RATE and samples.shape == TONE.shape and samples.dtype == np.float32
    np.testing.assert_allclose(samples, TONE, atol=1.5 * step, rtol=0)


@pytest.mark.parametrize("suffix", ["flac", "aiff", "wav"])
def test_other_formats(tmp_path, suffix):
    samples, _ = read_audio(wav(tmp_path / f"a.{suffix}", TONE, "PCM_16"))
    np.testing.assert_allclose(samples, TONE, atol=2**-14, rtol=0)


def test_the_ends_of_8_bit_are_the_ends_of_the_range(tmp_path):
    body = bytes([0, 128, 255])
    head = b"RIFF" + struct.pack("<I", 36 + 3) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, RATE, 1, 8)  # fmt: skip # noqa: E501
    (tmp_path / "a.wav").write_bytes(head + b"data" + struct.pack("<I", 3) + body)
    samples, _ = read_audio(tmp_path / "a.wav")
    assert samples.tolist() == [-1.0, 0.0, 127 / 128]


def test_stereo_keeps_its_channels(tmp_path):
    both = np.stack([TONE, -0.5 * TONE], axis=1)
    samples, _ = read_audio(wav(tmp_path / "a.wav", both, "PCM_16"))
    assert samples.shape == (2000, 2)
    np.testing.assert_allclose(samples, both, atol=2**-14, rtol=0)


def test_a_silent_file_is_zeros(tmp_path):
    samples, rate = read_audio(wav(tmp_path / "a.wav", np.zeros(100), "PCM_16"))
    assert not samples.any() and len(samples) == 100 and rate == RATE
    write_audio(tmp_path / "b.wav", samples, rate)
    assert not read_audio(tmp_path / "b.wav")[0].any()


def test_a_clipped_file_is_read_as_it_is(tmp_path):
    clipped = np.clip(4 * TONE, -1, 32767 / 32768)
    samples, _ = read_audio(wav(tmp_path / "a.wav", np.round(clipped * 32768).astype(np.int16),
                                "PCM_16"))  # fmt: skip
    assert samples.max() == np.float32(32767 / 32768) and samples.min() == -1
    np.testing.assert_allclose(samples, clipped, atol=2**-16, rtol=0)


def test_floats_beyond_one_stay(tmp_path):
    samples, _ = read_audio(wav(tmp_path / "a.wav", 3 * TONE, "FLOAT"))
    np.testing.assert_array_equal(samples, 3 * TONE)


def test_a_rate_that_is_asked_for(tmp_path):
    path = wav(tmp_path / "a.wav", TONE, "PCM_16", rate=44100)
    assert read_audio(path, rate=44100)[1] == 44100
    with pytest.raises(BadAudio, match=r"44,100 Hz, and 8,000 Hz are wanted.*prepare_clip"):
        read_audio(path, rate=8000)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_numbers_are_refused(tmp_path, value):
    odd = TONE.copy()
    odd[[3, 5]] = value
    path = wav(tmp_path / "a.wav", odd, "FLOAT")
    with pytest.raises(BadAudio, match=r"a\.wav holds NaN or infinite values: 2 of 2,000"):
        read_audio(path)
    with pytest.raises(ValueError, match=r"NaN or infinite values: 2 of 2,000"):
        write_audio(tmp_path / "b.wav", odd, RATE)
    assert not (tmp_path / "b.wav").exists()


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac"])
@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_truncated_files_are_refused(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000)
    path = wav(tmp_path / f"a.{suffix}", noise, "PCM_16")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(BadAudio, match=rf"a\.{suffix}.*(truncated|cannot be read)"):
        read_audio(path)


def test_headers_alone_are_refused(tmp_path):
    content = wav(tmp_path / "a.wav", TONE, "PCM_16").read_bytes()
    for length in (4, 11, 20, 40):
        (tmp_path / "a.wav").write_bytes(content[:length])
        with pytest.raises(BadAudio, match=r"a\.wav"):
            read_audio(tmp_path / "a.wav")
    with pytest.raises(BadAudio, match="without a sample"):
        read_audio(wav(tmp_path / "b.wav", np.zeros(0), "PCM_16"))


def test_a_stream_that_did_not_know_its_size_is_read(tmp_path):
    path = wav(tmp_path / "a.wav", TONE, "PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = content[4:8] = b"\xff" * 4
    path.write_bytes(content)
    np.testing.assert_allclose(read_audio(path)[0], TONE, atol=2**-14, rtol=0)


@pytest.mark.parametrize("content", [b"", b"no sound at all", b"\x89PNG\r\n\x1a\n" + b"x" * 500])
@pytest.mark.parametrize("name", ["a.wav", "a.txt", "a.mp3", "a.raw"])
def test_what_is_no_sound_is_refused_by_name(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadAudio, match=name) as e:
        read_audio(tmp_path / name)
    assert "empty" in str(e.value) or "cannot be read as sound: " in str(e.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"b\.wav is not there"):
        read_audio(tmp_path / "b.wav")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_audio(tmp_path)


# ---------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24)])
def test_every_whole_number_survives_a_round(tmp_path, suffix, subtype, bits):
    top = 2 ** (bits - 1)
    whole = np.concatenate([[-top, top - 1, 0, 1, -1], np.linspace(-top, top - 1, 4001).round()])
    audio = (whole / top).astype(np.float32)
    path = write_audio(tmp_path / f"a.{suffix}", audio, RATE, subtype)
    assert soundfile.info(path).subtype == subtype
    again, _ = read_audio(path)
    np.testing.assert_array_equal(again.astype(np.float64) * top, audio.astype(np.float64) * top)


def test_floats_are_written_as_they_are(tmp_path):
    path = write_audio(tmp_path / "a.wav", 5 * TONE, RATE, "FLOAT")
    np.testing.assert_array_equal(read_audio(path)[0], 5 * TONE)


def test_full_scale_stays_in_range(tmp_path):
    audio = np.array([1.0, -1.0, 1.0005, -1.0005])
    again, _ = read_audio(write_audio(tmp_path / "a.wav", audio, RATE))
    np.testing.assert_array_equal(again, np.float32([32767 / 32768, -1, 32767 / 32768, -1]))


def test_what_models_give_can_be_written(tmp_path):
    clip = torch.from_numpy(TONE)[None].requires_grad_()
    again, _ = read_audio(write_audio(tmp_path / "new/folder/a.wav", clip, RATE))
    np.testing.assert_allclose(again, TONE, atol=2**-16, rtol=0)
    half = write_audio(tmp_path / "b.wav", clip.detach().bfloat16(), np.int64(RATE))
    np.testing.assert_allclose(read_audio(half)[0], TONE, atol=2**-9, rtol=0)


def test_int16_is_written_without_a_change(tmp_path):
    whole = np.arange(-300, 300, dtype=np.int16)
    for subtype in ("PCM_16", "PCM_24", "FLOAT"):
        again, _ = read_audio(write_audio(tmp_path / "a.wav", whole, RATE, subtype))
        np.testing.assert_array_equal(again * 32768, whole)


def test_stereo_is_written(tmp_path):
    both = np.stack([TONE, -TONE], axis=1)
    again, _ = read_audio(write_audio(tmp_path / "a.wav", both, RATE))
    np.testing.assert_allclose(again, both, atol=2**-16, rtol=0)


def test_the_same_sound_gives_the_same_bytes(tmp_path):
    first = write_audio(tmp_path / "a.wav", TONE, RATE).read_bytes()
    assert write_audio(tmp_path / "b.wav", TONE, RATE).read_bytes() == first


@pytest.mark.parametrize(
    ("audio", "rate", "name", "subtype", "says"),
    [
        (TONE * 3, RATE, "a.wav", "PCM_16", r"\[-1, 1\] and reaches 1\.5"),
        (TONE, 0, "a.wav", "PCM_16", "rate must be .* got 0"),
        (TONE, 8000.0, "a.wav", "PCM_16", r"got 8000\.0"),
        (TONE, True, "a.wav", "PCM_16", "got True"),
        (TONE, RATE, "a.mp3", "PCM_16", r"a\.mp3 must end with one of \.wav, \.flac"),
        (TONE, RATE, "a.wav", "PCM_8", "subtype must be one of"),
        (TONE, RATE, "a.flac", "FLOAT", "not FLOAT for .flac"),
        (TONE[:0], RATE, "a.wav", "PCM_16", "no sound to write"),
        (np.zeros((2, 2000)), RATE, "a.wav", "PCM_16", "channels come last"),
        (np.zeros((1, 1, 20)), RATE, "a.wav", "PCM_16", r"got \(1, 1, 20\)"),
        (np.zeros(20, np.int64), RATE, "a.wav", "PCM_16", "got int64"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path, audio, rate, name, subtype, says):
    with pytest.raises(ValueError, match=says):
        write_audio(tmp_path / name, audio, rate, subtype)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_audio(tmp_path / "a.wav", TONE, RATE)
    before = path.read_bytes()

    def full(file, *arguments, **more):
        with open(file, "wb") as f:
            f.write(b"half of it")
        raise soundfile.LibsndfileError(2, "Error opening 'x': ")

    monkeypatch.setattr(soundfile, "write", full)
    with pytest.raises(OSError, match=r"a\.wav could not be written"):
        write_audio(path, 0.5 * TONE, RATE)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.wav"]
