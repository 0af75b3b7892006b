"""What is told of generated sounds beside ``judging``: level, clipping, pitch, and vocoders.

``judging.judge_sounds`` says how near samples are to reals by a classifier's features. A set that
is all too quiet, or clipped, or out of tune, should show as well; and a vocoder is measured by the
sound that it was to give back.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from undiffuse import downloads, sources
from undiffuse.checkpoints import Checkpoint
from undiffuse.draw import generators
from undiffuse.hearing import CALLS, vocoded
from undiffuse.sound import rms_dbfs
from undiffuse.sound_metrics import clipping_share, log_spectral_distance, pitch_error_cents
from undiffuse.transforms import stft_magnitude

HIGHEST_KEY = 106  # the last one whose fundamental 8 kHz hold, and ``estimate_pitch`` finds
IN_TUNE = 50.0  # cents; beyond, another key is nearer
N_FFT, HOP = 256, 64
# 90 dB below a full-scale sine, whose magnitude is half the sum of the window: there the noise of a
# recording of 16 bits ends, about.
LSD_FLOOR = N_FFT / 4 * 10 ** (-90 / 20)
ROUNDS = (60, 200, 400)


def sound_figures(
    audio: torch.Tensor, labels: torch.Tensor, data: str = "drums"
) -> dict[str, float | None]:
    """Level and clipping of clips (N, 1, L) in [-1, 1] of a set, and of notes their pitch.

    labels: (N,), as ``data`` ("drums", "notes" or "fsdd") has them. "loudness_db": the median RMS
    in dBFS; "clipping": the share of samples at full scale. Of notes, over the keys 24 to 106 (the
    fundamentals of others are beyond 4 kHz): "pitched", the share of clips that have a pitch;
    "pitch_cents", the median size of its error; "pitch_cents_folded", the same to the nearest
    octave (``pitch_error_cents`` says when that is right); "in_tune": the share of all whose plain
    error is below 50 cents. None where nothing has a pitch. ValueError for shapes that do not fit.
    """
    source = sources.source(data)
    if audio.ndim != 3 or audio.shape[1] != 1 or len(audio) != len(labels) or not len(audio):
        raise ValueError(
            f"audio must be (N, 1, L) with N labels, got {tuple(audio.shape)} and {len(labels)}"
        )
    x = audio[:, 0]
    found: dict[str, float | None] = {
        "loudness_db": float(rms_dbfs(x).median()),
        "clipping": float(clipping_share(x).mean()),
    }
    if not source.factors:
        return found
    midi = sources.note_parts(labels)[1]
    rows = midi <= HIGHEST_KEY
    keys = ("pitched", "pitch_cents", "pitch_cents_folded", "in_tune")
    if not rows.any():
        return found | dict.fromkeys(keys)
    error = pitch_error_cents(x[rows], midi[rows], source.rate)
    folded = pitch_error_cents(x[rows], midi[rows], source.rate, fold_octaves=True)
    has = ~error.isnan()

    def median(cents: torch.Tensor) -> float | None:
        return float(cents[has].abs().median()) if has.any() else None

    in_tune = (error.abs() < IN_TUNE).double().mean()
    values = (float(has.double().mean()), median(error), median(folded), float(in_tune))
    return found | dict(zip(keys, values))


def spoken_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Log-spectral distance in dB of clips (N, L), over the frames until ``a`` ends: (N,).

    Silence after a word is alike in all, and would only dilute the distance. Frames of 256 samples,
    64 apart; what is 90 dB below a full-scale sine counts as nothing.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"clips (N, L) twice are wanted, got {tuple(a.shape)}, {tuple(b.shape)}")
    far = []
    for x, y in zip(a, b):
        heard = x.nonzero()
        end = max(N_FFT, int(heard.max()) + 1 if len(heard) else 0)
        pair = (stft_magnitude(v[:end], N_FFT, HOP) for v in (x, y))
        far.append(log_spectral_distance(*pair, LSD_FLOOR))
    return torch.stack(far)


def judge_vocoder(
    vocoder: Checkpoint,
    n: int = 100,
    seeds: Iterable[int] = (0, 1, 2),
    calls: Iterable[int] = (4, CALLS),
    rounds: Iterable[int] = ROUNDS,
    said: Callable[[str], Any] = lambda line: None,
) -> dict[str, Any]:
    """How near spoken digits come back from their mels, by ``vocoder`` and by Griffin-Lim.

    n clips each of "held_out" (new takes of speakers whom the vocoder knows) and of "unheard" (a
    speaker whom it does not) are made log-mels (``sources.log_mels``), these sound again, as
    ``course sample`` does, and that is compared by ``spoken_distance``; a ``spectral_vocoder`` at
    temperature 1, too. said: called with a line for each way. Needs the download "fsdd".

    Returns plain data: "splits", where split -> way has "lsd_db", the mean of each seed, and
    "real_time_factor", seconds of computing for a second of sound; and
    "nearer_than_griffin_lim": whether in both splits, with ``hearing.CALLS`` calls, every seed is
    nearer than every seed of the best number of Griffin-Lim's rounds.
    """
    seeds, ways = tuple(seeds), {}

    def by_network(k: int, **changes: float) -> Callable[..., torch.Tensor]:
        return lambda mels, seed: vocoded(
            vocoder, mels, generators(seed, 0, len(mels)), k, **changes
        )

    for k in dict.fromkeys([*calls, CALLS]):
        ways[f"vocoder, {k} calls"] = by_network(k)
    if vocoder.recipe.network.get("design") == "spectral":
        ways[f"vocoder, {CALLS} calls, temperature 1"] = by_network(CALLS, temperature=1.0)
    for k in rounds:
        ways[f"Griffin-Lim, {k} rounds"] = lambda mels, seed, k=k: sources.sounds_of(
            mels, torch.Generator().manual_seed(seed), k
        )
    splits: dict[str, dict[str, Any]] = {}
    counts = {}
    for split in ("held_out", "unheard"):
        clips, _ = downloads.fsdd(split, n)
        counts[split], mels = len(clips), sources.log_mels(clips)
        seconds = clips.shape[-1] * len(clips) / sources.MEL["rate"]
        splits[split] = {}
        for way, make in ways.items():
            far, factors = [], []
            for seed in seeds:
                start = time.perf_counter()
                made = make(mels, seed)
                factors.append((time.perf_counter() - start) / seconds)
                far.append(round(float(spoken_distance(clips[:, 0], made[:, 0]).mean()), 4))
            factor = float(f"{statistics.mean(factors):.3g}")
            splits[split][way] = {"lsd_db": far, "real_time_factor": factor}
            said(f"{split}, {way}: {statistics.mean(far):.2f} dB, real-time factor {factor:g}")
    return {
        "n": counts,
        "seeds": list(seeds),
        "splits": splits,
        "nearer_than_griffin_lim": all(_nearer(found) for found in splits.values()),
    }


def _nearer(found: dict[str, Any]) -> bool:
    classic = [v["lsd_db"] for way, v in found.items() if way.startswith("Griffin")]
    best = min(classic, key=statistics.mean)
    return max(found[f"vocoder, {CALLS} calls"]["lsd_db"]) < min(best)
