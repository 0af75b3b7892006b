"""The card of a checkpoint: what it is, what it was made from, and the figures measured of it."""

from __future__ import annotations

import statistics
from typing import Any

import prompt_figures
from checkpoint_figures import rows

from undiffuse import recipes
from undiffuse.sources import MEL, Source

HEAD = """# {name}

{what}

- **Trained on** {trained_on}: {steps:,} steps of {batch}
  {unit}, {minutes:.0f} minutes on {machine}.
- **Made by** `{command}`, by the recipe [`{name}.toml`](../recipes/{name}.toml).
- **Network**: {design}, {parameters:,} parameters, {mflops:,.0f} MFLOP a call{of}, float16,
  {megabytes:.1f} MB. It predicts {prediction}; schedule: {schedule}. The weights are averages over
  training.

{table}

"""
READING = """\
Each column: {n:,} samples a seed, seeds {seeds}, labels in the class shares of the reference set,
guidance {guidance} (1 is none); mean over the seeds, in brackets the lowest and the highest.
Features and classes are those of [`{data}_classifier`](../checkpoints/{data}_classifier.md), which
was trained on other {unit}. FD, KID, precision and recall are against the split `reference`; the
column of real data is the split `held_out` in place of samples, at the same count: what a perfect
model can expect. Memorisation is the median distance to the nearest training {one} over that of
held-out reals: near 1 is as it should be, well below 1 means copies.

"""
SMALL = """\
With {n} {unit} a seed, all this is coarse: `{name}.json` has intervals for FD and accuracy. The
nearest 1% of {n} is {nearest}.

"""
PITCH = """\
Pitch is measured over keys whose fundamental is below 4 kHz. To the nearest octave, since for some
instruments, organs above all, the key does not settle the octave; the column of real data says how
much that is, and how well the period can be measured at all.

"""
HEARD = """\
The model draws log-mel spectrograms; what is judged is their sound ({by}).
Real held-out spectrograms made sound in the same way get FD {fd:.3f} and class accuracy
{accuracy:.3f}: what a perfect model of spectrograms could expect.{new_voice}

"""
NEW_VOICE = """ Of real recordings of a speaker
whom it has never heard, the classifier understands {unheard:.3f}."""
VOCODER = """\
Distances in dB between a recording and what is made of its mel: the root mean square difference of
their log spectra, averaged over the frames until the word ends (`sound_judging.spoken_distance`);
mean over seeds {seeds}, in brackets the lowest and the highest. `held_out` are {known} new takes of
speakers who are in the training data, `unheard` {new} of a speaker who is not. The real-time factor
is the time to compute, over the time that the sound lasts.

**{verdict}**

A distance counts every band alike, loud or soft, and another noise, which sounds right, is several
dB away: a lower distance is not always a better sound.

"""
FEW = "With 10 calls of DPM-Solver++ FD is {few:.2f} times that with 50 calls of DDIM.\n\n"
FOOT = """**Not to be used** {against}, nor as a source of training data that passes for real.

Licence of the weights: that of the code. Of the {unit} they were made from: see
[the card of {set}](../{folder}/{set}.md).

All figures here are written by the command above, and are in `{name}.json`.
"""
TOLD = {
    "drums": "the kind of drum",
    "notes": "family of instruments and key",
    "notes-mel": "family of instruments and key",
    "fsdd": "the digit",
    "fsdd-mel": "the digit",
}
DESIGNS = {
    "unet": "U-Net",
    "wavenet": "dilated stack (WaveNet)",
    "vocoder": "dilated stack",
    "spectral": "U-Net over frequency and time",
    "dit": "diffusion transformer",
    "tone": "U-Net that sees a plain tone of the key",
}
AGAINST = {
    "image": "to compare with figures made with other features or counts (FID with an Inception\n"
    "network, say)",
    "sound": "to compare with figures made with other features or counts (of another classifier,\n"
    "say)",
    "vocoder": "for other rates, other mels or music",
}
LEVELS = ("loudness_db", "pitch_cents", "pitch_cents_folded")  # figures with one decimal


def cell(key: str, values: list[float | None]) -> str:
    """Mean, lowest and highest of some seeds; a dash where one has no such figure."""
    if any(v is None for v in values):
        return "–"
    digits = 1 if key in LEVELS else 3
    low, high, mean = min(values), max(values), statistics.mean(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(figures: dict[str, Any], source: Source) -> str:
    """The card's table: samplers beside real data; of a vocoder, ways beside one another."""
    if source.told:
        return prompt_figures.table(figures)
    if source.kind == "vocoder":
        return _vocoder_table(figures)
    given = {"ratio": 1.0, "kid": None, "memorisation": 1.0, "excess": 0.0, "accuracy_share": 1.0}
    real = figures["floor"] | given
    real["accuracy_share_unheard"] = 1.0
    titles = [f"{s['solver']}, {s['calls']} calls" for s in figures["samplers"].values()]
    lines = ["| | " + " | ".join([*titles, "real data"]) + " |", "|---|" + "---:|" * 3]
    runs = [s["seeds"] for s in figures["samplers"].values()]
    for key, title in rows(source).items():
        cells = [cell(key, [q[key] for q in run]) for run in runs]
        digits = 1 if key in LEVELS else 3
        if real[key] is None:
            cells.append("0 on average" if key == "kid" else "–")
        else:
            cells.append(f"{real[key]:.{digits}f}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for quantile, value in real["nearness"].items():
        cells = [cell("", [q["nearness"]["samples"][quantile] for q in run]) for run in runs]
        title = f"nearest {float(quantile):.0%}: distance to training data"
        lines.append(f"| {title} | " + " | ".join([*cells, f"{value:.3f}"]) + " |")
    return "\n".join(lines)


def _vocoder_table(figures: dict[str, Any]) -> str:
    splits = figures["splits"]
    lines = ["| | " + " | ".join(f"`{s}`, dB" for s in splits) + " | real-time factor |"]
    lines.append("|---|" + "---:|" * (len(splits) + 1))
    for way, first in next(iter(splits.values())).items():
        cells = []
        for found in splits.values():
            far = found[way]["lsd_db"]
            cells.append(f"{statistics.mean(far):.2f} ({min(far):.2f} to {max(far):.2f})")
        lines.append(f"| {way} | " + " | ".join([*cells, f"{first['real_time_factor']:g}"]) + " |")
    return "\n".join(lines)


def guidance_in_words(recipe: recipes.Recipe) -> str:
    """Such as "1.2", or "1.6 between the times 0.2 and 0.8"."""
    lo, hi = recipe.guidance_interval
    between = "" if (lo, hi) == (0, 1) else f" between the times {lo:g} and {hi:g}"
    return f"{recipe.guidance:g}{between}"


def card(figures: dict[str, Any], recipe: recipes.Recipe, shape: tuple[int, ...]) -> str:
    """The text of NAME.md, from what is in NAME.json."""
    source, quality, facts = recipe.source, figures["quality"], figures["run"]
    if recipe.told:
        return prompt_figures.card(figures, recipe)
    kind, name, set_ = source.kind, figures["name"], figures["trained_on"]["set"]
    sampled = f"`course sample {name}` draws from it."
    n = figures["trained_on"]["n"]
    if kind == "image":
        what = f"A diffusion model of `{set_}`, conditional on its ten classes: {sampled}"
        trained_on = f"the split `train` of `{set_}`, {n:,} images"
        unit, one, folder = "images", "image", "images"
    else:
        unit, one, folder = "clips", "clip", "audio"
        length = shape[-1] * (MEL["hop"] if len(shape) == 3 else 1)
        form = f"{length / source.rate:.3g} s at {source.rate:,} Hz"
        if kind == "vocoder":
            unit, one = "pieces", "piece"
            what = (
                f"A vocoder: a diffusion model of the sound that belongs to a log-mel spectrogram "
                f"of\n`{set_}`. `course sample speech --vocoder {name}` lets spectrograms be heard "
                "by it."
            )
        else:
            told = f"conditional on {TOLD[source.name]}"
            form += f", as log-mel spectrograms of {shape[-2]} x {shape[-1]}" * (kind == "mel")
            what = f"A diffusion model of `{set_}`, {told}: {sampled}"
        trained_on = f"the split `train` of `{set_}`, {n:,} {unit} of {form}"
        if recipe.transpose:
            steps = ", ".join(f"{k:+d}" for k in recipe.transpose)
            trained_on += f", and the same transposed by {steps} semitones"
    parts = [HEAD]
    if kind == "vocoder":
        parts.append(VOCODER)
    else:
        parts.append(READING)
        if kind != "image":
            parts.append(SMALL)
        if source.factors:
            parts.append(PITCH)
        if kind == "mel":
            parts.append(HEARD)
        parts.append(FEW)
    louder = f", of data times {recipe.scale:g}" if recipe.scale != 1 else ""
    of = f" on {shape[-1]:,} {'frames' if len(shape) == 3 else 'samples'}"
    of = of if kind == "vocoder" else ""
    values = {
        "name": name,
        "what": what,
        "trained_on": trained_on,
        "steps": facts.get("steps", recipe.steps),
        "batch": recipe.batch,
        "unit": unit,
        "one": one,
        "minutes": facts.get("seconds", 0) / 60,
        "machine": facts.get("machine", "a machine that was not noted"),
        "command": figures["command"],
        "design": DESIGNS[recipe.network.get("design", "unet")],
        "parameters": figures["parameters"],
        "mflops": figures["flops_per_call"] / 1e6,
        "of": of,
        "megabytes": figures["bytes"] / 1e6,
        "prediction": recipe.prediction,
        "schedule": recipe.schedule + louder,
        "table": table(quality, source),
        "seeds": ", ".join(map(str, quality["seeds"])),
        "guidance": guidance_in_words(recipe),
        "data": source.judge,
        "against": AGAINST.get(kind, AGAINST["sound"]),
        "set": set_,
        "folder": folder,
    }
    if kind == "vocoder":
        nearer = quality["nearer_than_griffin_lim"]
        values |= {"known": quality["n"]["held_out"], "new": quality["n"]["unheard"]}
        values["verdict"] = (
            "It comes nearer than Griffin-Lim, with every seed."
            if nearer
            else "It does not come nearer than Griffin-Lim with every seed, and `course sample` "
            "does not take it unasked."
        )
    else:
        values |= {"n": quality["n"], "few": quality["fd_of_10_calls_over_50"]}
        values["nearest"] = "less than one clip" if quality["n"] < 100 else "a few clips"
    if kind == "mel":
        values |= quality["real_mels"] | {"by": quality["heard_by"]}
        unheard = quality["floor"].get("accuracy_unheard")
        values["new_voice"] = "" if unheard is None else NEW_VOICE.format(unheard=unheard)
    return "".join([*parts, FOOT]).format(**values)
