"""Consistency models: the boundary, exact flows of a Gaussian, sampling, distillation."""

import pytest
import torch

from undiffuse import checkpoints, consistency, recipes
from undiffuse.checkpoints import Checkpoint
from undiffuse.consistency import (
    ConsistencyFunction,
    consistency_levels,
    consistency_sample,
    consistency_skip,
)
from undiffuse.distillation import Plan
from undiffuse.draw import draw
from undiffuse.schedules import cosine_schedule, edm_schedule, flow_schedule, linear_schedule

SCHEDULES = [cosine_schedule(), linear_schedule(), flow_schedule(), edm_schedule()]
MEAN, VAR = 0.6, 0.4


def test_skip_at_the_boundary_and_by_hand():
    for dtype in (torch.float32, torch.float64):
        t = torch.tensor([0.002, 0.5, 80.0], dtype=dtype)
        skip, out = consistency_skip(t, 0.5, 0.002)
        assert (float(skip[0]), float(out[0])) == (1.0, 0.0)
        assert skip.dtype == out.dtype == dtype
        wanted = 0.25 / (0.498**2 + 0.25), 0.5 * 0.498 / 0.5**0.5
        assert float(skip[1]) == pytest.approx(wanted[0], rel=1e-6)
        assert float(out[1]) == pytest.approx(wanted[1], rel=1e-6)
    assert consistency_skip(3.0)[0].dtype == torch.float64
    with pytest.raises(ValueError, match="at least sigma_min"):
        consistency_skip(torch.tensor([0.001]), 0.5, 0.002)
    with pytest.raises(TypeError, match="floating"):
        consistency_skip(torch.tensor([1]))


def estimate(u, sigma):
    """The best x0 of data N(MEAN, VAR)."""
    return MEAN + VAR / (VAR + sigma**2) * (u - MEAN)


def flow_end(u, sigma, sigma_min):
    """Where the flow from u at noise sigma is at sigma_min: the z-score is kept."""
    return MEAN + (u - MEAN) * ((VAR + sigma_min**2) / (VAR + sigma**2)) ** 0.5


class Network(torch.nn.Module):
    """Gaussian data's exact v under a schedule."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.calls = schedule, 0

    def forward(self, x, t, cond=None):
        self.calls += 1
        t = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        a, s = (v[:, None] for v in (self.schedule.alpha(t), self.schedule.sigma(t)))
        x0 = estimate(x / a, s / a)
        return a * (x - a * x0) / s - s * x0


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_function_is_the_identity_at_sigma_min_and_the_estimate_far_from_it(schedule):
    """x / alpha comes back at sigma_min to 1e-9; at 100 times that, f is near the estimate."""
    network = Network(schedule)
    f = ConsistencyFunction(network, schedule, "v", sigma_min=0.03)
    u = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for sigma in (0.03, 3.0):
        t = schedule.time(-2 * torch.tensor(sigma, dtype=torch.float64).log())
        a = schedule.alpha(t)
        found = f(a * u, float(t))
        wanted = u if sigma == 0.03 else estimate(u, torch.tensor(sigma).double())
        tolerance = 1e-9 if sigma == 0.03 else 0.02
        assert (found - wanted).abs().max() < tolerance


def test_a_network_of_v_has_the_skip_connection_already():
    """kind v, sigma_data 1: F is -v, so that f = c_skip u - c_out v."""
    schedule = cosine_schedule()
    network = Network(schedule)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.linspace(0.2, 0.9, 5, dtype=torch.float64)
    a, s = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    skip, out = consistency_skip(s / a, 1.0, 0.02)
    found = ConsistencyFunction(network, schedule, "v", 0.02)(x, t)
    torch.testing.assert_close(found, skip * x / a - out * network(x, t), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_levels(schedule):
    lv = consistency_levels(schedule, 5, 0.05)
    ratio = lv.sigma / lv.alpha
    assert (ratio.diff() < 0).all() and float(ratio[-1]) == pytest.approx(0.05, rel=1e-6)
    assert len(lv.t) == 5
    with pytest.raises(ValueError, match="at least 2"):
        consistency_levels(schedule, 1)


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_an_exact_consistency_function_gives_the_data(calls):
    """40,000 numbers: mean within 5 standard errors, variance too; as many calls as asked.

    A false alarm has a probability of about 1e-6. The noise of sigma_min remains.
    """
    schedule, count = cosine_schedule(), []

    def f(x, t, cond=None):
        count.append(t)
        a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
        return flow_end(x / a, s / a, 0.02)

    g = torch.Generator().manual_seed(3)
    x = consistency_sample(f, schedule, (400, 100), calls=calls, generator=g)
    assert len(count) == calls and sorted(count, reverse=True) == count
    variance = VAR + 0.02**2
    assert abs(float(x.mean()) - MEAN) < 5 * (variance / x.numel()) ** 0.5 + 2e-3
    assert abs(float(x.var()) / variance - 1) < 5 * (2 / x.numel()) ** 0.5 + 2e-3


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_one_step_down_follows_the_flow(schedule):
    """Heun's error on the exact flow falls eightfold when the step is halved (local order 3)."""

    def teacher(x, t, cond=None):
        a, s = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        return estimate(x / a, s / a)

    u = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = []
    for width in (0.4, 0.2):
        sigma = torch.tensor([1.0, 1.0 - width], dtype=torch.float64)
        t, s = schedule.time(-2 * sigma.log())
        a, b = schedule.alpha(t), schedule.alpha(s)
        found = consistency.one_step_down(
            teacher, a * (MEAN + u), t.expand(6), s.expand(6), schedule
        )
        errors.append((found / b - flow_end(MEAN + u, 1.0, float(sigma[1]))).abs().max())
    assert 6 < errors[0] / errors[1] < 12


def test_pseudo_huber():
    a, b = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.zeros(2, 2)
    found = consistency.pseudo_huber(a, b)
    assert float(found[0]) == pytest.approx(5, abs=2e-3) and float(found[1]) == 0


def test_a_distilled_checkpoint(tmp_path):
    """Loss finite, weights changed, teacher not; one to four calls drawn, each as many calls."""
    recipe = recipes.from_dict(
        {"name": "toy", "network": {"channels": [8, 8], "patch": 2, "classes": 3}, "guidance": 1.4}
    )
    torch.manual_seed(0)
    model = recipe.make_network((1, 8, 8)).eval()
    teacher = Checkpoint("toy", model, recipe.make_schedule(), recipe, (1, 8, 8), {})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x, y = torch.rand(20, 1, 8, 8) * 2 - 1, torch.arange(20) % 3
    plan = Plan(steps=3, batch=4)
    made = consistency.consistency_distillation(teacher, x, y, grid=5, plan=plan)
    again = consistency.consistency_distillation(teacher, x, y, grid=5, plan=plan)
    assert made.recipe.distilled["method"] == "consistency" and made.facts["steps"] == 3
    moved = 0.0
    for k, v in made.model.state_dict().items():
        assert torch.equal(v, again.model.state_dict()[k])
        assert torch.equal(model.state_dict()[k], before[k])
        moved = max(moved, float((v - before[k]).abs().max()))
    assert moved > 0
    path = checkpoints.save(tmp_path / "c.safetensors", made.model, made.recipe, made.shape)
    found = checkpoints.load(path)
    for calls in (None, 1, 4):
        counted = []
        hook = found.model.register_forward_hook(lambda *_: counted.append(1))  # noqa: B023
        images, _ = draw(found, 2, calls=calls, seed=1)
        hook.remove()
        assert len(counted) == (calls or 2) and images.abs().max() <= 1
    with pytest.raises(ValueError, match="needs a whole flow"):
        consistency.consistency_distillation(made, x, y, plan=plan)
