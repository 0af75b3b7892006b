"""Distillation: targets against exact flows, the halving, and students as checkpoints."""

import copy
from dataclasses import replace

import pytest
import torch

from undiffuse import checkpoints, distillation, recipes, trainer
from undiffuse.checkpoints import Checkpoint
from undiffuse.distillation import Plan, distillation_target, even_levels, levels_to_data
from undiffuse.draw import draw
from undiffuse.sampling import ddim_update, sample
from undiffuse.schedules import cosine_schedule, edm_schedule, flow_schedule, linear_schedule

SCHEDULES = [cosine_schedule(), linear_schedule(), flow_schedule(), edm_schedule()]
TINY = {"channels": [8, 8], "patch": 2, "classes": 3}


def gaussian(schedule, mean=0.7, variance=0.3):
    """The best x0 of data N(mean, variance), at any level."""

    def teacher(x, t, cond=None):
        shape = (-1, *[1] * (x.ndim - 1))
        t = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        a, s = schedule.alpha(t).reshape(shape), schedule.sigma(t).reshape(shape)
        return (mean + a * variance / (a**2 * variance + s**2) * (x.double() - a * mean)).to(x)

    return teacher


@pytest.fixture(scope="module")
def checkpoint():
    recipe = recipes.from_dict({"name": "toy", "network": TINY, "guidance": 1.5})
    torch.manual_seed(0)
    model = recipe.make_network((1, 8, 8))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    return Checkpoint("toy", model.eval(), recipe.make_schedule(), recipe, (1, 8, 8), {})


@pytest.fixture(scope="module")
def data():
    g = torch.Generator().manual_seed(1)
    return torch.rand(40, 1, 8, 8, generator=g) * 2 - 1, torch.arange(40) % 3


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_levels_halve(schedule):
    """Every second of 8 levels is one of 4, from the noisiest there is down to data."""
    fine, coarse = even_levels(schedule, 8), even_levels(schedule, 4)
    for name in ("t", "alpha", "sigma"):
        torch.testing.assert_close(getattr(fine, name)[::2], getattr(coarse, name), rtol=0, atol=0)
    assert (fine.alpha[-1], fine.sigma[-1]) == (1, 0)
    assert (fine.t.diff() < 0).all() and len(fine.t) == 9
    assert float(2 * (fine.alpha[0] / fine.sigma[0]).log()) >= -12.001


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
def test_one_step_with_the_target_is_two_of_the_teacher(schedule):
    """In float64 and for a time for each sample: one DDIM step by the target arrives at 1e-9."""
    lv = even_levels(schedule, 6)
    alpha, sigma = levels_to_data(schedule)
    x = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.tensor([0, 2, 4])
    x = x * torch.hypot(lv.alpha, lv.sigma)[start, None, None]
    teacher = gaussian(schedule)
    t, t_mid, t_next = (lv.t[start + i] for i in range(3))
    found = distillation_target(teacher, x, t, t_mid, t_next, alpha, sigma)
    for row, i in enumerate(start.tolist()):
        pair = [(float(lv.alpha[i + k]), float(lv.sigma[i + k])) for k in range(3)]
        one = x[row : row + 1]
        mid = ddim_update(one, teacher(one, float(lv.t[i])), pair[0], pair[1])
        end = ddim_update(mid, teacher(mid, float(lv.t[i + 1])), pair[1], pair[2])
        arrived = ddim_update(one, found[row : row + 1], pair[0], pair[2])
        torch.testing.assert_close(arrived, end, rtol=1e-9, atol=1e-9)


def test_a_perfect_student_of_one_call_gives_the_teachers_samples():
    """The target of the first step, used as the only estimate, gives what two steps give."""
    schedule = cosine_schedule()
    teacher = gaussian(schedule)
    alpha, sigma = levels_to_data(schedule)
    noise = torch.randn(5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    two = sample(teacher, schedule, x=noise, kind="x0", solver="ddim", calls=2,
                 at=even_levels(schedule, 2))  # fmt: skip

    def student(x, t, cond=None):
        return distillation_target(teacher, x, t, t / 2, 0.0, alpha, sigma)

    one = sample(student, schedule, x=noise, kind="x0", solver="ddim", calls=1,
                 at=even_levels(schedule, 1))  # fmt: skip
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
    assert (two - teacher(noise, float(even_levels(schedule, 1).t[0]))).abs().max() > 0.05


def test_target_leaves_no_graph_and_keeps_dtype():
    alpha, sigma = levels_to_data(flow_schedule())
    weight = torch.ones((), requires_grad=True)
    x = torch.randn(2, 3)
    seen = []

    def teacher(x, t, cond):
        seen.append((t.dtype, tuple(t.shape), cond))
        return weight * x / 2

    found = distillation_target(teacher, x, 0.8, 0.5, 0.2, alpha, sigma, "c")
    assert found.dtype == torch.float32 and not found.requires_grad
    assert seen == [(torch.float32, (2,), "c")] * 2


def test_target_refuses():
    alpha, sigma = levels_to_data(flow_schedule())
    teacher = gaussian(flow_schedule())
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="less noise"):
        distillation_target(teacher, x, 0.4, 0.5, 0.6, alpha, sigma)
    with pytest.raises(ValueError, match="above 0 at t and t_mid"):
        distillation_target(teacher, x, 0.4, 0.0, 0.0, alpha, sigma)
    with pytest.raises(TypeError, match="x_t must be a floating"):
        distillation_target(teacher, torch.zeros(2, 3).int(), 0.4, 0.2, 0.0, alpha, sigma)
    with pytest.raises(ValueError, match="eps"):
        distillation.halve(teacher, None, flow_schedule(), "eps", 2, x, None, Plan(steps=1))


@pytest.mark.parametrize("kind", ["v", "x0"])
def test_halving_learns_the_two_steps(kind):
    """Data of one Gaussian and a student that can be exact: its loss falls a hundredfold."""
    schedule = cosine_schedule()
    teacher = gaussian(schedule)

    class Affine(torch.nn.Module):
        """w x + b, of one step only, so that it can be exact."""

        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1, 1))
            self.b = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, t, cond=None):
            return self.w[0] * x + self.b

    x = 0.7 + 0.3**0.5 * torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    student = Affine()
    plan = Plan(steps=150, batch=32, lr=0.05, optimizer="adamw", ema=0.9, warmup=5)
    losses = distillation.halve(teacher, student, schedule, kind, 1, x, None, plan)
    assert sum(losses[-10:]) < 0.01 * sum(losses[:10])
    again = Affine()
    assert losses == distillation.halve(teacher, again, schedule, kind, 1, x, None, plan)
    assert torch.equal(student.w, again.w) and not student.training


def test_students_are_checkpoints(checkpoint, data, tmp_path):
    """4, 2, 1 calls; each knows its teacher, survives a file, and is drawn by its own calls."""
    plan = Plan(steps=2, batch=4)
    before = {k: v.clone() for k, v in checkpoint.model.state_dict().items()}
    students = list(distillation.progressive(checkpoint, *data, first=4, plan=plan))
    assert [s.recipe.distilled["calls"] for s in students] == [4, 2, 1]
    assert all(torch.equal(before[k], v) for k, v in checkpoint.model.state_dict().items())
    assert students[1].recipe.distilled == {
        "teacher": "toy", "method": "progressive", "calls": 2, "guidance": 1.5, "steps": 4,
    }  # fmt: skip
    assert (students[1].name, students[1].recipe.guidance) == ("toy-2", 1.0)
    for made in students:
        path = checkpoints.save(tmp_path / "s.safetensors", made.model, made.recipe, made.shape)
        found = checkpoints.load(path)
        assert found.recipe == made.recipe
        counted = []
        hook = found.model.register_forward_hook(lambda *_: counted.append(1))  # noqa: B023
        images, labels = draw(found, 3, seed=5)
        hook.remove()
        assert len(counted) == made.recipe.distilled["calls"]
        by_hand = sample(
            found.model, found.schedule, (3, 1, 8, 8), kind="v", solver="ddim",
            calls=len(counted), at=even_levels(found.schedule, len(counted)), cond=labels,
            generator=[torch.Generator().manual_seed(5 * 2654435761 % 2**32 + i) for i in range(3)],
            clip=(-1, 1),
        )  # fmt: skip
        torch.testing.assert_close(images, by_hand.clamp(-1, 1), rtol=0, atol=0)


def test_a_student_goes_on_where_it_was(checkpoint, data):
    """2 -> 1 from a student of 2 calls is what the whole run makes; the origin stays the teacher"""
    plan = Plan(steps=2, batch=4)
    first, last = distillation.progressive(checkpoint, *data, first=2, plan=plan)
    (again,) = distillation.progressive(first, *data, first=1, plan=plan)
    assert again.recipe == last.recipe
    for k, v in last.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[k], v)
    with pytest.raises(ValueError, match="its student starts at half"):
        next(distillation.progressive(first, *data, first=2, plan=plan))


def test_guidance_is_inside(checkpoint, data):
    """The teacher's estimates are those of its recipe's guidance, unless told otherwise."""
    x, y = data[0][:3], data[1][:3]
    t = torch.full((3,), 0.6)
    with torch.no_grad():
        guided, scale = distillation.teacher_of(checkpoint)
        plain, none = distillation.teacher_of(checkpoint, 1.0)
        strong, _ = distillation.teacher_of(checkpoint, 3.0)
        assert (scale, none) == (1.5, 1.0)
        away = guided(x, t, y) - plain(x, t, y)
        torch.testing.assert_close(4 * away, strong(x, t, y) - plain(x, t, y))
        assert away.abs().max() > 1e-3


def test_what_a_student_refuses(checkpoint, data):
    (student,) = distillation.progressive(checkpoint, *data, first=1, plan=Plan(steps=1, batch=2))
    for options, says in (
        ({"calls": 4}, "distilled to 1 calls"),
        ({"solver": "heun"}, "its own solver"),
        ({"guidance": 2.0}, "guidance inside"),
    ):
        with pytest.raises(ValueError, match=says):
            draw(student, 2, **options)
    with pytest.raises(ValueError, match="power of 2"):
        next(distillation.progressive(checkpoint, *data, first=3, last=1))
    with pytest.raises(ValueError, match="distilled from toy"):
        trainer.train(student.recipe, *data)
    with pytest.raises(recipes.RecipeError, match="progressive, consistency"):
        replace(student.recipe, distilled={"teacher": "a", "calls": 1, "method": "magic"})
    with pytest.raises(recipes.RecipeError, match="calls"):
        replace(student.recipe, distilled={"teacher": "a", "calls": 0, "method": "progressive"})


def test_a_plan_of_seconds_makes_as_many_steps_as_fit(checkpoint, data, monkeypatch):
    """A clock that advances by a second at each look: 20 steps a second, 3 seconds."""
    clock = iter(range(100))
    monkeypatch.setattr(distillation.time, "monotonic", lambda: float(next(clock)))
    student, seen = copy.deepcopy(checkpoint.model), []

    def loss_of(x0, y, g):
        return sum(p.square().sum() for p in student.parameters())

    losses = distillation.fit(student, loss_of, *data, Plan(seconds=3.0, batch=2),
                              lambda step, of, loss: seen.append((step, of)))  # fmt: skip
    assert len(losses) == 60 and seen[-1] == (60, 60) and seen[19] == (20, 60)
    with pytest.raises(ValueError, match="seconds must be at least 0"):
        Plan(seconds=-1)


def test_a_loss_that_explodes_is_told(checkpoint, data):
    def loss_of(x0, y, g):
        return next(checkpoint.model.parameters()).sum() * float("nan")

    with pytest.raises(distillation.Failed, match="at step 0"):
        distillation.fit(checkpoint.model, loss_of, *data, Plan(steps=2, batch=2))
