"""Odd files all the way: read, brought to a clip, and through everything that takes clips.

What is refused, and how, is in ``test_audio_files`` and ``test_downloads``; here is what is read.
"""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from undiffuse import (
    draw,
    hearing,
    listen,
    sound,
    sound_judging,
    sound_metrics,
    sources,
    spectral_vocoder,
    transforms,
    vocoder,
)
from undiffuse.audio_files import read_audio

RATE, LENGTH = 8000, 8192


def tone(n: int, rate: int, channels: int = 1, size: float = 0.5) -> np.ndarray:
    t = np.arange(n) / rate
    x = size * np.sin(2 * np.pi * 220 * t)
    return x if channels == 1 else np.stack([x, 0.3 * x], 1)


FILES = {
    "silent": (np.zeros(9000), RATE, "PCM_16"),
    "silent, stereo, 24 bits, 44.1 kHz": (np.zeros((30000, 2)), 44100, "PCM_24"),
    "silent, of 8 bits": (np.zeros(9000), RATE, "PCM_U8"),
    "one sample": (np.array([0.5]), RATE, "PCM_16"),
    "shorter than a frame, silent": (np.zeros(20), 16000, "PCM_16"),
    "clipped": (np.clip(tone(9000, RATE, size=5.0), -1, 1), RATE, "PCM_16"),
    "stereo": (tone(9000, RATE, 2), RATE, "PCM_16"),
    "8 bits": (tone(9000, RATE), RATE, "PCM_U8"),
    "24 bits": (tone(9000, RATE), RATE, "PCM_24"),
    "float beyond full scale": (tone(9000, RATE, size=3.0), RATE, "FLOAT"),
    "double": (tone(9000, RATE), RATE, "DOUBLE"),
    "at 48 kHz": (tone(50000, 48000), 48000, "PCM_16"),
    "a constant": (np.full(9000, 0.25), RATE, "PCM_16"),
}


@pytest.fixture(params=FILES, ids=list(FILES))
def clip(request, tmp_path) -> torch.Tensor:
    audio, rate, subtype = FILES[request.param]
    path = tmp_path / "odd.wav"
    soundfile.write(path, audio, rate, subtype=subtype)
    samples, found = read_audio(path)
    assert found == rate
    return sound.prepare_clip(samples, found, RATE, LENGTH)


def test_every_file_becomes_a_clip(clip):
    assert clip.shape == (LENGTH,) and clip.dtype == torch.float32
    assert torch.isfinite(clip).all() and float(clip.abs().max()) <= 1


FINITE = {
    "level": sound.rms_dbfs,
    "at a level": lambda x: sound.loudness_normalise(x, -20.0),
    "varied": lambda x: sound.augment_audio(x[None, None], torch.Generator().manual_seed(0)),
    "magnitudes": transforms.stft_magnitude,
    "log-mel": lambda x: transforms.log_mel(x, RATE, 64),
    "mels of the course": lambda x: sources.log_mels(x[None, None]),
    "back from mels": lambda x: sources.sounds_of(sources.log_mels(x[None, None]), None, 2),
    "flat": lambda x: vocoder.MelLevels(RATE).flatten(x, vocoder.MelLevels(RATE).mel(x)),
    "what the smooth spectrum lacks": lambda x: torch.stack(spectral_vocoder.lacking(x[None])),
    "Griffin-Lim": lambda x: transforms.griffin_lim(transforms.stft_magnitude(x), 2, None),
    "at twice the rate": lambda x: transforms.resample(x, RATE, 2 * RATE),
    "clipping": sound_metrics.clipping_share,
    "bands": lambda x: sound_metrics.mean_spectrum_db(x[None], RATE),
    "how long it sounds": lambda x: sound_metrics.sounding_seconds(x, RATE),
    "distance to itself": lambda x: sound_judging.spoken_distance(x[None], x[None]),
    "distance to silence": lambda x: sound_judging.spoken_distance(x[None], 0 * x[None]),
    "a bar": lambda x: sound.drum_loop({"hit": x}, {"hit": "x..x"}, 120, RATE),
    "a tune": lambda x: sound.melody({60: x}, [(60, 1), (None, 1), (60, 2)], 240, RATE),
    "a picture": lambda x: torch.from_numpy(draw.spectrogram_pixels(x[None].numpy()).copy()),
}


@pytest.mark.parametrize("name", FINITE)
def test_everything_stays_finite(clip, name):
    found = FINITE[name](clip)
    found = found.double()
    assert torch.isfinite(found).all()


def test_what_may_be_unknown_is_nan_for_silence_and_never_infinite(clip):
    quiet = float(sound.rms_dbfs(clip)) <= sound.SILENT
    for found in (
        sound_metrics.spectral_centroid(clip, RATE),
        sound_metrics.attack_seconds(clip, RATE),
    ):
        assert bool(found.isnan()) == quiet and not found.isinf()
    pitch = sound_metrics.estimate_pitch(clip, RATE)
    assert not pitch.isinf() and (pitch.isnan() or not quiet)


def test_it_can_be_heard_and_is_told(clip):
    told = listen.describe(clip, RATE)
    assert "nan" not in told and "inf" not in told
    assert ("silence" in told) == (float(sound.rms_dbfs(clip)) <= sound.SILENT)
    assert "<audio" in listen.player(clip, RATE)._repr_html_()


def test_gradients_of_silence_are_finite():
    x = torch.zeros(1, LENGTH, requires_grad=True)
    for f in (sound.rms_dbfs, transforms.stft_magnitude, lambda v: transforms.log_mel(v, RATE)):
        (grad,) = torch.autograd.grad(f(x).sum(), x)
        assert torch.isfinite(grad).all()


def test_figures_of_a_silent_set():
    silent = torch.zeros(12, 1, LENGTH)
    found = sound_judging.sound_figures(silent, torch.zeros(12, dtype=torch.int64), "fsdd")
    assert found == {"loudness_db": sound.SILENT, "clipping": 0.0}
    notes = sources.note_labels(torch.zeros(12, dtype=torch.int64), torch.full((12,), 60))
    found = sound_judging.sound_figures(silent, notes, "notes")
    assert found["pitched"] == 0 and found["pitch_cents"] is None and found["in_tune"] == 0


def test_nothing_is_heard_of_silent_mels():
    silent = torch.full((1, 1, 64, 128), -1.0)
    assert float(sources.sounds_of(silent, None, 2).abs().max()) < 1e-4
    assert hearing.choose("griffin-lim")[0] is None
