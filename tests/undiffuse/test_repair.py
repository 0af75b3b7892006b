"""Repair with a network: against exact conditionals of Gaussians, at its ends, and on bad input."""

import math

import pytest
import torch
from torch import nn

from undiffuse import measurements, posterior, prediction, repair, sampling
from undiffuse.checkpoints import Checkpoint
from undiffuse.recipes import Recipe
from undiffuse.schedules import cosine_schedule

F64 = torch.float64
SCHEDULE = cosine_schedule()


class GaussianNetwork(nn.Module):
    """E[x0 | x_t] of Gaussian data with mean ``mean`` and covariance ``cov``, in units of scale.

    Classes 0 and 1 have means of opposite sign; null has their mean, 0, and the same covariance.
    """

    def __init__(self, mean: torch.Tensor, cov: torch.Tensor, scale: float, kind: str) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.mean, self.cov, self.scale, self.kind = mean, cov, scale, kind
        self.calls = 0

    def forward(self, x_t, t, cond=None):
        self.calls += 1
        alpha, sigma = (float(v) for v in prediction.levels(SCHEDULE, t))
        side = torch.zeros(len(x_t)) if cond is None else torch.tensor([1.0, -1.0, 0.0])[cond]
        mean = side[:, None] * self.mean * self.scale
        cov = self.cov * self.scale**2
        total = alpha**2 * cov + sigma**2 * torch.eye(len(cov))
        weights = alpha * torch.linalg.solve(total, cov)
        x0 = mean + (x_t.flatten(1) - alpha * mean) @ weights
        x0 = self.gain * x0.reshape(x_t.shape)
        return prediction.convert("x0", self.kind, x0, x_t, alpha, sigma)


COV = torch.tensor([[0.04, 0.03, 0.0], [0.03, 0.04, 0.01], [0.0, 0.01, 0.03]])
MEAN = torch.tensor([0.2, 0.1, -0.2])


def gaussian(scale: float = 1.0, classes: int | None = None, kind: str = "v") -> Checkpoint:
    network = {"classes": classes} if classes else {}
    recipe = Recipe(name="gaussian", data="drums", network=network, prediction=kind, scale=scale)
    model = GaussianNetwork(MEAN, COV, scale, kind)
    return Checkpoint("gaussian", model, SCHEDULE, recipe, (1, 3))


# --- one step --------------------------------------------------------------------------------


def test_known_and_drawn_are_at_the_level_that_was_asked_for(generator):
    """Of data 0, known or drawn, everything is noise of the deviation of its level."""
    shape = (4000, 1, 6)
    now, then = (0.6, 0.8), (0.9, math.sqrt(1 - 0.81))
    x = now[1] * torch.randn(shape, generator=generator)

    def step(x, now, then):
        return then[1] / now[1] * x

    mask = torch.tensor([True, True, False, False, False, True])
    noises = [tuple(torch.randn(shape, generator=generator) for _ in range(2)) for _ in range(5)]
    out = repair.inpaint_step(x, step, torch.zeros(shape), mask, now, then, noises)
    # 24,000 numbers: a deviation is off by 2 % less often than once in 10^5 runs.
    assert float(out.std()) == pytest.approx(then[1], rel=0.02)


def test_the_seed_and_place_of_a_sample_decide_and_not_its_batch():
    checkpoint, mask = gaussian(), torch.tensor([[True, False, True]])
    x = torch.linspace(-0.3, 0.3, 15).reshape(5, 1, 3)
    whole = repair.inpaint(checkpoint, x, mask, calls=12, repeats=3, seed=4)
    parts = repair.inpaint(checkpoint, x, mask, calls=12, repeats=3, seed=4, batch=2)
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-6)
    other = repair.inpaint(checkpoint, x, mask, calls=12, repeats=3, seed=5)
    assert not torch.allclose(whole, other)
    assert torch.equal(whole[..., [0, 2]], x[..., [0, 2]])


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_inpainting_draws_from_the_conditional(scale):
    """Mean and deviation of a value given its neighbours, whatever range the network knows."""
    n, checkpoint = 200, gaussian(scale)
    x = torch.tensor([0.3, math.nan, -0.2]).expand(n, 1, 3)
    mask = torch.tensor([[True, False, True]])
    out = repair.inpaint(checkpoint, x, mask, calls=120, repeats=6, batch=n)[:, 0, 1]
    known = COV[[0, 2]][:, [0, 2]]
    weights = torch.linalg.solve(known, COV[[0, 2], 1])
    mean = float(weights @ torch.tensor([0.3, -0.2]))
    deviation = math.sqrt(float(COV[1, 1] - weights @ COV[[0, 2], 1]))
    # The mean of 200 is off by 4.5 standard errors once in 10^5 runs; the rest is for the steps.
    assert float(out.mean()) == pytest.approx(mean, abs=4.5 * deviation / 14 + 0.02)
    assert float(out.std()) == pytest.approx(deviation, rel=0.25)


def test_progress_counts_calls_of_samples():
    seen = []
    checkpoint, mask = gaussian(), torch.tensor([[True, False, True]])
    repair.inpaint(checkpoint, torch.zeros(3, 1, 3), mask, calls=12, repeats=3, batch=2,
                   progress=seen.append)  # fmt: skip
    assert sum(seen) == 3 * 12
    assert checkpoint.model.calls == 2 * 12


def test_labels_and_guidance_pull_towards_a_class():
    checkpoint = gaussian(classes=2)
    x, mask = torch.zeros(60, 1, 3), torch.tensor([[False, False, True]])
    # The classes differ least where it is known: x there says little of the class.
    means = [
        float(repair.inpaint(checkpoint, x, mask, labels=torch.full((60,), k), guidance=g, calls=30,
                             repeats=3)[:, 0, 0].mean())
        for k, g in ((0, 1.0), (1, 1.0), (0, 3.0))
    ]  # fmt: skip
    assert means[1] < means[0] < means[2]


@pytest.mark.parametrize(
    ("mask", "error", "says"),
    [
        (torch.ones(1, 3, dtype=torch.bool), ValueError, "all ones"),
        (torch.zeros(1, 3, dtype=torch.bool), ValueError, "all zeros"),
        (torch.ones(1, 4, dtype=torch.bool), ValueError, "shape of one sample, .1, 3."),
        (torch.ones(3, 1, 3, dtype=torch.bool), ValueError, "of all, .2, 1, 3."),
        (torch.tensor([[1.0, 0.0, 1.0]]), TypeError, "bool"),
        ([True, False, True], TypeError, "Tensor"),
        (torch.tensor([[[True, False, True]], [[True, True, True]]]), ValueError, "all ones"),
    ],
)
def test_masks_that_cannot_be_used(mask, error, says):
    with pytest.raises(error, match=says):
        repair.inpaint(gaussian(), torch.zeros(2, 1, 3), mask)


def test_bad_data_are_refused():
    mask = torch.tensor([[True, False, True]])
    with pytest.raises(ValueError, match="as gaussian makes them"):
        repair.inpaint(gaussian(), torch.zeros(2, 1, 4), mask)
    with pytest.raises(ValueError, match="NaN"):
        repair.inpaint(gaussian(), torch.full((2, 1, 3), math.nan), mask)
    with pytest.raises(ValueError, match="at least as many calls"):
        repair.inpaint(gaussian(), torch.zeros(2, 1, 3), mask, calls=3, repeats=5)
    with pytest.raises(ValueError, match="knows no classes"):
        repair.inpaint(gaussian(), torch.zeros(2, 1, 3), mask, labels=torch.zeros(2).long())
    with pytest.raises(ValueError, match="guidance needs labels"):
        repair.inpaint(gaussian(classes=2), torch.zeros(2, 1, 3), mask, guidance=2.0)


# --- other versions --------------------------------------------------------------------------


def test_strength_goes_from_the_same_to_another():
    checkpoint = gaussian(scale=2.0)
    g = torch.Generator().manual_seed(3)
    x = (torch.randn(200, 3, generator=g) @ torch.linalg.cholesky(COV).T)[:, None].clamp(-1, 1)
    assert torch.equal(repair.redraw(checkpoint, x, 0.0), x)
    kept = []
    for strength in (0.2, 0.5, 1.0):
        z = repair.redraw(checkpoint, x, strength, calls=20)
        kept.append(float(torch.corrcoef(torch.stack([z.flatten(), x.flatten()]))[0, 1]))
    assert kept[0] > 0.95
    assert kept[0] > kept[1] > kept[2]
    assert abs(kept[2]) < 0.2  # 600 numbers, not all independent: above that once in 10^5
    with pytest.raises(ValueError, match="strength"):
        repair.redraw(checkpoint, x, 1.2)


# --- measurements ----------------------------------------------------------------------------


def iid(spread: float):
    """E[x0 | x_t] of independent Gaussian values of deviation ``spread``."""

    def denoiser(x_t, t, cond=None):
        alpha, sigma = prediction.levels(SCHEDULE, t)
        share = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
        return share.to(x_t.dtype) * x_t

    return denoiser


@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_guidance_is_exact_where_values_are_left_out_or_averaged(t, generator):
    """Its estimate is E[x0 | x_t, y], in closed form."""
    spread = 0.7
    x_t = torch.randn(3, 1, 8, generator=generator, dtype=F64)
    plain = iid(spread)(x_t, t)
    mask = torch.tensor([True, False, True, True, False, False, True, False])
    truth = torch.randn(3, 1, 8, generator=generator, dtype=F64)

    def estimate(measure):
        steered = posterior.posterior_guided(
            iid(spread), SCHEDULE, "x0", measure, measure(truth), spread=spread
        )
        return steered(x_t, t)

    wanted = torch.where(mask, truth, plain)
    torch.testing.assert_close(estimate(measurements.known_part(mask)), wanted, rtol=0, atol=1e-9)
    blocks = (truth - plain).unflatten(-1, (2, 4)).mean(-1, keepdim=True)
    wanted = plain + blocks.expand(3, 1, 2, 4).flatten(2)
    torch.testing.assert_close(estimate(measurements.coarse(4)), wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
def test_guidance_keeps_the_kind_of_its_denoiser(kind, generator):
    x_t = torch.randn(2, 1, 6, generator=generator, dtype=F64)
    y = torch.zeros(2, 1, 3, dtype=F64)
    denoiser = prediction.as_kind(iid(0.5), SCHEDULE, "x0", kind)
    steered = posterior.posterior_guided(denoiser, SCHEDULE, kind, measurements.coarse(2), y)
    plain = posterior.posterior_guided(iid(0.5), SCHEDULE, "x0", measurements.coarse(2), y)
    found = prediction.as_x0(steered, SCHEDULE, kind)(x_t, 0.4)
    torch.testing.assert_close(found, plain(x_t, 0.4), rtol=1e-9, atol=1e-9)


def test_noise_in_the_measurement_lets_it_be_believed_less(generator):
    x_t = torch.randn(1, 1, 4, generator=generator, dtype=F64)
    y = torch.full((1, 1, 4), 0.5, dtype=F64)
    measure = measurements.known_part(torch.ones(4, dtype=torch.bool))
    found = [
        posterior.posterior_guided(iid(0.5), SCHEDULE, "x0", measure, y, noise=noise, spread=0.5)(
            x_t, 0.6
        )
        for noise in (0.0, 0.5, 100.0)
    ]
    torch.testing.assert_close(found[0], y, rtol=0, atol=1e-9)
    torch.testing.assert_close(found[2], iid(0.5)(x_t, 0.6), rtol=0, atol=1e-3)
    assert bool(((found[1] - y).abs() > (found[0] - y).abs()).all())


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_restore_draws_what_fits_the_measurement(scale):
    checkpoint = gaussian(scale)

    def measure(x):
        return x[..., :2]

    y = torch.tensor([0.25, -0.1]).expand(50, 1, 2)
    x = repair.restore(checkpoint, y, measure, calls=60, spread=0.2)
    assert float((measure(x) - y).abs().mean()) < 0.03
    assert float(x[..., 2].std()) > 0.08  # what was not measured is still drawn
    for given, says in ((y[..., :1], "y must be"), (torch.full_like(y, math.nan), "NaN")):
        with pytest.raises(ValueError, match=says):
            repair.restore(checkpoint, given, measure)


def test_a_measurement_of_nothing_is_refused():
    steered = posterior.posterior_guided(
        iid(0.5), SCHEDULE, "x0", lambda x: 0 * x, torch.zeros(1, 1, 4)
    )
    with pytest.raises(ValueError, match="measures nothing"):
        steered(torch.ones(1, 1, 4), 0.5)


def test_steps_of_posterior_sampling_near_the_measurement(generator):
    """DPS from noise, with an exact denoiser: the misfit shrinks to a small part."""
    y = torch.full((8, 1, 3), 0.3)
    measure = measurements.coarse(2)
    lv = sampling.levels(SCHEDULE, 60)
    pairs = list(zip(lv.alpha.tolist(), lv.sigma.tolist()))
    x = torch.randn(8, 1, 6, generator=generator)
    for i in range(lv.steps):

        def estimate(v, t=float(lv.t[i])):
            return iid(0.5)(v, t)

        def step(v, x0, i=i):
            noise = torch.randn(v.shape, generator=generator)
            return sampling.ddim_update(v, x0, pairs[i], pairs[i + 1], 1.0, noise)

        x = posterior.posterior_guidance_step(x, estimate, step, measure, y, 0.3)
    assert float((measure(x) - y).abs().mean()) < 0.12


def test_blur_keeps_means_and_clipping_its_level(generator):
    x = torch.randn(2, 1, 20, 24, generator=generator)
    flat = torch.full_like(x, 0.4)
    torch.testing.assert_close(measurements.blurred(1.5)(flat), flat)
    impulse = torch.zeros(1, 1, 21, dtype=F64)
    impulse[..., 10] = 1.0
    found = measurements.blurred(1.0)(impulse)[0, 0]
    places = torch.arange(21, dtype=F64) - 10
    bell = torch.exp(-places.square() / 2) * (places.abs() <= 3)
    torch.testing.assert_close(found, bell / bell.sum(), rtol=0, atol=1e-12)
    assert float(measurements.clipped(0.2)(x).abs().max()) == pytest.approx(0.2)
    for bad in (lambda: measurements.blurred(0.0), lambda: measurements.clipped(-1.0)):
        with pytest.raises(ValueError, match="above 0"):
            bad()
    with pytest.raises(ValueError, match="do not divide"):
        measurements.coarse(3)(x)
    with pytest.raises(ValueError, match="wider"):
        measurements.blurred(9.0)(x)


# --- gaps ------------------------------------------------------------------------------------


def test_a_gap_is_filled_and_the_rest_left_alone():
    x = torch.tensor([[[0.3, math.nan, -0.2]]]).expand(4, 1, 3)
    out = repair.fill_gap(gaussian(scale=4.0), x, 1, 2, fade=0, calls=30, repeats=3)
    assert torch.equal(out[..., [0, 2]], x[..., [0, 2]])
    assert bool(torch.isfinite(out).all())
    for start, stop, says in ((2, 1, "lie in the clip"), (0, 3, "whole clip"), (1, 9, "lie in")):
        with pytest.raises(ValueError, match=says):
            repair.fill_gap(gaussian(), x, start, stop)
