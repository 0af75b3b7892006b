"""Writes what is measured into README.md, between its markers, and draws its pictures.

It also writes data/results/README.md, the page of claims and verdicts (``verdicts``).

    python data/build/build_readme.py            the tables, from checks and data/results
    python data/build/build_readme.py --pictures  the pictures of data/pictures as well
    python data/build/build_readme.py --environment  measure this environment first
    python data/build/build_readme.py --check    only say whether README.md is up to date

The figures come from files that runs have written (``course build --record data/results``), and
the lesson table from the checks: no number is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import verdicts

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "data" / "pictures"
BUILDS = {
    "00": "a first look at a trained network, and a claim about it that you run",
    "01": "noise schedules, and what they do to pictures and sound",
    "02": "noise put in, step by step and in one jump, and the mean taken out again",
    "03": "the best denoiser there is, in closed form, and losses",
    "04": "a U-Net from its blocks: convolutions, time, attention, skips",
    "05": "a training loop: loss, optimiser, average, resume; digits in five minutes",
    "06": "samplers: DDPM, DDIM, Heun, DPM-Solver++, each against the exact answer",
    "07": "labels, and guidance towards them",
    "08": "Fréchet distance, KID, precision, recall, memorisation, each with its floor",
    "09": "augmentation, fine-tuning, LoRA and early stopping for 50 to 5,000 examples",
    "10": "fast samplers, a student of few calls, eight-bit weights: quality by seconds",
    "11": "drum hits: a network for waveforms, measures of sound, a beat",
    "12": "spectrograms there and back, a vocoder, spoken digits, notes and a melody",
    "13": "prompts: tokens, a text encoder, cross-attention; people and things from words",
    "14": "repair of pictures and sound, and data made for other models",
    "15": "flow matching, a transformer, and training on many processes",
}


def lesson_table() -> str:
    """One row a lesson that exists: title, exercises, points, minutes."""
    from coursework import checks as checks_of
    from coursework import config

    course = config.load(ROOT)
    rows = [
        "| lesson | what it is about | what you build | exercises | points (core) | minutes, core "
        "(estimate) |",
        "|---|---|---|---:|---:|---:|",
    ]
    for number in checks_of.lessons(course):
        exercises = list(checks_of.load(number, ROOT, answers=False))
        source = next(iter(sorted(course.solutions.glob(f"{number}_*.py"))), None)
        if source is None:
            continue
        title = re.search(r"^# # \d\d · (.+)$", source.read_text(encoding="utf-8"), re.M).group(1)
        title += " (draft)" * (number in course.drafts)
        core = [e for e in exercises if e.core]
        points = f"{sum(e.out_of for e in exercises)} ({sum(e.out_of for e in core)})"
        rows.append(
            f"| [{number}](lessons/{source.stem}.ipynb) | {title} | {BUILDS[number]} | "
            f"{len(exercises)} | {points} | "
            f"{sum(e.minutes for e in core)} |"
        )
    return "\n".join(rows)


def checkpoint_table() -> str:
    """One row a shipped checkpoint: its size, its training, and its quality as measured."""
    from undiffuse import checkpoints

    rows = [
        "| checkpoint | parameters | MB | training | sampler | samples a seed | FD over the "
        "floor | accuracy (real) | recall (real) |",
        "|---|---:|---:|---|---|---:|---:|---:|---:|",
    ]
    told, vocoders, seeds = [], [], set()
    for name in checkpoints.names():
        path = checkpoints.folder() / f"{name}.json"
        facts = json.loads(path.read_text(encoding="utf-8"))
        quality = facts["quality"]
        if "real" in quality:
            told.append(facts)
            continue
        if "splits" in quality:
            vocoders.append(facts)
            continue
        training = f"{facts['run']['seconds'] / 60:.0f} min, {facts['run']['machine']}"
        for sampler in quality["samplers"].values():
            ratios = [q["ratio"] for q in sampler["seeds"]]
            mean, floor = sampler["mean"], quality["floor"]
            rows.append(
                f"| [{name}](data/checkpoints/{name}.md) | {facts['parameters']:,} | "
                f"{facts['bytes'] / 1e6:.1f} | {training} | {sampler['solver']}, "
                f"{sampler['calls']} calls | {quality['n']:,} | {mean['ratio']:.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f}) | "
                f"{mean['accuracy']:.3f} ({floor['accuracy']:.3f}) | "
                f"{mean['recall']:.3f} ({floor['recall']:.3f}) |"
            )
        seeds.add(len(quality["seeds"]))
    counted = " or ".join(map(str, sorted(seeds)))
    parts = ["\n".join(rows), f"{counted} seeds: mean (range)."]
    parts += [vocoder_line(facts) for facts in vocoders]
    return "\n\n".join([*parts, *([prompt_table(told)] if told else [])])


def vocoder_line(facts: dict) -> str:
    """How near a vocoder brings speech back from its mel, beside Griffin-Lim, in a sentence."""
    name, quality = facts["name"], facts["quality"]
    ways = next(iter(quality["splits"].values()))
    best = {}
    for kind in ("vocoder", "Griffin-Lim"):
        mine = [way for way in ways if way.startswith(kind)]
        best[kind] = min(mine, key=lambda way: sum(ways[way]["lsd_db"]))
    said = []
    for split, found in quality["splits"].items():
        far = {k: sum(found[w]["lsd_db"]) / len(found[w]["lsd_db"]) for k, w in best.items()}
        said.append(f"{far['vocoder']:.2f} dB ({split}, Griffin-Lim {far['Griffin-Lim']:.2f})")
    return (
        f"[{name}](data/checkpoints/{name}.md) ({facts['bytes'] / 1e6:.1f} MB) lets spectrograms "
        f"be heard: {' and '.join(said)} from the recording in log-spectral distance."
    )


def prompt_table(told: list[dict]) -> str:
    """One row a checkpoint that reads words: how often what it never saw comes out right."""
    rows = [
        "From words, for combinations that were never trained on: the share of drawings in which "
        "every attribute asked for is right, by classifiers, beside that of real drawings, of the "
        "nearest training drawing by its prompt, and of that with one attribute transplanted.",
        "",
        "| checkpoint | parameters | MB | training | model | real | nearest | transplant | "
        "FD over the floor |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for facts in told:
        quality, name = facts["quality"], facts["name"]
        runs = quality["runs"]

        def spread(values: list[float], digits: int = 2) -> str:
            mean = sum(values) / len(values)
            return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"

        shares = [spread([r[way]["all"] for r in runs])
                  for way in ("held_out", "nearest", "transplant")]  # fmt: skip
        training = f"{facts['run']['seconds'] / 60:.0f} min, {facts['run']['machine']}"
        rows.append(
            f"| [{name}](data/checkpoints/{name}.md) | {facts['parameters']:,} | "
            f"{facts['bytes'] / 1e6:.1f} | {training} | {shares[0]} | {quality['real']['all']:.2f} "
            f"| {shares[1]} | {shares[2]} | {spread([r['ratio_apart'] for r in runs])} |"
        )
    counts = ", ".join(f"{f['quality']['n']['held_out']} of {f['name']}" for f in told)
    rows += ["", f"{counts} a seed, {len(told[0]['quality']['seeds'])} seeds: mean (range)."]
    return "\n".join(rows)


WRONG = """def q_sample(x0, t, alpha_bar, noise):
    ab = alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))
    return ab * x0 + (1 - ab) * noise"""


def check_example() -> str:
    """What ``check`` says to a wrong answer, as it says it."""
    import os

    os.environ["COURSE_PROGRESS"] = "off"
    from coursework import display, feedback

    names: dict = {}
    exec(WRONG, names)
    exercise, result = feedback.run_check("02.2", names)
    says = display.text(exercise, result)
    return f'```python\n{WRONG}\n\ncheck("02.2")\n```\n```text\n{says}\n```'


def environment_text() -> str:
    """What the environment file says."""
    facts = json.loads((ROOT / "data" / "environment.json").read_text(encoding="utf-8"))
    return (
        f"Tried on {facts['system']} with Python {facts['python']}: {facts['packages']} packages "
        f"take {facts['megabytes']:,} MB of disk with what the tests need "
        f"(torch {facts['torch']})."
    )


def exit_table() -> str:
    """The exit codes of the command."""
    from coursework import exits

    return exits.markdown()


def measure_environment() -> None:
    prefix = Path(sys.prefix)
    size = sum(f.stat().st_size for f in prefix.rglob("*") if f.is_file() and not f.is_symlink())
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = f"{platform.system()} {platform.release()}"
    facts = {
        "system": f"{system} ({platform.machine()})",
        "python": platform.python_version(),
        "packages": len({d.metadata["Name"] for d in metadata.distributions()}),
        "megabytes": round(size / 1e6),
        "torch": metadata.version("torch"),
        "command": "python data/build/build_readme.py --environment",
    }
    (ROOT / "data" / "environment.json").write_text(
        json.dumps(facts, indent=1) + "\n", encoding="utf-8"
    )


BLOCKS = {
    "lessons": lesson_table,
    "claims-short": verdicts.short,
    "claims": verdicts.brief,
    "check": check_example,
    "checkpoints": checkpoint_table,
    "environment": environment_text,
    "exits": exit_table,
}


def filled(text: str) -> str:
    """``text`` with every block made anew. Raises ValueError for a marker that is missing."""
    for name, make in BLOCKS.items():
        start, end = f"<!-- {name}: made by data/build/build_readme.py -->", f"<!-- end {name} -->"
        if start not in text or end not in text:
            raise ValueError(f"README.md lacks the markers of the block {name!r}")
        before, rest = text.split(start, 1)
        text = f"{before}{start}\n{make()}\n{end}{rest.split(end, 1)[1]}"
    return text


def draw_pictures() -> None:
    """The pictures of the README, from the library and real data."""
    import torch

    from undiffuse import data, plots, schedules, sets2d
    from undiffuse.process import q_sample

    images, labels = data.digits("train", 200)
    shown = torch.stack([images[labels == k][1] for k in (3, 5, 8)])
    alpha_bar = schedules.alpha_bar_from_betas(schedules.linear_betas(1000))
    noise = torch.randn(shown.shape, generator=torch.Generator().manual_seed(0))
    times = [0, 50, 100, 200, 300, 400, 600, 999]
    steps = [q_sample(shown, torch.full((3,), t), alpha_bar, noise) for t in times]
    fig = plots.forward_strip(
        [shown, *steps], ["clean", *times], row_labels=["3", "5", "8"], row_name="digit"
    )
    (PICTURES / "forward.png").write_bytes(plots.png(fig))

    from undiffuse import checkpoints, draw

    found = checkpoints.load("digits")
    samples, _ = draw.draw(found, 60, calls=20, seed=0)
    draw.save_grid(PICTURES / "digits.png", draw.to_uint8(samples), columns=20)

    generator = torch.Generator().manual_seed(0)
    points = sets2d.two_moons(2000, generator)
    model = sets2d.fit_2d(points, 2000, generator)
    samples = sets2d.sample_2d(model, 1000, generator=generator)
    fig = plots.points2d(
        {"data": points[:1000], "samples": samples}, panels=True, roles={"samples": "model"}
    )
    (PICTURES / "points.png").write_bytes(plots.png(fig))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--environment", action="store_true")
    options = parser.parse_args()
    readme = ROOT / "README.md"
    if options.environment:
        measure_environment()
    if options.pictures:
        draw_pictures()
    old = readme.read_text(encoding="utf-8")
    new, page = filled(old), verdicts.page()
    place = verdicts.RESULTS / "README.md"
    if options.check:
        same = new == old and place.read_text(encoding="utf-8") == page
        print("README.md is " + ("up to date" if same else "stale: run this script"))
        return int(not same)
    readme.write_text(new, encoding="utf-8")
    place.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
