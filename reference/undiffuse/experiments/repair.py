"""Repair without retraining (lesson 14): holes in pictures, gaps in sound, with classics beside.

Every run repairs the same kind of hole in n held-out items with one method. The shipped networks
have seen none of these items; a seed chooses the items and the noise, so that the spread over seeds
is that of both. Two errors are told apart, since no repair is best in both: that of one draw, and
that of the mean of several, which is nearer to the truth and looks like nothing real. Classical
ways give one answer, which stands for both.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from undiffuse.experiments import Experiment, compare, separate

HOLES = {"centre": (8, 20, 8, 20), "right half": (0, 28, 14, 28)}  # top, bottom, left, right
# Samples at 16 kHz: two gaps that begin 30 ms after the stroke, and one that swallows it.
GAPS = {"20 ms": (480, 800), "40 ms": (480, 1120), "stroke, 20 ms": (0, 320)}
NETWORK = "network"
BOTH = "network, from a prediction"  # of Burg's, for sound: drawn anew in part
STRENGTH = 0.25  # of that; chosen on hits of the split reference
TOLD = "network, told the kind"  # of drum, as who repairs a recording knows it
GUIDANCE = 2.0  # of that; chosen there, too
SMOOTH = ("biharmonic", "Telea", "Navier-Stokes")
TAUGHT = ("nearest training image", "Gaussian")  # know the training set, as the network does
LINEAR = ("Burg, 64", "Burg, 400", "Janssen, 128", "spectral")
HEARD = -60.0  # dB below a full-scale sine; what is quieter counts as nothing
N_FFT, HOP = 256, 64
BANDS = 20  # of the mel scale


@dataclass(frozen=True)
class Repair:
    """One run: which items, which hole, which method."""

    data: str
    hole: str
    method: str
    seed: int
    n: int
    draws: int
    calls: int
    repeats: int
    device: str = "cpu"


def runs(budget: str) -> list[Repair]:
    """Small: a few items, few calls, one seed. GPU: more items, draws and calls."""
    size: dict[str, Any] = {
        "small": {"n": 6, "draws": 2},
        "full": {"n": 100, "draws": 2},
        "gpu": {"n": 500, "draws": 8, "device": "cuda"},
    }[budget]
    small = budget == "small"
    pictures, sounds = {
        "small": ({"calls": 10, "repeats": 2}, {"calls": 4, "repeats": 2}),
        "full": ({"calls": 100, "repeats": 5}, {"calls": 60, "repeats": 2}),
        "gpu": ({"calls": 250, "repeats": 10}, {"calls": 150, "repeats": 3}),
    }[budget]
    seeds = (0,) if small else (0, 1, 2)
    found = [
        Repair(data, hole, method, seed, **size, **pictures)
        for seed in seeds
        for data in ("digits", "fashion")
        for hole in (HOLES if not small else ("centre",))
        for method in (NETWORK, *SMOOTH, *TAUGHT)
    ]
    size["n"] = min(size["n"], 60)  # 82 hits are held out
    found += [
        Repair("drums", gap, method, seed, **size, **sounds)
        for seed in seeds
        for gap in (GAPS if not small else ("20 ms",))
        for method in (NETWORK, TOLD, BOTH, *LINEAR)
    ]
    return found


def measure(run: Repair) -> dict[str, Any]:
    """The errors of a method on the items of a seed."""
    return sound_errors(run) if run.data == "drums" else picture_errors(run)


# --- pictures --------------------------------------------------------------------------------


def picture_errors(run: Repair) -> dict[str, Any]:
    """In the hole, in the range [-1, 1]: RMSE; over the whole picture: features and classes."""
    from undiffuse import classifiers

    x, labels = _items(run)
    top, bottom, left, right = HOLES[run.hole]
    mask = torch.ones(1, 28, 28, dtype=torch.bool)
    mask[:, top:bottom, left:right] = False
    holed = torch.where(mask, x, torch.zeros_like(x))
    filled = _pictures(run, holed, mask)
    judge = _judge(run.data)
    seen = classifiers.examine(judge, x)[0]

    def rmse(z: torch.Tensor) -> float:
        return float((z - x)[..., ~mask[0]].square().mean().sqrt())

    apart = [(classifiers.examine(judge, z)[0] - seen).norm(dim=1).mean() for z in filled]
    right_class = [classifiers.accuracy(judge, z, labels) for z in filled]
    return {
        "RMSE": sum(map(rmse, filled)) / len(filled),
        "RMSE of the mean": rmse(torch.stack(filled).mean(0)),
        "feature distance": float(torch.stack(apart).mean()),
        "accuracy": sum(right_class) / len(right_class),
        "accuracy of the whole pictures": classifiers.accuracy(judge, x, labels),
    }


def _pictures(run: Repair, x: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Each a whole repaired batch: several draws of the network, one of any other method."""
    if run.method == NETWORK:
        from undiffuse import repair

        network = _network(run.data, run.device)
        return [
            repair.inpaint(network, x, mask, calls=run.calls, repeats=run.repeats,
                           seed=1000 * run.seed + k)
            for k in range(run.draws)
        ]  # fmt: skip
    if run.method in TAUGHT:
        return [torch.where(mask, x, _taught(run, x, mask))]
    return [torch.where(mask, x, _smooth(run.method, x, mask).clamp(-1, 1))]


def _smooth(method: str, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """By scikit-image and OpenCV, which the course needs for this only."""
    import numpy as np

    hole = ~mask[0].numpy()
    try:
        if method == "biharmonic":
            from skimage.restoration import inpaint_biharmonic

            found = [inpaint_biharmonic(image.double().numpy(), hole) for image in x[:, 0]]
            return torch.from_numpy(np.stack(found))[:, None].to(x.dtype)
        import cv2
    except ImportError as error:
        raise ImportError(
            f"{method} is that of another library: pip install '.[repair]' ({error})"
        ) from None
    way = cv2.INPAINT_TELEA if method == "Telea" else cv2.INPAINT_NS
    pixels = ((x[:, 0] + 1) * 127.5).round().to(torch.uint8).numpy()
    found = [cv2.inpaint(image, hole.astype(np.uint8), 3, way) for image in pixels]
    return torch.from_numpy(np.stack(found) / np.float32(127.5) - np.float32(1))[:, None]


def _taught(run: Repair, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The training image that fits best where x is known, or the best linear guess from there."""
    from undiffuse import data

    images = getattr(data, run.data)("train")[0]
    known, flat = mask.flatten(), images.flatten(1)
    if run.method == "nearest training image":
        return images[torch.cdist(x.flatten(1)[:, known], flat[:, known]).argmin(1)]
    mean = flat.mean(0)
    spread = torch.cov(flat.T) + 1e-2 * torch.eye(flat.shape[1])
    weights = torch.linalg.solve(spread[known][:, known], spread[known][:, ~known])
    out = x.flatten(1).clone()
    out[:, ~known] = mean[~known] + (out[:, known] - mean[known]) @ weights
    return out.reshape(x.shape).clamp(-1, 1)


# --- sound -----------------------------------------------------------------------------------


def sound_errors(run: Repair) -> dict[str, Any]:
    """In dB: log-spectral distance of the frames that meet the gap, how far the levels of mel bands
    over all these frames are off, SNR and level in the gap."""
    from undiffuse.sound import rms_dbfs
    from undiffuse.sound_metrics import log_spectral_distance
    from undiffuse.transforms import mel_filterbank, stft_magnitude

    x, labels = _items(run)
    start, stop = GAPS[run.hole]
    holed = x.clone()
    holed[..., start:stop] = 0.0
    filled = _sounds(run, holed, labels, start, stop)
    # Frames are centred; those less than half a frame away from the gap hold a part of it.
    frames = slice(max(0, (start - N_FFT // 2) // HOP + 1), (stop + N_FFT // 2 - 1) // HOP + 1)
    floor = N_FFT / 4 * 10 ** (HEARD / 20)
    true = stft_magnitude(x[:, 0], N_FFT, HOP)[..., frames]

    def spectral(z: torch.Tensor) -> float:
        seen = stft_magnitude(z[:, 0], N_FFT, HOP)[..., frames]
        return float(log_spectral_distance(seen, true, floor).mean())

    weights = mel_filterbank(BANDS, N_FFT, 16000.0)
    weights = weights / weights.sum(1, keepdim=True)

    def bands(z: torch.Tensor) -> torch.Tensor:
        power = stft_magnitude(z[:, 0], N_FFT, HOP)[..., frames].square().mean(-1)
        return 10 * torch.log10((power @ weights.T).clamp(min=floor**2))

    def band_error(z: torch.Tensor) -> float:
        return float((bands(z) - bands(x)).abs().mean())

    def snr(z: torch.Tensor) -> float:
        wrong = (z - x)[..., start:stop].square().sum((1, 2)).clamp(min=1e-12)
        return float((10 * torch.log10(x[..., start:stop].square().sum((1, 2)) / wrong)).median())

    def level(z: torch.Tensor) -> float:
        loud = [rms_dbfs(v[..., start:stop].squeeze(1), floor=-80.0) for v in (z, x)]
        return float((loud[0] - loud[1]).abs().median())

    return {
        "LSD": sum(map(spectral, filled)) / len(filled),
        "band error": sum(map(band_error, filled)) / len(filled),
        "SNR": sum(map(snr, filled)) / len(filled),
        "SNR of the mean": snr(torch.stack(filled).mean(0)),
        "level error": sum(map(level, filled)) / len(filled),
    }


def _sounds(
    run: Repair, x: torch.Tensor, labels: torch.Tensor, start: int, stop: int
) -> list[torch.Tensor]:
    from undiffuse import classical_repair, repair

    if run.method in (NETWORK, TOLD, BOTH):
        network = _network("drums", run.device)
        more: dict[str, Any] = {}
        if run.method == BOTH:
            predicted = classical_repair.predict_gap(x, start, stop, 400)
            more = {"begin": predicted, "strength": STRENGTH}
        if run.method == TOLD:
            more = {"labels": labels, "guidance": GUIDANCE}
        return [
            repair.fill_gap(network, x, start, stop, calls=run.calls, repeats=run.repeats,
                            seed=1000 * run.seed + k, **more)
            for k in range(run.draws)
        ]  # fmt: skip
    name, _, order = run.method.partition(", ")
    if name == "Burg":
        return [classical_repair.predict_gap(x, start, stop, int(order))]
    if name == "Janssen":
        return [classical_repair.autoregressive_gap(x, start, stop, int(order))]
    return [classical_repair.spectral_gap(x, start, stop, N_FFT)]


def _items(run: Repair) -> tuple[torch.Tensor, torch.Tensor]:
    """n items of the split held_out, chosen by the seed, with their labels.

    Of sounds those that still sound at the end of the longest gap: a gap in silence is no test.
    """
    from undiffuse import data
    from undiffuse.sound_metrics import sounding_seconds

    x, labels = getattr(data, run.data)("held_out")
    if run.data == "drums":
        last = max(stop for _, stop in GAPS.values()) / 16000
        heard = sounding_seconds(x[:, 0], 16000) >= last
        x, labels = x[heard], labels[heard]
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(run.seed))[: run.n]
    return x[chosen], labels[chosen]


@functools.lru_cache(maxsize=3)
def _network(name: str, device: str):
    from undiffuse import checkpoints

    return checkpoints.load(name, device)


@functools.lru_cache(maxsize=2)
def _judge(name: str):
    from undiffuse import classifiers

    return classifiers.load(name)


# --- what the figures show -------------------------------------------------------------------

PICTURES = (("RMSE", True), ("RMSE of the mean", True), ("feature distance", True))
SOUNDS = (("LSD", True), ("band error", True), ("SNR of the mean", False))


def conclude(found: Mapping[Repair, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """L14-inpainting and L14-gaps: the network against the best classical way, by each measure."""
    pictures = {r: f for r, f in found.items() if r.data != "drums"}
    sounds = {r: f for r, f in found.items() if r.data == "drums"}
    made = {}
    if pictures:
        made["L14-inpainting"] = _against(pictures, SMOOTH, PICTURES) | {
            "measures": "in the hole, values in [-1, 1]: root mean square error of one draw, and "
            "of the mean of the draws; distance of the classifier's features of the whole picture",
            "not_shown": "28 x 28 pixels, two holes, networks of one size",
        }
    if sounds:
        made["L14-gaps"] = _against(sounds, LINEAR, SOUNDS) | {
            "measures": f"log-spectral distance of one draw in the frames of {N_FFT} samples that "
            f"meet the gap, in dB, where what is {-HEARD:.0f} dB below a full-scale sine counts as "
            f"nothing; mean error of the levels of {BANDS} mel bands over these frames, in dB; "
            "median signal-to-noise ratio in the gap of the mean of the draws, in dB",
            "gaps": {name: list(place) for name, place in GAPS.items()},
            "prediction": f"{BOTH}: Burg, 400, of which a strength of {STRENGTH} is drawn anew",
            "told": f"{TOLD}: by its class, guidance {GUIDANCE:g}",
            "not_shown": "drums of half a second, gaps at two places",
        }
    return made


def _against(
    found: Mapping[Repair, Mapping[str, Any]],
    classical: tuple[str, ...],
    measures: tuple[tuple[str, bool], ...],
) -> dict[str, Any]:
    ordered = sorted(found.items(), key=lambda pair: pair[0].seed)
    rows = [
        {"data": r.data, "hole": r.hole, "method": r.method, "seed": r.seed, **f}
        for r, f in ordered
    ]
    network = next(r for r in found if r.method == NETWORK)
    bars, parts = [], []
    for data, hole in dict.fromkeys((r.data, r.hole) for r, _ in ordered):
        for name, lower in measures:

            def of(method: str, where=(data, hole), key=name) -> list[float]:
                return [
                    f[key] for r, f in ordered if (r.data, r.hole, r.method) == (*where, method)
                ]

            mean = {m: sum(of(m)) / len(of(m)) for m in classical}
            best = (min if lower else max)(mean, key=mean.get)
            for ours in (m for m in (NETWORK, TOLD, BOTH) if of(m)):
                word = separate(of(ours), of(best), lower_is_better=lower)
                bars.append({"data": data, "hole": hole, "measure": name, "ours": ours,
                             "best classical": best, "figures": of(ours), "classical": of(best),
                             "met": word == "first", "lost": word == "second"})  # fmt: skip
                said = compare(ours, of(ours), best, of(best), what=name, lower_is_better=lower)
                parts.append(f"{data}, {hole}: {said}")
    words = []
    for ours in dict.fromkeys(b["ours"] for b in bars):
        mine = [b for b in bars if b["ours"] == ours]
        met, lost = (sum(b[k] for b in mine) for k in ("met", "lost"))
        words.append(f"{ours}: better than the best classical way in {met} of {len(mine)} "
                     f"comparisons, worse in {lost}")  # fmt: skip
    return {
        "rows": rows, "verdict": "; ".join(words + parts), "bars": bars,
        "n": network.n, "draws": network.draws, "calls": network.calls,
        "repeats": network.repeats, "split": "held_out",
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="repair",
    version=2,
    about="holes in digits and clothes, gaps in drum hits: the shipped networks against classics",
    claims=("L14",),
    runs=runs,
    measure=measure,
    conclude=conclude,
)
