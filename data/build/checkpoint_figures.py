"""What is measured of a checkpoint, by the kind of data that it makes."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import prompt_figures
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "reference"))
from undiffuse import checkpoints, classifiers, hearing, judging, presets, sources
from undiffuse.checkpoints import Checkpoint
from undiffuse.draw import draw, heard
from undiffuse.sound_judging import judge_vocoder, sound_figures
from undiffuse.text import UNKNOWN

N, SEEDS = 1000, (0, 1, 2)
N_VOCODER = 100
SAMPLERS = {"ddim_50": ("ddim", 50), "dpmpp_2m_10": ("dpmpp_2m", 10)}
IMAGE_ROWS = {
    "fd": "Fréchet distance (FD)",
    "ratio": "FD over the floor",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "class accuracy",
    "memorisation": "memorisation",
}
SOUND_ROWS = {
    "fd": "Fréchet distance (FD)",
    "excess": "FD above the floor",
    "ratio": "FD over the floor",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "class accuracy",
    "accuracy_share": "class accuracy over that of real data",
    "memorisation": "memorisation",
    "loudness_db": "loudness, median RMS in dBFS",
    "clipping": "share of samples at full scale",
}
PITCH_ROWS = {
    "pitched": "share with a pitch",
    "pitch_cents": "median pitch error, cents",
    "pitch_cents_folded": "the same to the nearest octave",
    "in_tune": "share within 50 cents",
}
SPEECH_ROWS = {"accuracy_share_unheard": "class accuracy over that of real speech of a new speaker"}


def rows(source: sources.Source) -> dict[str, str]:
    """Figure -> its title, of the samples of a source."""
    if source.kind == "image":
        return IMAGE_ROWS
    found = SOUND_ROWS | (PITCH_ROWS if source.factors else {})
    return found | (SPEECH_ROWS if source.judge == "fsdd" else {})


def measure(path: Path, n: int | None, device: str) -> dict[str, Any]:
    """All figures of a checkpoint file. n: samples a seed; None is what cards say."""
    found = checkpoints.load(path, device)
    if found.recipe.told:
        return prompt_figures.measure_prompts(found, SEEDS, n)
    if found.recipe.source.kind == "vocoder":
        return judge_vocoder(
            found, n or N_VOCODER, SEEDS, said=lambda line: print(line, flush=True)
        )
    return measure_samples(found, n or N)


def measure_samples(found: Checkpoint, n: int) -> dict[str, Any]:
    """Figures of what a checkpoint draws, per sampler and seed, and those of real data.

    n is at most the number of real samples that there are to compare with.
    """
    source = found.recipe.source
    judged = sources.source(source.judge)
    real, real_labels = judged.take("held_out")
    n = min(n, len(real), len(judged.take("reference")[1]))
    real, real_labels = real[:n], real_labels[:n]
    labels = judging.labels_like(judged.name, n)
    voice, by = hearing.choose(data=source.name) if source.kind == "mel" else (None, "")
    of_sound = source.kind != "image"
    judge = judging.judge_sounds if of_sound else judging.judge_images
    unheard = None
    if source.judge == "fsdd":
        model = classifiers.load(judged.judge)
        unheard = classifiers.accuracy(model, *judged.take("unheard"))

    def audible(samples: torch.Tensor, seed: int) -> torch.Tensor:
        return heard(found, samples, seed, voice) if of_sound else samples

    samplers, last = {}, None
    for title, (solver, calls) in SAMPLERS.items():
        each = []
        for seed in SEEDS:
            start = time.monotonic()
            samples, _ = draw(found, n, calls=calls, seed=seed, solver=solver, labels=labels)
            taken = time.monotonic() - start
            samples = audible(samples, seed)
            quality = last = judge(samples, labels, judged.name, (seed,))
            figures = judging.as_dict(quality) | {"sampling_seconds": round(taken, 1)}
            if of_sound:
                figures |= sound_figures(samples, labels, judged.name)
                figures["accuracy_share"] = quality.accuracy / quality.floor_accuracy
            if unheard:
                figures["accuracy_share_unheard"] = quality.accuracy / unheard
            each.append(figures)
            print(
                f"{found.name} {title} seed {seed}: FD {quality.fd:.3f}, {quality.ratio:.2f} times "
                f"the floor, accuracy {quality.accuracy:.3f}, recall {quality.recall:.3f} "
                f"({taken:.0f} s)",
                flush=True,
            )
        mean = {
            key: round(statistics.mean(q[key] for q in each), 4)
            for key in rows(source)
            if all(q[key] is not None for q in each)
        }
        samplers[title] = {"solver": solver, "calls": calls, "mean": mean, "seeds": each}
    floor: dict[str, Any] = {
        "fd": last.floor,
        "precision": last.floor_precision,
        "recall": last.floor_recall,
        "accuracy": last.floor_accuracy,
        "nearness": last.nearness["held_out"],
    }
    if of_sound:
        floor |= sound_figures(real, real_labels, judged.name)
    figures = {
        "n": n,
        "seeds": list(SEEDS),
        "guidance": found.recipe.guidance,
        "guidance_interval": list(found.recipe.guidance_interval),
        "floor": floor,
        "samplers": samplers,
    }
    if unheard:
        floor["accuracy_unheard"] = unheard
    if source.kind == "mel":
        again = judge(audible(source.take("held_out", n)[0], 0), real_labels, judged.name, (0,))
        figures["heard_by"] = by
        figures["real_mels"] = {"fd": again.fd, "accuracy": again.accuracy}
    few, many = (samplers[k]["mean"]["fd"] for k in ("dpmpp_2m_10", "ddim_50"))
    return figures | {"fd_of_10_calls_over_50": round(few / many, 4)}


def flops(found: Checkpoint) -> int:
    """Floating-point operations of one call of the network on one sample."""
    cond = None
    if found.recipe.told:
        length = found.model.encoder.length
        cond = torch.full((1, length), UNKNOWN, device=next(found.model.parameters()).device)
    elif found.recipe.network.get("design") == "spectral":
        cond = torch.zeros(1, *found.shape, device=next(found.model.parameters()).device)
    elif found.recipe.source.kind == "vocoder":
        config = found.model.config
        frames = found.shape[-1] // config["hop"] + 1
        cond = torch.zeros(1, config["n_mels"], frames)
        cond = cond.to(next(found.model.parameters()).device)
    return presets.flops_per_call(found.model, found.shape, cond)
