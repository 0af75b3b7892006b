"""Checks of lesson 15, flows, a transformer and scale: exercises, cases, drivers and judges.

The answers are elsewhere. What trains is compared to the last digit in float64, on networks of a
few numbers; what draws is judged by its distribution, with a bound that chance passes less than
once in ten million checks; what is shared among processes, by what all of them together get.
"""

import math
import weakref
import zlib

import torch
from torch import nn

from coursework.exercise import Case, Draw, Exercise, Given, Lesson, Tol

LESSON = Lesson("15", provides=("undiffuse.data", "undiffuse.plots"))

# The first optimizer of a process makes torch import its compiler, which takes seconds. It must not
# fall under a check's time limit.
torch.optim.SGD([nn.Parameter(torch.zeros(1))])


def filled(module: nn.Module, seed: int, dtype: torch.dtype, gain: float = 1.0) -> nn.Module:
    """``module`` with random parameters, none zero, that follow from their names and ``seed``."""
    module.to(dtype)
    with torch.no_grad():
        for name, p in module.named_parameters():
            g = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
            draw = torch.randn(p.shape, generator=g, dtype=torch.float64)
            p.copy_(gain * draw / p[0].numel() ** 0.5 if p.ndim > 1 else 0.5 * draw)
    return module


def flat(tensors) -> torch.Tensor:
    """All numbers of some tensors in one row, as they are now."""
    return torch.cat([t.detach().reshape(-1).clone() for t in tensors])


# --- 15.1 ----------------------------------------------------------------------------------

flow_pair = Exercise(
    id="15.1",
    title="A straight line, and its slope",
    names=("flow_pair",),
    points={"images": 1, "sound and points": 1, "sizes and dtypes": 1},
    difficulty=1,
    minutes=8,
    hints=(
        "At t = 0 you stand on the data, at t = 1 on the noise. Which mixture of the two gives "
        "both ends, and changes evenly in between?",
        "The velocity is what a small step of t adds, divided by the step. On a straight line it "
        "is the same everywhere: it does not contain t.",
        "t has one number a sample. To be multiplied with x0 it needs an axis of length 1 for each "
        "axis of x0 behind the first: reshape(-1, 1, ...), as many as x0.ndim - 1.",
    ),
    library=("undiffuse.flow.flow_pair",),
)


@flow_pair.cases
def _(draw: Draw):
    def case(name, group, *shape, dtype="float64"):
        x0 = draw.normal(*shape, dtype=dtype, mean=0.6)
        x1 = draw.normal(*shape, dtype=dtype)
        # Away from the middle, where both ends count alike.
        t = torch.where(
            draw.uniform(0, 1, shape[0]) < 0.4,
            draw.uniform(0.05, 0.4, shape[0], dtype=dtype),
            draw.uniform(0.6, 0.95, shape[0], dtype=dtype),
        )
        return Case(name, (x0, x1, t), group=group)

    yield case("images", "images", 3, 2, 5, 4)
    yield case("as many samples as rows and columns", "images", 4, 4, 4, 4)
    yield case("sound", "sound and points", 3, 2, 7)
    yield case("points", "sound and points", 5, 2)
    yield case("a batch of one", "sizes and dtypes", 1, 1, 3, 3)
    yield case("float32", "sizes and dtypes", 6, 1, 4, 6, dtype="float32")
    x0, x1 = draw.normal(2, 1, 3, dtype="float64"), draw.normal(2, 1, 3, dtype="float64")
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    yield Case("both ends", (x0, x1, ends), group="sizes and dtypes")


# --- 15.2 ----------------------------------------------------------------------------------

flow_sample = Exercise(
    id="15.2",
    title="Follow the velocity to the data",
    names=("flow_sample",),
    points={"euler": 1, "midpoint": 2, "calls": 1},
    difficulty=2,
    minutes=20,
    hints=(
        "You begin at t = 1 and end at t = 0, in n steps of the same size. The velocity points "
        "towards growing t. So what is the sign of a step?",
        "The times at which steps begin are 1, 1 - 1/n, ..., 1/n. The last step begins at 1/n and "
        "ends at 0: nothing is asked at 0.",
        "Midpoint: half a step first, only to see what the slope is there, at the time in the "
        "middle. Then go back to where the step began, and make the whole step with that slope.",
        "torch.full((len(x),), t, dtype=x.dtype) gives every sample the same time.",
    ),
    library=("undiffuse.flow.flow_sample",),
)


class Bend:
    """A velocity that depends on place and time, and keeps the times it was asked at."""

    def __init__(self, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        self.a, self.b, self.c = (0.6 + 0.5 * torch.rand(3, generator=g)).double().tolist()
        self.saw: list[float] = []
        self.one_each = self.of_its_type = True

    def __call__(self, x, t, cond=None):
        self.one_each &= isinstance(t, torch.Tensor) and t.shape == x.shape[:1]
        self.of_its_type &= getattr(t, "dtype", x.dtype) == x.dtype
        t = torch.as_tensor(t, dtype=x.dtype)
        self.saw.append(float(t.reshape(-1)[0]))
        if t.ndim:
            t = t.reshape(-1, *[1] * (x.ndim - 1))
        return torch.sin(2 * self.a * x + 3 * self.b * t) + self.c * x * t - 0.4


def bend(seed):
    """A ``Bend``, made beside the learner's code."""
    return Bend(seed)


def ask_times(answer, model, x, n, options):
    """At which times the velocity was asked for, in order, and how; and whether x is untouched."""
    before = x.clone()
    answer.flow_sample(model, x, n, **options)
    return {
        "times": [round(t, 6) for t in model.saw],
        "t has one number a sample": model.one_each,
        "t has x's dtype": model.of_its_type,
        "x is as it was": torch.equal(x, before),
    }


@flow_sample.cases
def _(draw: Draw):
    def case(name, group, n, *shape, driver=None, dtype="float64", **options):
        x = draw.normal(*shape, dtype=dtype)
        model = Given(bend, draw.integers(0, 2**31))
        if driver:
            return Case(name, (model, x, n, options), driver=driver, group=group, picture="none")
        return Case(name, (model, x, n), options, group=group, picture="none")

    yield case("Euler, images", "euler", 7, 2, 1, 3, 4)
    yield case("Euler, said in so many words", "euler", 4, 3, 2, method="euler")
    yield case("Euler, one step", "euler", 1, 2, 3)
    yield case("midpoint, images", "midpoint", 6, 2, 1, 4, 3, method="midpoint")
    yield case("midpoint, one step", "midpoint", 1, 3, 2, method="midpoint")
    yield case("midpoint, float32", "midpoint", 5, 1, 2, 6, dtype="float32", method="midpoint")
    yield case("times of Euler", "calls", 5, 3, 2, driver=ask_times)
    yield case("times of midpoint", "calls", 3, 2, 2, driver=ask_times, method="midpoint")


# --- 15.3 ----------------------------------------------------------------------------------

patches = Exercise(
    id="15.3",
    title="Pictures as sentences",
    names=("patchify", "unpatchify"),
    points={"there": 2, "back": 2, "odd sizes": 2},
    difficulty=2,
    minutes=25,
    hints=(
        "Split two axes and order them: (B, C, H, W) is (B, C, rows, patch, columns, patch) once "
        "reshaped. Then permute: what belongs to one patch stands at the end, channel first.",
        "The number of rows of patches is H / patch, rounded up: -(-H // patch).",
        "torch.nn.functional.pad(x, (left, right, top, bottom), mode='replicate') repeats the "
        "edge.",
        "On the way back do the same steps in reverse order, and cut to size at the very end.",
    ),
    library=("undiffuse.dit.patchify", "undiffuse.dit.unpatchify"),
)


def there(answer, x, patch):
    """The tokens."""
    return answer.patchify(x, patch)


def back(answer, tokens, size, patch):
    """The picture."""
    return answer.unpatchify(tokens, size, patch)


def there_and_back(answer, x, patch):
    """The picture again, by way of the learner's own tokens."""
    return answer.unpatchify(answer.patchify(x, patch), tuple(x.shape[2:]), patch)


@patches.cases
def _(draw: Draw):
    def picture(*shape, dtype="float32"):
        return draw.normal(*shape, dtype=dtype)

    yield Case("4 x 6, patch 2", (picture(2, 1, 4, 6), 2), driver=there, group="there")
    yield Case("colours", (picture(2, 3, 6, 4), 2), driver=there, group="there")
    args = picture(3, 2, 6, 9, dtype="float64"), 3
    yield Case("patch 3, float64", args, driver=there, group="there")
    yield Case("a square", (picture(4, 4, 4, 4), 2), driver=there, group="there")
    tokens = picture(2, 6, 4)
    yield Case("back to 4 x 6", (tokens, (4, 6), 2), driver=back, group="back")
    args = picture(1, 6, 12), (6, 4), 2
    yield Case("back, colours", args, driver=back, group="back")
    args = picture(2, 6, 18, dtype="float64"), (6, 9), 3
    yield Case("back, patch 3, float64", args, driver=back, group="back")
    args = picture(4, 4, 16), (4, 4), 2
    yield Case("back to a square", args, driver=back, group="back")
    yield Case("5 x 7, patch 2", (picture(2, 2, 5, 7), 2), driver=there, group="odd sizes")
    yield Case("7 x 8, patch 3", (picture(1, 1, 7, 8), 3), driver=there, group="odd sizes")
    args = picture(2, 12, 8), (5, 7), 2
    yield Case("back to 5 x 7", args, driver=back, group="odd sizes")
    args = picture(2, 3, 7, 5), 4
    yield Case("7 x 5 there and back", args, driver=there_and_back, group="odd sizes")


# --- 15.4 ----------------------------------------------------------------------------------

dit_block = Exercise(
    id="15.4",
    title="A block that starts closed",
    names=("DiTBlock",),
    points={"output": 2, "at the start": 1, "sizes and dtypes": 1, "gradients": 1},
    difficulty=3,
    minutes=30,
    hints=(
        "self.modulation makes (B, 6 dim) of SiLU(emb). Tensor.chunk(6, dim=...) gives the six "
        "parts. To be multiplied with (B, N, dim) each needs an axis of length 1 for the tokens.",
        "Two branches, each in the same order: normalise, times (1 + scale), plus shift, the part "
        "itself, times gate, and add that to what came in.",
        "The second branch starts from what the first one has made, not from the input.",
        "nn.init.zeros_ sets a parameter to zero. A linear layer has two.",
    ),
    library=("undiffuse.dit.DiTBlock",),
)
BLOCK_PARTS = {"norm1", "qkv", "proj", "norm2", "mlp", "modulation"}


def made_block(answer, dim, emb_dim, heads):
    """The learner's block, if it has the parts that its given constructor makes."""
    block = answer.DiTBlock(dim, emb_dim, heads) if heads else answer.DiTBlock(dim, emb_dim)
    have = {name for name, _ in block.named_children()}
    if have != BLOCK_PARTS:
        raise AttributeError(
            f"the constructor is given and should stay: it makes {', '.join(sorted(BLOCK_PARTS))};"
            f" yours has {', '.join(sorted(have)) or 'nothing'}"
        )
    return block


def run_block(answer, x, emb, heads, seed):
    """The output with random weights."""
    block = made_block(answer, x.shape[2], emb.shape[1], heads)
    return filled(block, seed, x.dtype)(x, emb)


def new_block(answer, x, emb, heads):
    """Which parameters of an untrained block are zero, and whether it lets its tokens pass."""
    block = made_block(answer, x.shape[2], emb.shape[1], heads).to(x.dtype)
    zero = sorted(name for name, p in block.named_parameters() if not p.any())
    out = block(x, emb)
    same = out.shape == x.shape and bool(torch.allclose(out, x, rtol=0, atol=1e-12))
    return {"zero at the start": zero, "tokens pass unchanged": same}


def block_gradients(answer, x, emb, heads, seed):
    """Gradients of a number made of the output, for both inputs."""
    block = filled(made_block(answer, x.shape[2], emb.shape[1], heads), seed, x.dtype)
    x, emb = x.clone().requires_grad_(), emb.clone().requires_grad_()
    out = block(x * 1.0, emb * 1.0)
    g = torch.Generator().manual_seed(seed)
    (out * torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype)).sum().backward()
    return {"for x": x.grad, "for emb": emb.grad}


@dit_block.cases
def _(draw: Draw):
    def case(name, group, heads, *shape, emb=6, driver=run_block, dtype="float64", **more):
        x = draw.normal(*shape, dtype=dtype, mean=0.5, std=1.4)
        args = x, draw.normal(shape[0], emb, dtype=dtype), heads
        if driver is not new_block:
            args = (*args, draw.integers(0, 2**31))
        return Case(name, args, driver=driver, group=group, picture="none", **more)

    yield case("five tokens", "output", 2, 3, 5, 8)
    yield case("as many tokens as samples and numbers", "output", 2, 6, 6, 6)
    yield case("a new block", "at the start", 2, 2, 4, 8, driver=new_block)
    yield case("a batch of one, three heads", "sizes and dtypes", 3, 1, 7, 12, emb=4)
    yield case("heads as they come", "sizes and dtypes", None, 2, 3, 8)
    more = {"dtype": "float32", "tol": Tol(2e-4, 2e-4)}
    yield case("float32", "sizes and dtypes", 4, 2, 6, 8, **more)
    yield case("gradients", "gradients", 2, 2, 3, 8, driver=block_gradients)


# --- 15.5 ----------------------------------------------------------------------------------

logit_normal = Exercise(
    id="15.5",
    title="Train where it is hard",
    names=("logit_normal_t",),
    points={"distribution": 2, "range and type": 1, "generator": 1},
    difficulty=1,
    minutes=10,
    core=False,
    hints=(
        "Two steps: a normal number with the mean and the deviation asked for, then something that "
        "maps all numbers to (0, 1), and that you know from classifiers.",
        "torch.randn(batch, generator=generator) has mean 0 and deviation 1. Which comes first, "
        "multiplying or adding?",
    ),
    library=("undiffuse.training.logit_normal_t",),
)


def draw_logit_normal(answer, batch, calls, seeds, options):
    """Many calls on one generator; some again from its seed, and from another."""

    def many(seed, n):
        g = torch.Generator().manual_seed(seed)
        return [answer.logit_normal_t(batch, g, **options) for _ in range(n)]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    drawn = many(seeds[0], calls)
    disturbed = not torch.equal(before, torch.get_rng_state())
    if not all(isinstance(t, torch.Tensor) and t.shape == (batch,) for t in drawn):
        return drawn[0]
    torch.manual_seed(2)
    return {
        "times": torch.stack(drawn),
        "again": torch.stack(many(seeds[0], 3)),
        "other": torch.stack(many(seeds[1], 3)),
        "global generator moved": disturbed,
    }


@logit_normal.cases
def _(draw: Draw):
    def case(name, group, batch, calls, **options):
        seeds = [draw.integers(0, 2**31), draw.integers(0, 2**31)]
        args = batch, calls, seeds, options
        return Case(name, args, driver=draw_logit_normal, group=group, picture="none")

    yield case("as it comes", "distribution", 4000, 5)
    options = {"mean": -draw.uniform(0.6, 1.2), "std": draw.uniform(0.4, 0.6)}
    yield case("nearer to data, narrow", "distribution", 4000, 5, **options)
    options = {"mean": draw.uniform(0.5, 1.0), "std": draw.uniform(1.6, 2.2)}
    yield case("nearer to noise, wide", "distribution", 4000, 5, **options)
    yield case("small batches", "range and type", 7, 40)
    yield case("a batch of one", "range and type", 1, 50, std=2.5)
    yield case("reproducible", "generator", 6, 4, mean=0.3)


def _apart(times: torch.Tensor, mean: float, std: float) -> float:
    """The greatest distance of the distribution functions (Kolmogorov and Smirnov)."""
    u = torch.special.ndtr((torch.logit(times.double()) - mean) / std).reshape(-1).sort().values
    steps = torch.arange(len(u) + 1, dtype=torch.float64) / len(u)
    return float(torch.maximum(steps[1:] - u, u - steps[:-1]).max())


@logit_normal.judge
def _(case, got, expected):
    batch, _, _, options = case.args
    if not isinstance(got, dict):
        shown = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
        return f"a float32 tensor of shape ({batch},) is wanted, got {shown}"
    times = got["times"]
    if times.dtype != torch.float32:
        return f"float32 is wanted, yours are {times.dtype}"
    if not torch.equal(times[:3], got["again"]):
        return "the same seed gives other times: every draw must take generator=generator"
    if got["global generator moved"]:
        return "torch's global generator was used: every draw must take generator=generator"
    if torch.equal(got["again"], got["other"]):
        return "generators with different seeds give the same times"
    if not bool(((times > 0) & (times < 1)).all()):
        return (
            f"times lie between {float(times.min()):.3g} and {float(times.max()):.3g}; they must "
            "lie between 0 and 1, both ends excluded"
        )
    if batch > 1 and len(times[0].unique()) < 0.9 * batch:
        return "samples of one batch share their times"
    mean, std = options.get("mean", 0.0), options.get("std", 1.0)
    n = times.numel()
    # Dvoretzky, Kiefer, Wolfowitz, Massart: chance exceeds this less than once in 1e8 checks.
    limit = math.sqrt(math.log(2e8) / (2 * n))
    apart = _apart(times, mean, std)
    if apart > limit:
        z = torch.logit(times.double())
        return (
            f"log(t / (1 - t)) has mean {float(z.mean()):.2f} and deviation {float(z.std()):.2f}, "
            f"where a normal distribution of mean {mean:.2f} and deviation {std:.2f} is wanted"
        )
    return None


# --- 15.6 ----------------------------------------------------------------------------------

accumulated_step = Exercise(
    id="15.6",
    title="A large batch in small pieces",
    names=("accumulated_step",),
    points={"even pieces": 1, "a last piece that is smaller": 2, "manners": 1},
    difficulty=2,
    minutes=20,
    hints=(
        "backward() adds to the gradients that are there. Here that is what you want, but only "
        "among the pieces of one batch.",
        "loss_fn gives the mean over a piece. The mean over the batch is the sum over all pieces "
        "of mean times size of the piece, divided by the size of the batch.",
        "Tensor.split(size) cuts a tensor along its first axis; the last piece may be smaller. "
        "zip(*...) puts the pieces of several tensors side by side.",
    ),
)


class Toy(nn.Module):
    """A network of a few numbers that keeps how many samples it saw in each call."""

    def __init__(self, seed: int, dtype: str = "float64") -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        draw = 0.7 * torch.randn(5, generator=g, dtype=torch.float64)
        self.weight = nn.Parameter(draw.to(getattr(torch, dtype)))
        self.saw: list[int] = []

    def forward(self, x, t):
        self.saw.append(len(x))
        a, b, c, d, e = (self.weight[i] for i in range(5))
        t = t.reshape(-1, *[1] * (x.ndim - 1))
        return d * torch.tanh(a * x + b * t) + c * x * t + e


def toy(seed, **more):
    """A ``Toy``, made beside the learner's code."""
    return Toy(seed, **more)


def squares(model, x, t, wanted):
    """The mean squared error of some samples."""
    return (model(x, t) - wanted).square().mean()


def square_loss():
    """``squares``, to be handed over."""
    return squares


def optimizer_of(kind, model):
    """A fresh optimizer for ``model``."""
    if kind == "SGD":
        return torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    return torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)


def take_steps(answer, model, loss_fn, kind, batches, size):
    """Losses of some steps and the weights after each. Gradients of before are still there."""
    optimizer = optimizer_of(kind, model)
    loss_fn(model, *(a.flip(0) for a in batches[0])).backward()
    model.saw.clear()
    losses, weights = [], []
    for batch in batches:
        value = answer.accumulated_step(model, optimizer, loss_fn, tuple(batch), size)
        losses.append(float(value.detach()) if isinstance(value, torch.Tensor) else value)
        weights.append(flat(model.parameters()))
    return {"losses": losses, "weights": torch.stack(weights)}


class Box:
    """Holds a tensor that a graph keeps for the way back."""

    def __init__(self, tensor):
        self.tensor = tensor


class Watched:
    """A loss that notes, in each call, whether anything of the call before is still kept."""

    def __init__(self, loss_fn):
        self.loss_fn, self.boxes, self.kept = loss_fn, [], False

    def box(self, tensor):
        held = Box(tensor)
        self.boxes.append(weakref.ref(held))
        return held

    def __call__(self, model, *piece):
        self.kept |= any(ref() is not None for ref in self.boxes)
        self.boxes = []
        with torch.autograd.graph.saved_tensors_hooks(self.box, lambda held: held.tensor):
            return self.loss_fn(model, *piece)


def step_manners(answer, model, loss_fn, batch, size):
    """What a call returns, and how the batch went through the network."""
    loss_fn = Watched(loss_fn)
    value = answer.accumulated_step(model, optimizer_of("SGD", model), loss_fn, tuple(batch), size)
    return {
        "a piece is free before the next": not loss_fn.kept,
        "returned": value,
        "too many at once": max(model.saw) if max(model.saw) > size else 0,
        "every sample once": sum(model.saw) == len(batch[0]),
    }


@accumulated_step.cases
def _(draw: Draw):
    def batch(n, *shape, dtype="float64"):
        x, wanted = (draw.normal(n, *shape, dtype=dtype, mean=0.4) for _ in range(2))
        return [x, draw.uniform(0.1, 0.9, n, dtype=dtype), wanted]

    def case(name, group, kind, n, size, *shape, steps=3):
        batches = [batch(n, *shape) for _ in range(steps)]
        args = Given(toy, draw.integers(0, 2**31)), Given(square_loss), kind, batches, size
        return Case(name, args, driver=take_steps, group=group, picture="none")

    yield case("12 in pieces of 4", "even pieces", "SGD", 12, 4, 1, 3, 2)
    yield case("8 in pieces of 2, AdamW", "even pieces", "AdamW", 8, 2, 5)
    group = "a last piece that is smaller"
    yield case("11 in pieces of 4", group, "SGD", 11, 4, 1, 2, 2)
    yield case("7 in pieces of 3, AdamW", group, "AdamW", 7, 3, 4)
    yield case("a piece of one at the end", group, "SGD", 9, 4, 3, steps=2)
    yield case("pieces larger than the batch", "even pieces", "SGD", 5, 8, 2, steps=2)
    args = Given(toy, draw.integers(0, 2**31)), Given(square_loss), batch(10, 3), 3
    yield Case("one call", args, driver=step_manners, group="manners", picture="none")


# --- 15.7 ----------------------------------------------------------------------------------

shard = Exercise(
    id="15.7",
    title="To each worker its share",
    names=("shard",),
    points={"shares": 2, "order": 2},
    difficulty=2,
    minutes=20,
    core=False,
    hints=(
        "All workers must begin with the same mixed order, or their shares overlap. So what may "
        "the seed of the mixing depend on, and what not?",
        "A generator of its own, torch.Generator().manual_seed(...), leaves the global one alone, "
        "which every process has in another state.",
        "Mix first, then leave out what does not divide by world: other samples each epoch. Then "
        "take every world-th, beginning with number rank.",
    ),
    reference_needed=False,
)


def all_shares(answer, indices, world, epochs):
    """What each worker gets in each epoch; the second time in another order of calls."""

    changed = False

    def share(rank, epoch, state):
        nonlocal changed
        torch.manual_seed(state)  # processes differ in this
        mine = indices.clone()
        out = answer.shard(mine, rank, world, epoch)
        changed |= not torch.equal(mine, indices)
        return out

    shares = [[share(r, e, 10 * r + e) for r in range(world)] for e in epochs]
    again = [[share(r, e, 99) for r in reversed(range(world))][::-1] for e in epochs]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    answer.shard(indices.clone(), 0, world, epochs[0])
    return {
        "shares": shares,
        "again": again,
        "global generator moved": not torch.equal(before, torch.get_rng_state()),
        "indices changed": changed,
    }


@shard.cases
def _(draw: Draw):
    def case(name, group, n, world, epochs):
        indices = 100 + draw.distinct(0, 3 * n, n)
        args = indices, world, epochs
        return Case(name, args, driver=all_shares, group=group, picture="none")

    first = draw.integers(0, 50)
    yield case("40 among 4", "shares", 40, 4, [first, first + 1])
    yield case("43 among 4", "shares", 43, 4, [first, first + 1])
    yield case("a worker alone", "shares", 20, 1, [first])
    yield case("epochs of 50 among 3", "order", 50, 3, [first, first + 1, first + 2])
    yield case("epochs of 60 among 2", "order", 60, 2, [0, 1, 2])


def not_mixed(indices, shares) -> bool:
    """Whether within the shares most steps from a sample to the next are equally wide.

    In a random order of 20 that has a probability of less than 1e-6, and less for more samples.
    """
    place = {int(v): i for i, v in enumerate(indices)}
    steps = [(place[b] - place[a]) % len(place)
             for share in shares for a, b in zip(share.tolist(), share[1:].tolist())]  # fmt: skip
    return 2 * max(steps.count(step) for step in set(steps)) > len(steps)


@shard.judge
def _(case, got, expected):
    indices, world, epochs = case.args
    n, each = len(indices), len(indices) // world
    if not isinstance(got, dict):
        return "a tensor of indices is wanted"
    for epoch, shares in zip(epochs, got["shares"]):
        for rank, share in enumerate(shares):
            if not isinstance(share, torch.Tensor) or share.ndim != 1:
                return f"worker {rank} gets {type(share).__name__}; an int64 tensor is wanted"
            if share.dtype != torch.int64:
                return f"indices must stay int64, yours are {share.dtype}"
        sizes = [len(s) for s in shares]
        if sizes != [each] * world:
            return f"of {n} samples the {world} workers get {sizes}; {each} each is wanted"
        together = torch.cat(shares)
        if not bool(torch.isin(together, indices).all()):
            return "some of what workers get is not among the indices"
        if len(together.unique()) < len(together):
            twice = len(together) - len(together.unique())
            return f"in epoch {epoch} {twice} samples come more than once"
    for one, other in zip(got["shares"], got["again"]):
        if not all(torch.equal(a, b) for a, b in zip(one, other)):
            return "the same rank, world and epoch give other samples when asked again"
    if got["global generator moved"]:
        return "torch's global generator was used: make one, seeded with the epoch"
    if got["indices changed"]:
        return "indices are changed in place: the next epoch would begin from another order"
    whole = [torch.stack(shares).T.reshape(-1) for shares in got["shares"]]
    if n > 10 and torch.equal(whole[0], indices[: len(whole[0])]):
        return "the samples come in the order of the file: they must be mixed"
    if n > 10 and any(not_mixed(indices, shares) for shares in got["shares"]):
        return "most samples come in even steps through the file: they must be mixed"
    for k in range(1, len(epochs)):
        if torch.equal(whole[k], whole[k - 1]):
            return f"epochs {epochs[k - 1]} and {epochs[k]} have the same order"
        same = [set(a.tolist()) == set(b.tolist())
                for a, b in zip(got["shares"][k], got["shares"][k - 1])]  # fmt: skip
        if world > 1 and all(same):
            return "every worker sees the same samples in each epoch, only in another order"
    if len(epochs) > 2 and n % world:
        left = [set(indices.tolist()) - set(w.tolist()) for w in whole]
        if all(rest == left[0] for rest in left):
            return "the same samples are left out in every epoch: they would never be learnt"
    return None


# --- 15.8 ----------------------------------------------------------------------------------

mixed = Exercise(
    id="15.8",
    title="Half the digits, where half will do",
    names=("mixed_precision_step",),
    points={"in bfloat16": 2, "where it is not there": 1, "manners": 1},
    difficulty=3,
    minutes=20,
    core=False,
    hints=(
        "torch.autocast(device_type, dtype=..., enabled=...) lets a network's products run in "
        "another type, as long as you are inside the with. Where are the tensors? "
        "x_t.device.type says it.",
        "supported is a function: ask it about the kind of device.",
        "The loss adds up thousands of small squares, for which eight bits are too few. Bring the "
        "prediction back to float32 before anything is subtracted from it.",
        "bfloat16 has the range of float32: small gradients do not vanish, so there is nothing to "
        "scale up, unlike with float16.",
    ),
)


class Narrow(nn.Module):
    """Two linear layers in float32 that keep in which type they computed and what came back."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 40), nn.Linear(40, 24)
        filled(self, seed, torch.float32, gain=1.3)
        self.saw: list[str] = []
        self.back: list[float] = []

    def forward(self, x, t):
        h = self.first(x.flatten(1))
        out = self.second(torch.tanh(h + t.reshape(-1, 1).to(h.dtype)))
        self.saw.append(str(h.dtype).removeprefix("torch."))
        if out.requires_grad:
            out.register_hook(lambda grad: self.back.append(float(grad.float().norm())))
        return out.reshape(x.shape)


def narrow(seed):
    """A ``Narrow``, made beside the learner's code."""
    return Narrow(seed)


class Support:
    """Says whether a kind of device computes in bfloat16, and keeps what it was asked."""

    def __init__(self, there: bool) -> None:
        self.there, self.asked = there, []

    def __call__(self, kind):
        if not isinstance(kind, str):
            kind = getattr(kind, "type", kind)
        self.asked.append(str(kind))
        return self.there


def support(there):
    """A ``Support``, made beside the learner's code."""
    return Support(there)


def mixed_steps(answer, model, batches, supported):
    """Some steps: losses, weights, the type of the products, and the gradient at the output."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    losses, weights = [], []
    for x_t, t, wanted in batches:
        value = answer.mixed_precision_step(model, optimizer, x_t, t, wanted, supported)
        losses.append(float(value.detach()) if isinstance(value, torch.Tensor) else value)
        weights.append(flat(p.float() for p in model.parameters()))
    return {
        "products were computed in": model.saw,
        "weights are": sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()}),
        "losses": losses,
        "size of the gradient at the output": model.back,
        "weights": torch.stack(weights),
    }


def mixed_manners(answer, model, x_t, t, wanted, supported):
    """What a call returns, what it asks, and what it leaves."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    value = answer.mixed_precision_step(model, optimizer, x_t, t, wanted, supported)
    kinds = {str(p.grad.dtype).removeprefix("torch.") for p in model.parameters()
             if p.grad is not None}  # fmt: skip
    return {
        "returned": value,
        "asked about": sorted(set(supported.asked)),
        "autocast is over": not torch.is_autocast_enabled("cpu"),
        "gradients are float32": kinds <= {"float32"},
        "weights": flat(p.float() for p in model.parameters()),
    }


# Products in bfloat16 round to about 1 in 256; what is added up from them is compared as finely as
# two right answers agree, which do the same products and add up in float32.
MIXED = Tol(2e-4, 2e-4)


@mixed.cases
def _(draw: Draw):
    def batch(n=6):
        x = draw.normal(n, 2, 3, 4)
        return [x, draw.uniform(0.1, 0.9, n), 3 + draw.normal(n, 2, 3, 4)]

    def case(name, group, there, steps):
        args = Given(narrow, draw.integers(0, 2**31)), [batch() for _ in range(steps)]
        args = (*args, Given(support, there))
        return Case(name, args, driver=mixed_steps, group=group, picture="none", tol=MIXED)

    yield case("four steps", "in bfloat16", True, 4)
    yield case("a device without", "where it is not there", False, 3)
    args = Given(narrow, draw.integers(0, 2**31)), *batch(3), Given(support, True)
    more = {"group": "manners", "picture": "none", "tol": MIXED}
    yield Case("one call", args, driver=mixed_manners, **more)
