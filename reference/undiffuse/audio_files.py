"""Sound files in and out: WAV, FLAC and what else libsndfile reads.

``read_audio`` gives what a file holds, as numbers in [-1, 1], or says what is wrong with it;
``write_audio`` writes a file whole or not at all. To bring what was read to the rate and length of
a model, see ``sound.prepare_clip``.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from undiffuse._files import replacing

if TYPE_CHECKING:
    import torch

SUBTYPES = {"PCM_16": 16, "PCM_24": 24, "FLOAT": 32}
FORMATS = {".wav": "WAV", ".flac": "FLAC"}
OVER = 1e-3  # by how much a filter may have left samples beyond full scale
UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # what programs write that do not know the size beforehand


class BadAudio(ValueError):
    """A file cannot be read as sound; the message names it and says why."""


def read_audio(path: str | os.PathLike, rate: int | None = None) -> tuple[np.ndarray, int]:
    """(samples float32 (n,) or, of several channels, (n, channels), rate in Hz) of a sound file.

    rate: what the file must have, if given. Whole numbers of b bits are divided by 2^(b-1), so
    that they lie in [-1, 1); 8-bit WAV, which has no sign, is centred first. Files of floating
    point numbers may reach beyond 1 and are given as they are. A silent file is read as zeros.

    Raises FileNotFoundError, and BadAudio for a file that is no sound, damaged or shorter than it
    says, empty, of another rate than asked for, or that holds NaN or infinite values.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not there"
        raise FileNotFoundError(f"{path} is {what}: the path of a sound file is wanted")
    if not path.stat().st_size:
        raise BadAudio(f"{path} is empty: 0 bytes")
    _check_size(path)
    try:
        with soundfile.SoundFile(path) as file:
            promised, found = file.frames, file.samplerate
            samples = file.read(dtype="float32")
    except (soundfile.SoundFileError, TypeError, OSError) as error:  # TypeError: ".raw" has no rate
        raise BadAudio(f"{path} cannot be read as sound: {_reason(error)}") from None
    if len(samples) < promised:
        raise _truncated(path, f"{promised:,} samples", f"{len(samples):,}")
    if not len(samples):
        raise BadAudio(f"{path} is a sound file without a sample in it")
    bad = int((~np.isfinite(samples)).sum())
    if bad:
        raise BadAudio(f"{path} holds NaN or infinite values: {bad:,} of {samples.size:,} numbers")
    if rate is not None and found != rate:
        raise BadAudio(
            f"{path} has a rate of {found:,} Hz, and {rate:,} Hz are wanted: read it without rate, "
            "and sound.prepare_clip brings it to the rate you want"
        )
    return samples, found


def write_audio(
    path: str | os.PathLike,
    audio: np.ndarray | torch.Tensor,
    rate: int,
    subtype: str = "PCM_16",
) -> Path:
    """Writes sound to a .wav or .flac file, whole or not at all; returns the path.

    audio: (n,), (1, n) as models give it, or (n, channels); float in [-1, 1], or int16. rate: Hz.
    subtype: "PCM_16", "PCM_24" or, for .wav, "FLOAT". A float x becomes round(x * 2^(b-1)), at most
    the largest number of b bits: what was read from a file of as many bits comes out the same.

    Raises ValueError for a wrong shape or kind, nothing to write, NaN or infinite values, values
    beyond [-1, 1] (but for "FLOAT"), a rate that is no whole number above 0, and a suffix or
    subtype that cannot be written; OSError where the disk does not take it.
    """
    import soundfile

    path = Path(path)
    format_ = FORMATS.get(path.suffix.lower())
    if format_ is None:
        raise ValueError(f"{path.name} must end with one of {', '.join(FORMATS)}")
    if subtype not in SUBTYPES or (subtype == "FLOAT" and format_ == "FLAC"):
        raise ValueError(
            f"subtype must be one of {', '.join(SUBTYPES)} (and not FLOAT for .flac), got "
            f"{subtype!r}"
        )
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or rate < 1:
        raise ValueError(f"rate must be a whole number of Hz above 0, got {rate!r}")
    numbers = _numbers(_samples(audio), subtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as temporary:
            soundfile.write(temporary, numbers, int(rate), subtype=subtype, format=format_)
    except soundfile.SoundFileError as error:
        raise OSError(f"{path} could not be written: {_reason(error)}") from None
    return path


def _samples(audio: Any) -> np.ndarray:
    """(n,) or (n, channels), float64 or int16; says what is wrong with anything else."""
    if hasattr(audio, "detach"):
        audio = audio.detach().cpu()
        audio = (audio.float() if audio.is_floating_point() else audio).numpy()
    audio = np.asarray(audio)
    if audio.ndim == 2 and audio.shape[0] == 1:
        audio = audio[0]
    if audio.ndim not in (1, 2) or (audio.ndim == 2 and audio.shape[1] > 16):
        raise ValueError(
            f"audio must be (n,), (1, n) or (n, channels), got {audio.shape}"
            + (": channels come last" if audio.ndim == 2 else "")
        )
    if not audio.size:
        raise ValueError(f"there is no sound to write: audio is {audio.shape}")
    if audio.dtype == np.int16:
        return audio
    if not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"audio must be float in [-1, 1], or int16, got {audio.dtype}")
    bad = int((~np.isfinite(audio)).sum())
    if bad:
        raise ValueError(f"audio holds NaN or infinite values: {bad:,} of {audio.size:,} numbers")
    return audio.astype(np.float64)


def _numbers(audio: np.ndarray, subtype: str) -> np.ndarray:
    """What soundfile writes without a change."""
    if subtype == "FLOAT":
        return (audio / 32768 if audio.dtype == np.int16 else audio).astype(np.float32)
    if audio.dtype == np.int16:
        return audio if subtype == "PCM_16" else audio.astype(np.int32) << 16
    most = np.abs(audio).max()
    if most > 1 + OVER:
        raise ValueError(
            f"audio must lie in [-1, 1] and reaches {most:.3g}: scale it, or clip it, or write "
            'subtype "FLOAT"'
        )
    scale = 2 ** (SUBTYPES[subtype] - 1)
    whole = np.clip(np.round(audio * scale), -scale, scale - 1)
    return whole.astype(np.int16) if subtype == "PCM_16" else whole.astype(np.int32) << 8


def _check_size(path: Path) -> None:
    """Refuses a WAV or AIFF file that ends before its header says; libsndfile would not."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(12)
        order, name = {
            (b"RIFF", b"WAVE"): ("<", b"data"),
            (b"FORM", b"AIFF"): (">", b"SSND"),
            (b"FORM", b"AIFC"): (">", b"SSND"),
        }.get((head[:4], head[8:12]), ("", b""))
        while order:
            chunk = file.read(8)
            if len(chunk) < 8:
                raise _truncated(path, f"sound in a chunk called {name.decode()}", "none")
            length = struct.unpack(order + "I", chunk[4:])[0]
            if chunk[:4] == name:
                here = size - file.tell()
                if length not in UNKNOWN_SIZES and here < length:
                    raise _truncated(path, f"{length:,} bytes of sound", f"{here:,}")
                return
            file.seek(length + length % 2, os.SEEK_CUR)


def _truncated(path: Path, promised: str, found: str) -> BadAudio:
    return BadAudio(f"{path} is truncated: its header promises {promised}, and {found} are there")


def _reason(error: Exception) -> str:
    """What libsndfile says, without the path, which may be a temporary one."""
    return str(error).rpartition(": ")[2].strip().rstrip(".") or type(error).__name__
