"""Steps and short loops of sampling: against diffusers, exact maps, ``sampling`` and bad input."""

import importlib
import math

import pytest
import torch

from undiffuse import prediction as pd
from undiffuse import sampling as sp
from undiffuse import schedules as sc
from undiffuse import steps as st

F64 = torch.float64
T = 100
CLOSE = {"rtol": 0.0, "atol": 1e-10}
SHAPES = [(4, 3, 5, 7), (4, 1, 4), (1, 2, 9), (5, 5)]


def equal(got, wanted, **tolerance):
    torch.testing.assert_close(got, wanted, **(tolerance or CLOSE))


@pytest.fixture
def betas():
    return sc.linear_betas(T, 1e-3, 0.08, dtype=F64)


@pytest.fixture
def alpha_bar(betas):
    return sc.alpha_bar_from_betas(betas)


def draw(shape, generator):
    return torch.randn(shape, generator=generator, dtype=F64)


class Torch64:
    """The torch module as seen by another library's file, with float32 read as float64."""

    float32 = F64

    def __getattr__(self, name: str):
        return getattr(torch, name)


@pytest.fixture
def diffusers64(monkeypatch):
    """Loads a file of diffusers so that its formulas are evaluated in float64."""

    def load(name: str):
        module = pytest.importorskip(f"diffusers.schedulers.{name}")
        monkeypatch.setattr(module, "torch", Torch64())
        return module

    return load


# -- the orders that the course claims ------------------------------------------------------------


def gaussian(mean: float, var: float):
    """(denoise(u, sigma), exact map of u from one level to another) for Normal(mean, var)."""

    def denoise(u, sigma):
        return mean + var / (var + torch.as_tensor(sigma, dtype=F64) ** 2) * (u - mean)

    def carry(u, high, low):
        return mean + (u - mean) * math.sqrt((var + low**2) / (var + high**2))

    return denoise, carry


def order(solve, counts=(64, 128, 256, 512)) -> float:
    denoise, carry = gaussian(0.7, 0.6)
    u = torch.linspace(-6, 7, 9, dtype=F64)
    errors = []
    for n in counts:
        sigmas = sc.karras_sigmas(n + 1, 0.2, 5.0, dtype=F64)
        errors.append((solve(denoise, sigmas, u) - carry(u, 5.0, 0.2)).abs().max().log())
    x, y = torch.tensor(counts, dtype=F64).log(), torch.stack(errors)
    return -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def dpmpp(denoise, sigmas, u):
    return st.dpmpp_2m_sample(denoise, torch.ones_like, lambda t: t, sigmas, u)


@pytest.mark.parametrize(
    ("solve", "wanted"), [(st.euler_sample, 1.0), (st.heun_sample, 2.0), (dpmpp, 2.0)]
)
def test_order_of_convergence(solve, wanted):
    assert abs(order(solve) - wanted) < 0.15


# -- against diffusers ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("variance", ["fixed_large", "fixed_small"])
def test_ddpm_step_equals_diffusers(diffusers64, monkeypatch, generator, betas, shape, variance):
    module = diffusers64("scheduling_ddpm")
    x, eps, noise = (draw(shape, generator) for _ in range(3))
    monkeypatch.setattr(module, "randn_tensor", lambda *a, **k: noise)
    theirs = module.DDPMScheduler(T, trained_betas=betas, variance_type=variance, clip_sample=False)
    ours = st.ddpm_step if variance == "fixed_large" else st.ddpm_posterior_step
    for t in (99, 50, 2, 0):
        # Their variance is clamped at 1e-20 and is beta_0 at t = 0 in neither case added.
        wanted = theirs.step(eps, t, x).prev_sample
        equal(ours(x, t, eps, betas, noise), wanted, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_step_equals_diffusers(diffusers64, generator, betas, alpha_bar, shape, eta):
    module = diffusers64("scheduling_ddim")
    theirs = module.DDIMScheduler(
        T, trained_betas=betas, clip_sample=False, set_alpha_to_one=True, steps_offset=9
    )
    theirs.set_timesteps(10)  # 99, 89, ..., 9: the last jump, from 9, goes to the data
    x, eps, noise = (draw(shape, generator) for _ in range(3))
    for t, to in ((99, 89), (49, 39), (9, -1)):
        kwargs = {"variance_noise": noise} if eta > 0 else {}
        wanted = theirs.step(eps, t, x, eta=eta, **kwargs).prev_sample
        equal(st.ddim_step(x, t, to, eps, alpha_bar, eta, noise), wanted)


def test_heun_equals_diffusers(diffusers64, generator):
    module = diffusers64("scheduling_heun_discrete")
    theirs = module.HeunDiscreteScheduler(prediction_type="sample")
    theirs.set_timesteps(6)
    sigmas = torch.cat([sc.karras_sigmas(6, 0.1, 9.0, dtype=F64), torch.zeros(1)])
    theirs.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    denoise, _ = gaussian(0.7, 0.6)
    x = wanted = 9 * draw((4, 3), generator)
    theirs.set_begin_index(0)
    # They visit 0, 1, 1, 2, 2, ...: the second slope of a step, and the first of the next.
    for sigma, t in zip(theirs.sigmas, theirs.timesteps):
        wanted = theirs.step(denoise(wanted, sigma), t, wanted).prev_sample
    equal(st.heun_sample(denoise, sigmas, x), wanted)


def test_euler_equals_diffusers(diffusers64, generator):
    module = diffusers64("scheduling_euler_discrete")
    theirs = module.EulerDiscreteScheduler(prediction_type="sample")
    theirs.set_timesteps(6)
    sigmas = torch.cat([sc.karras_sigmas(6, 0.1, 9.0, dtype=F64), torch.zeros(1)])
    theirs.sigmas = sigmas
    denoise, _ = gaussian(0.7, 0.6)
    x = wanted = 9 * draw((4, 3), generator)
    theirs.set_begin_index(0)
    for sigma, t in zip(sigmas, theirs.timesteps):
        wanted = theirs.step(denoise(wanted, sigma), t, wanted).prev_sample
    equal(st.euler_sample(denoise, sigmas, x), wanted)


@pytest.mark.parametrize("n", [1, 2, 8])
def test_dpmpp_equals_diffusers(diffusers64, generator, n):
    """Irregular steps in lambda, down to sigma = 0."""
    module = diffusers64("scheduling_dpmsolver_multistep")
    theirs = module.DPMSolverMultistepScheduler(
        prediction_type="sample", solver_order=2, solver_type="midpoint", lower_order_final=False
    )
    theirs.set_timesteps(n)
    ratio = torch.cat([sc.karras_sigmas(n, 0.1, 9.0, dtype=F64), torch.zeros(1)])
    theirs.sigmas = ratio
    alpha = 1 / (1 + ratio**2).sqrt()
    mean, var = 0.7, 0.6

    def denoise(x, t):
        i = int(t)
        a, s = float(alpha[i]), float(alpha[i] * ratio[i])
        return mean + a * var / (a**2 * var + s**2) * (x - a * mean)

    x = wanted = draw((4, 3), generator)
    theirs.set_begin_index(0)
    for i, t in enumerate(theirs.timesteps):
        wanted = theirs.step(denoise(wanted, i), t, wanted).prev_sample
    ts = torch.arange(n + 1)
    equal(st.dpmpp_2m_sample(denoise, alpha, alpha * ratio, ts, x), wanted, rtol=0.0, atol=1e-8)


# -- agreement with the one interface -------------------------------------------------------------


class Toy:
    """A smooth denoiser (x, t, cond) -> eps."""

    def __call__(self, x, t, cond=None):
        t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        return torch.tanh(0.7 * x + torch.cos(2 * t)) * (0.4 + 0.5 * t)


def discrete_levels(betas, visited):
    """``sampling.Levels`` of integer steps, noisy first, and then data."""
    schedule = sc.discrete_schedule(betas)
    t = visited.flip(0).double() / (len(betas) - 1)
    one = torch.ones(1, dtype=F64)
    return schedule, sp.Levels(
        torch.cat([t, 0 * one]),
        torch.cat([schedule.alpha(t), one]),
        torch.cat([schedule.sigma(t), 0 * one]),
    )


def test_loops_agree_with_sample(betas, alpha_bar, generator):
    visited = st.timestep_subsequence(T, 9, "quadratic")
    schedule, levels = discrete_levels(betas, visited)
    toy, x = Toy(), draw((3, 2, 5), generator)
    u, sigmas = x / levels.alpha[0], levels.sigma / levels.alpha
    estimate = pd.as_x0(toy, schedule, "eps")

    def denoise(u, sigma):
        t = schedule.time(-2 * torch.as_tensor(sigma, dtype=F64).log())
        return estimate(u * schedule.alpha(t), t)

    for name, solve in (("euler", st.euler_sample), ("heun", st.heun_sample), ("dpmpp_2m", dpmpp)):
        calls = 17 if name == "heun" else 9
        wanted = sp.sample(toy, schedule, solver=name, calls=calls, x=x, at=levels)
        equal(solve(denoise, sigmas, u), wanted, rtol=0.0, atol=1e-8)
    state = x
    for t, to in zip(visited.flip(0).tolist(), [*visited.flip(0)[1:].tolist(), -1]):
        eps = toy(state, torch.full((3,), t / (T - 1), dtype=F64))
        state = st.ddim_step(state, t, to, eps, alpha_bar)
    wanted = sp.sample(toy, schedule, solver="ddim", calls=9, x=x, at=levels)
    equal(state, wanted, rtol=0.0, atol=1e-8)


def test_ddpm_sample_agrees_with_sample(betas):
    """The same draws: all T steps, variance beta."""
    schedule, levels = discrete_levels(betas, torch.arange(T))
    ours = st.ddpm_sample(Toy(), (3, 4), betas, torch.Generator().manual_seed(5))
    g = torch.Generator().manual_seed(5)
    x = torch.randn(3, 4, generator=g)
    theirs = sp.sample(
        Toy(), schedule, solver="ddpm", calls=T, x=x, at=levels, generator=g, variance="beta"
    )
    equal(ours, theirs, rtol=1e-4, atol=1e-4)


def test_eta_one_is_the_ancestral_step(betas, alpha_bar, generator):
    x, eps, noise = (draw((4, 3), generator) for _ in range(3))
    for t in (0, 1, 57, 99):
        equal(
            st.ddim_step(x, t, t - 1, eps, alpha_bar, 1.0, noise),
            st.ddpm_posterior_step(x, t, eps, betas, noise),
        )


# -- each sample at its own step, dtypes, exact maps ----------------------------------------------


def test_a_step_per_sample(betas, alpha_bar, generator):
    t, to = torch.tensor([99, 0, 40]), torch.tensor([50, -1, 3])
    x, eps, noise = (draw((3, 1, 3, 3), generator) for _ in range(3))
    for own, args in (
        (st.ddpm_step, (betas, noise)),
        (st.ddpm_posterior_step, (betas, noise)),
    ):
        rows = [own(x[i : i + 1], int(t[i]), eps[i : i + 1], args[0], noise[i : i + 1])
                for i in range(3)]  # fmt: skip
        equal(own(x, t, eps, *args), torch.cat(rows))
    whole = st.ddim_step(x, t, to, eps, alpha_bar, 0.5, noise)
    for i in range(3):
        part = (slice(i, i + 1),)
        row = st.ddim_step(x[part], int(t[i]), int(to[i]), eps[part], alpha_bar, 0.5, noise[part])
        equal(whole[part], row)


def test_dtypes_are_kept(betas, alpha_bar, generator):
    x = draw((2, 3), generator).float()
    assert st.ddpm_step(x, 3, x, betas, x).dtype == torch.float32
    assert st.ddim_step(x, 3, 1, x, alpha_bar, 0.5, x).dtype == torch.float32
    sigmas = torch.tensor([3.0, 1.0, 0.0], dtype=F64)
    denoise, _ = gaussian(0.0, 1.0)
    for solve in (st.euler_sample, st.heun_sample, dpmpp):
        made = solve(lambda u, s: denoise(u.double(), s).float(), sigmas, x)
        assert made.dtype == torch.float32
    score = lambda x, t: -x  # noqa: E731
    ts = torch.tensor([1.0, 0.5, 0.1], dtype=F64)
    made = st.euler_maruyama_sample(score, lambda t: 1 + t, ts, x, generator)
    assert made.dtype == torch.float32


@pytest.mark.parametrize("kind", ["linspace", "quadratic"])
@pytest.mark.parametrize(("T", "n"), [(1000, 50), (1000, 999), (17, 17), (40, 37), (9, 2), (1, 1)])
def test_subsequence_rises_with_both_ends(kind, T, n):
    steps = st.timestep_subsequence(T, n, kind)
    assert steps.shape == (n,) and steps.dtype == torch.int64
    assert bool((steps.diff() > 0).all())
    assert int(steps[-1]) == T - 1
    assert int(steps[0]) == (T - 1 if n == 1 else 0)


def test_sigma_from_alpha_bar_is_that_of_the_schedule(betas, alpha_bar):
    schedule = sc.discrete_schedule(betas)
    t = torch.linspace(0, 1, T, dtype=F64)
    equal(st.sigma_from_alpha_bar(alpha_bar), (-schedule.log_snr(t) / 2).exp())
    ends = st.sigma_from_alpha_bar(torch.tensor([1.0, 0.8, 0.0]))
    equal(ends, torch.tensor([0.0, 0.5, math.inf]), rtol=1e-6, atol=1e-6)


def test_round_trip_closes_as_levels_increase(alpha_bar, generator):
    mean, var = 0.4, 0.3

    def model(x, time, cond):
        ab = alpha_bar[round(float(time[0]) * (T - 1))]
        return (1 - ab).sqrt() * (x - ab.sqrt() * mean) / (ab * var + 1 - ab)

    x, errors = draw((6, 2), generator), []
    for n in (13, 25, 50):
        ts = st.timestep_subsequence(T, n)
        back = st.ddim_invert(model, x, alpha_bar, ts)
        for t, to in zip(ts.flip(0).tolist(), ts.flip(0)[1:].tolist()):
            eps = model(back, torch.full((6,), t / (T - 1)), None)
            back = st.ddim_step(back, t, to, eps, alpha_bar)
        errors.append(float((back - x).abs().max()))
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


def test_reverse_sde_ends_in_the_data():
    """Gaussian data: mean and deviation of 20,000 walks, within 5 standard errors plus the step."""
    mean, var = 1.2, 0.25
    kept = lambda t: torch.exp(-0.1 * t - 9.95 * t**2)  # noqa: E731

    def score(x, t):
        ab = kept(t)
        return -(x - ab.sqrt() * mean) / (ab * var + 1 - ab)

    g = torch.Generator().manual_seed(3)
    x = torch.randn(20_000, 1, generator=g, dtype=F64)
    ts = torch.linspace(1, 0.02, 300, dtype=F64) ** 2
    made = st.euler_maruyama_sample(score, lambda t: 0.1 + 19.9 * t, ts, x, g)
    assert abs(float(made.mean()) - mean) < 0.02
    assert abs(float(made.std()) - math.sqrt(var)) < 0.01


# -- bad input ------------------------------------------------------------------------------------


def test_bad_input_is_refused(betas, alpha_bar):
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"\[0, 99\]"):
        st.ddpm_step(x, 100, x, betas, x)
    with pytest.raises(TypeError, match="integer"):
        st.ddpm_step(x, 0.5, x, betas, x)
    with pytest.raises(ValueError, match="shape of x_t"):
        st.ddpm_step(x, 1, x[:, :2], betas, x)
    with pytest.raises(ValueError, match="needs noise"):
        st.ddim_step(x, 5, 2, x, alpha_bar, eta=0.5)
    with pytest.raises(ValueError, match="less noise"):
        st.ddim_step(x, 2, 5, x, alpha_bar, eta=0.5, noise=x)
    with pytest.raises(ValueError, match="nothing about x0"):
        st.ddim_step(x, 1, 0, x, torch.tensor([0.5, 0.0]))
    with pytest.raises(ValueError, match="no 11 different"):
        st.timestep_subsequence(10, 11)
    with pytest.raises(ValueError, match="kind"):
        st.timestep_subsequence(10, 5, "cubic")
    with pytest.raises(ValueError, match="fall"):
        st.euler_sample(lambda x, s: x, torch.tensor([0.0, 1.0]), x)
    with pytest.raises(ValueError, match="fall"):
        st.heun_sample(lambda x, s: x, torch.tensor([1.0]), x)
    with pytest.raises(ValueError, match="noise to data"):
        st.dpmpp_2m_sample(
            lambda x, t: x, torch.ones_like, lambda t: t, torch.tensor([0.5, 1.0]), x
        )
    with pytest.raises(ValueError, match="rise"):
        st.ddim_invert(lambda x, t, c: x, x, alpha_bar, torch.tensor([3, 1]))
    with pytest.raises(ValueError, match="not finite"):
        st.ddpm_sample(lambda x, t, c: x / 0, (2, 3), betas, torch.Generator())
    with pytest.raises(ValueError, match="lie in"):
        st.sigma_from_alpha_bar(torch.tensor([1.5]))


def test_every_name_is_documented():
    module = importlib.import_module("undiffuse.steps")
    for name in module.__all__:
        assert getattr(module, name).__doc__, name
