"""Records what librosa gives, for test_transforms.py; librosa itself is no dependency.

    python -m venv librosa-env
    librosa-env/bin/pip install librosa==0.11.0
    librosa-env/bin/python tests/undiffuse/oracles/make_librosa.py

It stays out of the tests' environment since it brings numba and llvmlite: over 200 MB for a few
numbers. Everything is computed in float64 and kept as such, with the versions of what made it.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import librosa
import numpy as np
import scipy

OUT = Path(__file__).with_name("librosa.npz")
RATE = 8000
FRAMES = {"speech": (256, 64), "coarse": (512, 160), "odd": (200, 70)}  # n_fft, hop
MOMENTA = (0.0, 0.99)
FILTERS = {  # n_mels, n_fft, rate, f_min, f_max, htk
    "speech": (64, 256, 8000, 0.0, None, False),
    "drums": (80, 1024, 16000, 30.0, 7600.0, False),
    "htk": (40, 512, 22050, 0.0, 8000.0, True),
    "few": (3, 64, 8000, 0.0, None, False),
}


def clip(n: int = 1201) -> np.ndarray:
    """A falling tone with a click, a little noise and silence at its end."""
    t = np.arange(n) / RATE
    x = 0.5 * np.sin(2 * np.pi * (900 * t - 2000 * t**2)) * np.exp(-8 * t)
    x[300] += 0.4
    x += 0.01 * np.random.default_rng(0).standard_normal(n)
    x[900:] = 0
    return x


def griffin_lim_errors(x: np.ndarray, momentum: float) -> list[float]:
    """Error of the magnitude, as a share of it, after 100 steps from 40 random starts."""

    def magnitude(y: np.ndarray) -> np.ndarray:
        return np.abs(librosa.stft(y, n_fft=256, hop_length=64, pad_mode="reflect"))

    wanted, errors = magnitude(x), []
    for seed in range(40):
        y = librosa.griffinlim(
            wanted, n_iter=100, hop_length=64, n_fft=256, length=len(x), momentum=momentum,
            pad_mode="reflect", random_state=seed, dtype=np.float64,
        )  # fmt: skip
        errors.append(float(np.linalg.norm(magnitude(y) - wanted) / np.linalg.norm(wanted)))
    return errors


def main() -> None:
    x = clip()
    found: dict[str, np.ndarray] = {"clip": x}
    for name, (n_fft, hop) in FRAMES.items():
        stft = librosa.stft(x, n_fft=n_fft, hop_length=hop, pad_mode="reflect", dtype=np.complex128)
        found[f"stft {name}"] = stft
        # No sound has this spectrum: what the inverse makes of it is a convention of its own.
        bent = np.sqrt(np.abs(stft)) * np.exp(2j * np.angle(stft))
        found[f"istft {name}"] = librosa.istft(
            bent, n_fft=n_fft, hop_length=hop, length=len(x), dtype=np.float64
        )
    for name, (n_mels, n_fft, rate, f_min, f_max, htk) in FILTERS.items():
        found[f"mel {name}"] = librosa.filters.mel(
            sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max, htk=htk, dtype=np.float64
        )
    found["melspectrogram"] = librosa.feature.melspectrogram(
        y=x, sr=RATE, n_fft=256, hop_length=64, n_mels=64, power=1.0, pad_mode="reflect",
        dtype=np.float64,
    )  # fmt: skip
    found["griffin-lim errors"] = np.array([griffin_lim_errors(x, m) for m in MOMENTA])
    hz = np.array([0.0, 60.0, 440.0, 999.0, 1000.0, 1001.0, 3999.0, 11025.0])
    found["hz"] = hz
    found["hz_to_mel"] = librosa.hz_to_mel(hz)
    found["hz_to_mel htk"] = librosa.hz_to_mel(hz, htk=True)
    found["note_to_hz"] = librosa.midi_to_hz(np.array([21.0, 60.0, 69.5, 108.0]))
    versions = {
        "librosa": librosa.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }
    about = {"versions": versions, "frames": FRAMES, "filters": FILTERS}
    found["about"] = np.array(json.dumps(about))
    np.savez_compressed(OUT, **found)
    print(f"{OUT}: {OUT.stat().st_size} bytes, {versions}")


if __name__ == "__main__":
    main()
