"""Judging images: figures agree with their parts, and what cannot be judged is refused."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
import torch

from undiffuse import classifiers, data, judging, metrics, sources

N = 200


@pytest.fixture(scope="module")
def reals():
    """Real digits in the shares of the reference set, and their labels."""
    return data.digits("validation", N)


@pytest.fixture(scope="module")
def quality(reals):
    return judging.judge_images(*reals, seeds=(7,), resamples=40)


def test_figures_agree_with_their_parts(reals, quality):
    judge = classifiers.load("digits")
    images, labels = reals
    f, r, h = (
        classifiers.examine(judge, x)[0]
        for x in (images, data.digits("reference", N)[0], data.digits("held_out", N)[0])
    )
    assert quality.n == N and quality.seeds == (7,) and quality.data == "digits"
    # examine batches by 500: the same images in other batches differ by float32 rounding
    assert quality.fd == pytest.approx(metrics.frechet_distance(f, r), rel=1e-4)
    assert quality.floor == pytest.approx(metrics.frechet_distance(h, r), rel=1e-4)
    assert quality.accuracy == classifiers.accuracy(judge, images, labels)
    assert quality.floor_precision == metrics.precision_recall(r, h)[0]
    low, high = quality.fd_interval
    assert low < quality.fd < high
    low, high = quality.accuracy_interval
    assert low <= quality.accuracy <= high


def test_the_same_images_give_the_same_figures(reals, quality):
    assert judging.judge_images(*reals, seeds=[7], resamples=40) == quality


def test_uint8_as_sample_writes_them_is_the_same(reals, quality):
    images, labels = reals
    pixels = ((images[:, 0] + 1) * 127.5).round().to(torch.uint8).numpy()
    again = judging.judge_images(pixels, labels.numpy(), seeds=(7,), resamples=40)
    assert again.fd == pytest.approx(quality.fd, rel=1e-4)
    assert again.accuracy == quality.accuracy


def test_without_labels_there_is_no_accuracy(reals):
    q = judging.judge_images(reals[0], None, resamples=10)
    assert q.accuracy is q.accuracy_interval is q.floor_accuracy is None
    assert "class accuracy" in judging.describe(q) and "–" in judging.describe(q)


def test_copies_noise_and_wrong_labels_show(quality, reals):
    images, labels = data.digits("train", N)
    copies = judging.judge_images(images, labels, resamples=10)
    assert copies.memorisation == 0 and copies.nearness["samples"]["0.05"] == 0
    g = torch.Generator().manual_seed(0)
    noisy = (reals[0] + 0.5 * torch.randn(reals[0].shape, generator=g)).clamp(-1, 1)
    assert judging.judge_images(noisy, reals[1], resamples=10).ratio > 3 * quality.ratio
    turned = (reals[1] + 1) % 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert judging.judge_images(reals[0], turned, resamples=10).accuracy < 0.05


def test_constant_images_are_judged_and_found_bad(reals):
    q = judging.judge_images(torch.full((N, 1, 28, 28), -1.0), reals[1], resamples=10)
    assert q.ratio > 10 and q.recall == 0 and q.accuracy < 0.2


@pytest.mark.parametrize("name", ["digits", "fashion"])
@pytest.mark.parametrize("n", [10, 137, 1000, 2500])
def test_labels_like_has_the_shares_of_the_reference_set(name, n):
    labels = judging.labels_like(name, n)
    assert labels.shape == (n,) and labels.dtype == torch.int64
    wanted = getattr(data, name)("reference")[1].bincount().double() / 1000
    assert (labels.bincount(minlength=10) / n - wanted).abs().max() <= 1.5 / n + 1e-9


def test_other_shares_are_warned_of(reals):
    images, labels = data.digits("train")
    keep = torch.cat([(labels == c).nonzero()[:20, 0] for c in range(5)])
    with pytest.warns(UserWarning, match=r"labels_like\('digits', 100\)"):
        judging.judge_images(images[keep], labels[keep], resamples=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judging.judge_images(images[:N], judging.labels_like("digits", N), resamples=10)


def test_zero_to_one_is_warned_of(reals):
    with pytest.warns(UserWarning, match=r"in \[0, 1\]"):
        judging.judge_images((reals[0] + 1) / 2, reals[1], resamples=10)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y: (x * torch.nan, y), "200 of 200 images hold NaN"),
        (lambda x, y: (x * 3, y), r"lie in \[-1, 1\], and reach from -3 to 3"),
        (lambda x, y: (x[:0], y[:0]), r"at least 10.*\(0, 1, 28, 28\)"),
        (lambda x, y: (x[:, :, :20], y), r"\(N, 1, 28, 28\)"),
        (lambda x, y: (x.long(), y), "float in .* or uint8, got torch.int64"),
        (lambda x, y: (x, y[:50]), r"must be 200 whole numbers.*\(50,\)"),
        (lambda x, y: (x, y + 1), "0 to 9, got 1 to 10"),
        (lambda x, y: (x, y.double()), "whole numbers"),
    ],
)
def test_what_cannot_be_judged_is_named(reals, change, says):
    with pytest.raises(ValueError, match=says):
        judging.judge_images(*change(*reals), resamples=10)


def test_an_unknown_set_is_named(reals):
    with pytest.raises(ValueError, match="digits, fashion, got 'cats'"):
        judging.judge_images(*reals, data="cats")
    with pytest.raises(ValueError, match="digits, fashion, drums, notes, fsdd, got 'cats'"):
        judging.labels_like("cats", 10)


def test_draws_are_judged_one_a_seed():
    images, labels = data.digits("train")
    members = [(labels == c).nonzero()[:, 0] for c in range(10)]
    asked = []

    def draw(wanted, seed):
        g = torch.Generator().manual_seed(seed)
        asked.append((wanted.tolist(), seed))
        picks = [members[c][torch.randint(len(members[c]), (1,), generator=g)] for c in wanted]
        return images[torch.cat(picks)]

    found = judging.judge_draws(draw, n=60, seeds=(3, 4, 5), resamples=10)
    assert [q.seeds for q in found] == [(3,), (4,), (5,)]
    assert asked == [(judging.labels_like("digits", 60).tolist(), s) for s in (3, 4, 5)]
    text = judging.describe(found)
    assert "n = 60" in text and "seeds 3, 4, 5" in text
    low, high = min(q.fd for q in found), max(q.fd for q in found)
    assert f"({low:.3f} to {high:.3f})" in text


def test_description_names_count_seed_floor_and_interval(quality):
    text = judging.describe(quality)
    assert "digits: n = 200; seed 7" in text
    assert f"{quality.floor:.3f}" in text
    assert "95 %: {:.3f} to {:.3f}".format(*quality.fd_interval) in text


def test_figures_of_other_counts_do_not_mix(quality):
    with pytest.raises(ValueError, match="do not mix"):
        judging.describe([quality, dataclasses.replace(quality, n=100)])
    with pytest.raises(ValueError, match="no figures"):
        judging.describe([])


def test_figures_go_to_json_and_back(quality):
    plain = json.loads(json.dumps(judging.as_dict(quality)))
    assert plain["ratio"] == quality.ratio and plain["excess"] == quality.excess
    assert plain["seeds"] == [7] and plain["n"] == N
    assert all(np.isfinite(plain["nearness"][s]["0.01"]) for s in ("samples", "held_out"))


# sounds -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hits():
    """Real drums that the figures are not made from."""
    return data.drums("validation")


def test_real_drums_are_judged_as_their_parts_say(hits):
    judge = classifiers.load("drums")
    quality = judging.judge_sounds(*hits, "drums", seeds=(3,), resamples=20)
    n = len(hits[0])
    f, r, h = (
        classifiers.examine(judge, x)[0]
        for x in (hits[0], data.drums("reference", n)[0], data.drums("held_out", n)[0])
    )
    assert (quality.n, quality.data, quality.seeds) == (n, "drums", (3,))
    assert quality.fd == pytest.approx(metrics.frechet_distance(f, r), rel=1e-3)
    assert quality.floor == pytest.approx(metrics.frechet_distance(h, r), rel=1e-3)
    assert quality.accuracy == classifiers.accuracy(judge, *hits)
    assert "drums: n = 31" in judging.describe(quality)
    flat = judging.judge_sounds(hits[0][:, 0].numpy(), hits[1].tolist(), "drums", resamples=20)
    assert flat.fd == pytest.approx(quality.fd, rel=1e-4)


def test_silence_copies_and_noise_show(hits):
    x, labels = hits
    quality = judging.judge_sounds(x, labels, "drums", resamples=10)
    silent = judging.judge_sounds(torch.zeros_like(x), labels, "drums", resamples=10)
    assert silent.fd > 2 * quality.fd and silent.accuracy < 0.5
    assert all(np.isfinite(v) for v in (silent.fd, silent.kid, silent.memorisation))
    copies = data.drums("train", 31)
    copied = judging.judge_sounds(*copies, "drums", resamples=10)
    assert copied.memorisation < 1e-3 and copied.nearness["samples"]["0.05"] < 1e-3
    g = torch.Generator().manual_seed(0)
    noise = (0.3 * torch.randn(x.shape, generator=g)).clamp(-1, 1)
    assert judging.judge_sounds(noise, labels, "drums", resamples=10).fd > 2 * quality.fd


def test_notes_are_judged_by_their_family():
    x, labels = sources.source("notes").take("validation")
    quality = judging.judge_sounds(x, labels, "notes", resamples=10)
    family = sources.note_parts(labels)[0]
    assert quality.accuracy == classifiers.accuracy(classifiers.load("notes"), x, family)
    other_key = family * sources.KEYS
    assert judging.judge_sounds(x, other_key, "notes", resamples=10).accuracy == quality.accuracy


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y: (x * torch.nan, y), "31 of 31 clips hold NaN"),
        (lambda x, y: (x * 3, y), r"clips must lie in \[-1, 1\], and reach from -2"),
        (lambda x, y: (x[:5], y[:5]), r"at least 10 clips.*\(5, 1, 8192\)"),
        (lambda x, y: (x[..., :8000], y), r"\(N, 1, 8192\)"),
        (lambda x, y: ((x * 32767).short(), y), "float in .*, got torch.int16"),
        (lambda x, y: (x, y + 1), "0 to 7, got 1 to 8"),
        (lambda x, y: (x, y[:9]), "31 whole numbers"),
    ],
)
def test_sounds_that_cannot_be_judged_are_named(hits, change, says):
    with pytest.raises(ValueError, match=says):
        judging.judge_sounds(*change(*hits), "drums", resamples=10)


def test_images_and_sounds_are_not_mixed_up(hits, reals):
    with pytest.raises(ValueError, match="drums, notes, fsdd, got 'digits'"):
        judging.judge_sounds(*hits, "digits")
    with pytest.raises(ValueError, match="digits, fashion, got 'drums'"):
        judging.judge_images(*reals, "drums")


def test_draws_of_sounds_take_as_many_as_there_are_reals():
    x, labels = data.drums("train")
    members = [(labels == c).nonzero()[:, 0] for c in range(8)]

    def draw(wanted, seed):
        g = torch.Generator().manual_seed(seed)
        picks = [members[c][torch.randint(len(members[c]), (1,), generator=g)] for c in wanted]
        return x[torch.cat(picks)]

    found = judging.judge_draws(draw, "drums", seeds=(0, 1), resamples=10)
    sizes = [len(data.load("drums16k").splits[s]) for s in ("reference", "held_out")]
    assert [q.n for q in found] == [min(sizes)] * 2 and found[0].fd != found[1].fd
