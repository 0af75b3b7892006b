"""The library's commands: what they write, and how they say what went wrong."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse import checkpoints, commands, data, sources, trainer
from undiffuse.recipes import Recipe
from undiffuse.unet import UNet

pytest.importorskip("coursework.cli")
from coursework import exits

NETWORK = {"channels": [8], "patch": 4, "classes": 10}
TOML = """
steps = 6
batch = 4
n = 40
validate_every = 3
[network]
channels = [8]
patch = 4
classes = 10
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    return path


def network(dims: int = 2, **changes) -> UNet:
    """Untrained, but with random numbers where a network starts at zero: all inputs count."""
    torch.manual_seed(0)
    model = UNet(in_channels=1, dims=dims, **NETWORK | changes)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    recipe = Recipe(name="mine", network=NETWORK)
    path = tmp_path_factory.mktemp("checkpoint") / "mine.safetensors"
    return checkpoints.save(path, network(), recipe, (1, 9, 8), steps=1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    recipe = Recipe(name="beep", network=NETWORK)
    path = tmp_path_factory.mktemp("checkpoint") / "beep.safetensors"
    return checkpoints.save(path, network(dims=1), recipe, (1, 50), rate=8000)


def test_exit_codes_are_those_of_the_course():
    assert (commands.NOT_RIGHT, commands.USAGE, commands.NOT_FOUND, commands.STORAGE) == (
        exits.NOT_RIGHT, exits.USAGE, exits.NOT_FOUND, exits.STORAGE,
    )  # fmt: skip
    assert (commands.INVALID, commands.INTERRUPTED) == (exits.INVALID, exits.INTERRUPTED)


@pytest.mark.parametrize("command", ["train", "sample", "networks"])
def test_help_with_an_example(run, command):
    code, said, _ = run(command, "--help")
    assert code == 0 and f"Example: course {command}" in said


def test_networks(run):
    code, said, _ = run("networks")
    assert code == 0 and "parameters" in said and "MFLOP/call" in said
    for name in ("tiny", "five-minutes", "one-hour", "tiny-sound", "tiny-wavenet"):
        assert f"\n{name} " in said


# course sample ------------------------------------------------------------------------------------


def test_sample_writes_images_labels_and_a_grid(run, file, tmp_path):
    out, grid = tmp_path / "new" / "a.npz", tmp_path / "a.png"
    code, said, _ = run("sample", file, "--count", 12, "--calls", 3, "--out", out, "--grid", grid)
    assert code == 0 and f"{out}: images 12 x 9 x 8, uint8" in said and f"{grid}: 12" in said
    with np.load(out) as found:
        assert sorted(found) == ["images", "labels"]
        assert found["images"].dtype == np.uint8 and found["images"].shape == (12, 9, 8)
        assert found["labels"].tolist() == [*range(10), 0, 1]
        assert len(np.unique(found["images"])) > 50
    assert Image.open(grid).size == (4 * 9 - 1, 3 * 10 - 1)


@pytest.mark.parametrize("solver", ["dpmpp_2m", "ancestral"])
def test_same_seed_same_bytes(run, file, tmp_path, solver):
    def draw(name, *more):
        path = tmp_path / f"{name}.npz"
        options = ("--count", 5, "--calls", 3, "--solver", solver, "--out", path)
        assert run("sample", file, *options, *more)[0] == 0
        return path

    first = draw("a", "--seed", 4)
    assert first.read_bytes() == draw("b", "--seed", 4).read_bytes()
    assert first.read_bytes() != draw("c", "--seed", 5).read_bytes()
    # Batches only change the rounding of sums: by one grey level, if at all.
    with np.load(first) as found, np.load(draw("d", "--seed", 4, "--batch", 2)) as parts:
        difference = found["images"].astype(int) - parts["images"]
        assert np.abs(difference).max() <= 1 and (difference != 0).mean() < 0.01
    # A sample of a seed is the same however many there are.
    with np.load(first) as found, np.load(draw("e", "--seed", 4, "--count", 3)) as fewer:
        assert np.abs(found["images"][:3].astype(int) - fewer["images"]).max() <= 1


def test_label_and_guidance(run, file, tmp_path):
    found = {}
    for name, more in (
        ("plain", ()),
        ("strong", ("--guidance", 4)),
        ("never", ("--guidance", 4, "--guidance-interval", 0, 1e-9)),
    ):
        out = tmp_path / f"{name}.npz"
        options = ("--label", 7, "--count", 3, "--calls", 2, "--out", out)
        assert run("sample", file, *options, *more)[0] == 0
        with np.load(out) as saved:
            assert saved["labels"].tolist() == [7, 7, 7]
            found[name] = saved["images"]
    assert (found["plain"] != found["strong"]).any()
    assert (found["plain"] == found["never"]).all()


def test_a_guidance_interval_the_wrong_way_round(run, file, tmp_path):
    options = ("--guidance", 2, "--guidance-interval", 0.8, 0.2, "--out", tmp_path / "a.npz")
    code, _, said = run("sample", file, *options)
    assert code == exits.USAGE and "lo at most hi, got lo=0.8, hi=0.2" in said


def test_sound(run, sound, tmp_path):
    out = tmp_path / "a.npz"
    code, said, _ = run("sample", sound, "--count", 3, "--calls", 2, "--out", out)
    assert code == 0 and "audio 3 x 50, float32" in said
    with np.load(out) as found:
        assert sorted(found) == ["audio", "labels", "rate"] and int(found["rate"]) == 8000
        assert found["audio"].dtype == np.float32 and np.abs(found["audio"]).max() <= 1


def test_sounds_as_pictures_and_wav_files(run, sound, tmp_path):
    from undiffuse.audio_files import read_audio

    grid, wav, out = tmp_path / "a.png", tmp_path / "wav", tmp_path / "a.npz"
    options = ("--count", 4, "--calls", 2, "--label", 3)
    code, said, _ = run("sample", sound, *options, "--grid", grid, "--wav", wav, "--out", out)
    assert code == 0 and "4 spectrograms" in said and "4 sounds" in said
    with Image.open(grid) as picture:
        assert picture.mode == "RGB" and min(picture.size) > 30
    assert sorted(os.listdir(wav)) == [f"00{i}-3.wav" for i in range(4)]
    with np.load(out) as found:
        for i, clip in enumerate(found["audio"]):
            again, rate = read_audio(wav / f"00{i}-3.wav")
            assert rate == 8000 and np.abs(again - clip).max() <= 2**-16


def test_images_have_no_sound(run, file, tmp_path):
    code, _, said = run("sample", file, "--wav", tmp_path / "wav")
    assert code == exits.USAGE and "there is no --wav of them" in said
    assert not os.listdir(tmp_path)


def test_a_model_of_spectrograms_is_heard(run, tmp_path):
    recipe = Recipe(name="say", data="fsdd-mel", network=NETWORK)
    path = checkpoints.save(tmp_path / "say.safetensors", network(), recipe, (1, 64, 128))
    out = tmp_path / "a.npz"
    options = ("--count", 2, "--calls", 1, "--out", out, "--grid", tmp_path / "a.png")
    assert run("sample", path, *options)[0] == 0
    with np.load(out) as found:
        assert sorted(found) == ["audio", "labels", "mel", "rate"] and int(found["rate"]) == 8000
        assert found["audio"].shape == (2, 8192) and found["mel"].shape == (2, 64, 128)
        first = found["audio"]
    assert run("sample", path, *options)[0] == 0
    with np.load(out) as found:
        assert (found["audio"] == first).all()


def test_labels_of_drums_and_notes_may_be_words(run, tmp_path):
    out = tmp_path / "a.npz"
    for data_, label, classes, wanted, more in (
        ("drums", "snare", 8, 1, {}),
        ("notes", "reed:69", 1105, 8 * 85 + 45, {"factors": [13, 85]}),
    ):
        options = NETWORK | {"classes": classes} | more
        recipe = Recipe(name="own", data=data_, network=options)
        path = tmp_path / "own.safetensors"
        checkpoints.save(path, network(dims=1, **options), recipe, (1, 64))
        code, _, said = run("sample", path, "--count", 2, "--calls", 1, "--label", label,
                            "--out", out)  # fmt: skip
        assert code == 0, said
        with np.load(out) as found:
            assert found["labels"].tolist() == [wanted] * 2
            assert int(found["rate"]) == (16000 if data_ == "drums" else 8000)
        code, _, said = run("sample", path, "--label", "oboe", "--out", out)
        assert code == exits.USAGE and "'oboe' is not one of" in said
    assert run("sample", path, "--count", 3, "--calls", 1, "--out", out)[0] == 0
    with np.load(out) as found:  # families and keys that go together, and not 0, 1, 2
        assert (found["labels"] == data_labels("notes", 3)).all()


def data_labels(name, count):
    from undiffuse import sources

    return sources.source(name).take("reference", count)[1].numpy()


def test_pictures_of_sounds_show_where_they_are(tmp_path):
    """A high tone is bright above, a silent clip is dark."""
    from undiffuse.draw import spectrogram_pixels

    t = np.arange(8192) / 8000
    clips = np.stack([np.sin(2 * np.pi * 3500 * t), np.sin(2 * np.pi * 500 * t), 0 * t])
    pixels = spectrogram_pixels(clips.astype(np.float32))
    assert pixels.shape == (3, 128, 128, 3) and pixels.dtype == np.uint8
    bright = pixels.astype(int).sum(-1).mean(2)
    assert bright[0].argmax() < 25 and bright[1].argmax() > 100
    assert (pixels[2] == pixels[2, 0, 0]).all() and bright[2].max() < 20


def test_a_checkpoint_in_the_place_of_a_shipped_one(run, file, tmp_path, monkeypatch):
    """One's own file in data/checkpoints is found by its name."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "digits.safetensors").write_bytes(file.read_bytes())
    monkeypatch.setattr(data, "folder", lambda: tmp_path)
    out = tmp_path / "a.npz"
    assert run("sample", "digits", "--count", 2, "--calls", 1, "--out", out)[0] == 0
    code, _, said = run("sample", "digit", "--out", out)
    assert code == exits.NOT_FOUND and "did you mean digits?" in said


@pytest.mark.parametrize(
    "more, code, says",
    [
        (("--out", "a.txt"), exits.USAGE, "must end with .npz"),
        (("--grid", "a.jpg"), exits.USAGE, "must end with .png"),
        ((), exits.USAGE, "name a file to write"),
        (("--out", "a.npz", "--label", 10), exits.USAGE, "'10' is not one of 0 to 9"),
        (("--out", "a.npz", "--label", -1), exits.USAGE, "0 to 9"),
        (("--out", "a.npz", "--solver", "magic"), exits.USAGE, "solver must be one of"),
        (("--out", "a.npz", "--count", 0), exits.USAGE, "--count"),
        (("--out", "a.npz", "--device", "tpu"), exits.USAGE, "device is auto, cpu"),
        (("--out", "a.npz", "--seed", 2**32), exits.USAGE, "seed must be"),
    ],
)
def test_sample_says_what_is_wrong_with_the_command(
    run, file, tmp_path, more, code, says, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    got, out, said = run("sample", file, *more)
    assert got == code and says in said + out
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(run, file, tmp_path):
    code, _, said = run("sample", file, "--out", tmp_path / "a.npz", "--device", "cuda")
    assert code == exits.USAGE and "finds no cuda here" in said


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert commands.find_device("cuda:1") == "cuda:1" and commands.find_device("auto") == "cuda"
    for name in ("cuda:2", "cuda:", "cuda:-1", "cuda:x"):
        with pytest.raises(commands.CommandError, match=f"no {name} here, but cuda:0 to cuda:1"):
            commands.find_device(name)


def test_without_classes(run, tmp_path):
    recipe = Recipe(name="plain", network={"channels": [8], "patch": 4})
    path = tmp_path / "plain.safetensors"
    checkpoints.save(path, network(classes=None), recipe, (1, 8, 8))
    out = tmp_path / "a.npz"
    assert run("sample", path, "--count", 2, "--calls", 1, "--out", out)[0] == 0
    with np.load(out) as found:
        assert sorted(found) == ["images"]
    for more, says in (
        (("--label", 1), "trained without"),
        (("--guidance", 2), "nothing to guide"),
    ):
        code, _, said = run("sample", path, "--out", out, *more)
        assert code == exits.USAGE and says in said


def test_a_damaged_checkpoint(run, file, tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(file.read_bytes()[:-9])
    code, _, said = run("sample", path, "--out", tmp_path / "a.npz")
    assert code == exits.INVALID and f"{path} is damaged" in said


def test_a_full_disk_while_sampling(run, file, tmp_path, monkeypatch):
    def fail(path, **arrays):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez_compressed", fail)
    code, _, said = run("sample", file, "--calls", 1, "--out", tmp_path / "a.npz")
    assert code == exits.STORAGE and "disk is full" in said
    assert not os.listdir(tmp_path)


# course train -------------------------------------------------------------------------------------


def test_train_and_sample_what_it_made(run, recipe, tmp_path):
    folder = tmp_path / "run"
    code, said, lines = run("train", recipe, "--out", folder, "--device", "cpu")
    assert code == 0 and f"{folder / 'mine.safetensors'}: 6 steps" in said
    assert "mine: step 6 of 6, loss" in lines and "\r" not in lines
    assert sorted(p.name for p in folder.iterdir()) == [
        "curves.png", "log.jsonl", "mine.safetensors", "state.pt",
    ]  # fmt: skip
    facts = checkpoints.load(folder / "mine.safetensors").facts
    assert facts["steps"] == 6 and "CPU" in facts["machine"]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "validation" in line] == [3, 6]
    grid = tmp_path / "a.png"
    assert run("sample", folder / "mine.safetensors", "--calls", 1, "--grid", grid)[0] == 0


def test_train_stopped_and_gone_on(run, recipe, tmp_path, monkeypatch):
    folder, whole = tmp_path / "run", tmp_path / "whole"
    assert run("train", recipe, "--out", whole)[0] == 0
    one_step = trainer._Loop.one_step

    def interrupted(self):
        loss = one_step(self)
        if self.step == 4:
            os.kill(os.getpid(), 2)
        return loss

    monkeypatch.setattr(trainer._Loop, "one_step", interrupted)
    code, _, said = run("train", recipe, "--out", folder)
    assert code == exits.INTERRUPTED and f"the same command goes on from {folder}" in said
    assert not (folder / "mine.safetensors").exists()
    monkeypatch.setattr(trainer._Loop, "one_step", one_step)
    assert run("train", recipe, "--out", folder)[0] == 0
    first, second = (checkpoints.load(f / "mine.safetensors").model for f in (folder, whole))
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def test_steps_and_seconds_replace_the_recipes(run, recipe, tmp_path):
    assert "2 steps" in run("train", recipe, "--out", tmp_path / "a", "--steps", 2)[1]
    recipe.write_text("seconds = 300\n" + TOML)
    assert "2 steps" in run("train", recipe, "--out", tmp_path / "b", "--steps", 2)[1]
    code, said, _ = run("train", recipe, "--out", tmp_path / "c", "--seconds", 0.1)
    assert code == 0 and "steps in" in said


def test_trouble_with_recipes(run, recipe, tmp_path):
    code, _, said = run("train", tmp_path / "none.toml")
    assert code == exits.NOT_FOUND and "no recipe at" in said
    code, _, said = run("train", "lesson5")
    assert code == exits.NOT_FOUND and "did you mean lesson05?" in said
    recipe.write_text("bacth = 3\n" + TOML)
    code, _, said = run("train", recipe)
    assert code == exits.INVALID and "unknown entry 'bacth'; did you mean batch?" in said


def test_a_batch_larger_than_the_set(run, recipe, tmp_path):
    recipe.write_text(TOML.replace("n = 40", "n = 3"))
    code, _, said = run("train", recipe, "--out", tmp_path / "run")
    assert code == exits.USAGE and "batch of 4 is larger than the set of 3: lower batch" in said


def spoilt(change):
    """``data.digits`` with something done to it."""
    digits = data.digits

    def load(split, n=None):
        x, labels = digits(split, n or 40)
        return change(x, labels)

    return load


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda x, y: (x * float("nan"), y), "40 of 40 samples hold NaN"),
        (lambda x, y: (x * 0, y), "every sample holds one value everywhere"),
        (lambda x, y: (x, y + 1), "labels must be 0 to 9, got 1 to 10"),
        (lambda x, y: (x[:0], y[:0]), "the set is empty"),
    ],
)
def test_bad_data(run, recipe, tmp_path, monkeypatch, change, says):
    digits = replace(sources.SOURCES["digits"], take=spoilt(change))
    monkeypatch.setitem(sources.SOURCES, "digits", digits)
    code, _, said = run("train", recipe, "--out", tmp_path / "run")
    assert code == exits.USAGE and says in said


def test_a_run_that_diverges(run, recipe, tmp_path, monkeypatch):
    """Its weights are blown up here; most rates that are too high only stop it from learning."""
    one_step = trainer._Loop.one_step

    def blown_up(self):
        if self.step >= 25:
            with torch.no_grad():
                self.model.conv_out.bias.add_(10.0)
        return one_step(self)

    monkeypatch.setattr(trainer._Loop, "one_step", blown_up)
    recipe.write_text(TOML.replace("steps = 6", "steps = 200").replace("validate_every = 3", ""))
    code, _, said = run("train", recipe, "--out", tmp_path / "run")
    good = tmp_path / "run" / "mine-last-good.safetensors"
    assert code == exits.NOT_RIGHT, said
    assert "Try a lower lr than 0.001" in said and f"last good weights are in {good}" in said
    assert checkpoints.load(good).facts["steps"] < 150
    assert not (tmp_path / "run" / "mine.safetensors").exists()


@pytest.mark.parametrize("of", ["cuda", "cpu", "python"])
def test_out_of_memory(run, recipe, file, tmp_path, monkeypatch, of):
    def fail(*_, **__):
        if of == "cpu":
            torch.empty(2**50)  # more than an address can say: torch's own message
        if of == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        raise MemoryError

    monkeypatch.setattr(UNet, "forward", fail)
    code, _, said = run("train", recipe, "--out", tmp_path / "run")
    assert code == exits.NOT_RIGHT and "out of memory: lower batch in the recipe" in said
    assert "--accumulate 2 makes the same steps in less memory" in said
    code, _, said = run("train", recipe, "--accumulate", 2, "--out", tmp_path / "other")
    assert code == exits.NOT_RIGHT and "--accumulate 4 makes" in said
    code, _, said = run("sample", file, "--out", tmp_path / "a.npz")
    assert code == exits.NOT_RIGHT and "out of memory: lower --batch (it is 250)" in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
def test_no_space_for_a_checkpoint(recipe, tmp_path):
    """A limit on the size of files stands for the full disk: a real write fails, midway."""
    script = tmp_path / "limited.py"
    script.write_text(
        textwrap.dedent(
            """
            import resource, sys
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            from coursework import cli
            cli.main(sys.argv[1:])
            """
        )
    )
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, script, "train", recipe, "--out", folder], capture_output=True, text=True
    )
    assert done.returncode == exits.STORAGE, done.stderr
    assert "state.pt could not be written" in done.stderr and "Traceback" not in done.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["log.jsonl"]
