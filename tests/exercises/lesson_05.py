"""Checks of lesson 05, training: exercises, cases, drivers and judges; the answers are elsewhere.

What draws at random is judged by its distribution, so that a right answer may draw as it likes:
each bound is seven standard errors wide, which chance passes less than once in a million checks.
What trains is compared to the last digit in float64, on networks of a few numbers.
"""

import contextlib
import math
import os
import tempfile
from pathlib import Path

import torch
from torch import nn

from coursework.exercise import Case, Draw, Exercise, Given, Lesson, Tol

LESSON = Lesson(
    "05",
    provides=(
        "undiffuse.data",
        "undiffuse.plots",
        "undiffuse.schedules",
        "undiffuse.process",
        "undiffuse.prediction",
        "undiffuse.losses",
        "undiffuse.results",
    ),
)
WIDE = 7.0  # standard errors

# The first optimizer of a process makes torch import its compiler, which takes seconds. It must not
# fall under a check's time limit: an import that is broken off leaves torch unusable.
torch.optim.SGD([nn.Parameter(torch.zeros(1))])


def some_levels(draw: Draw, steps: int, dtype: str = "float64") -> torch.Tensor:
    """alpha_bar of ``steps`` irregular steps, falling from about 0.95 to about 0.05."""
    rough = draw.uniform(0.4, 1.6, steps, dtype="float64")
    return torch.exp(-3.0 * rough.cumsum(0) / rough.sum()).to(getattr(torch, dtype))


class Toy(nn.Module):
    """A network of four numbers and some labels that keeps how it was called.

    Its output depends on x, on the time and on the label; in training mode it is ``by_mode``
    times as large.
    """

    def __init__(self, seed: int, classes: int = 0, by_mode: float = 1.0, dtype: str = "float64"):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        kind = getattr(torch, dtype)
        draw = torch.randn(4, generator=g, dtype=torch.float64)
        self.weight = nn.Parameter((0.6 + 0.2 * draw).to(kind))
        draw = torch.randn(classes, generator=g, dtype=torch.float64)
        self.labels = nn.Parameter(draw.to(kind)) if classes else None
        self.by_mode = by_mode
        self.saw: list[tuple[bool, int]] = []

    def forward(self, x, t, cond=None):
        """Like a U-Net's: x (B, ...), t (B,) in [0, 1], labels (B,) or None."""
        self.saw.append((self.training, len(x)))
        shape = (-1, *[1] * (x.ndim - 1))
        a, b, c, d = (self.weight[i] for i in range(4))
        shift = b * t.reshape(shape)
        if self.labels is not None and cond is not None:
            shift = shift + self.labels[cond].reshape(shape)
        out = d * torch.tanh(a * x + shift) + c * x * t.reshape(shape)
        return out * self.by_mode if self.training else out


def toy(seed, **more):
    """A ``Toy``, made beside the learner's code."""
    return Toy(seed, **more)


def flat(tensors) -> torch.Tensor:
    """All numbers of some tensors in one row, as they are now."""
    return torch.cat([t.detach().reshape(-1).clone() for t in tensors])


# --- 05.1 ----------------------------------------------------------------------------------

sample_timesteps = Exercise(
    id="05.1",
    title="A noise level for each image",
    names=("sample_timesteps",),
    points={"uniform": 1, "stratified": 2, "generator": 1},
    difficulty=2,
    minutes=15,
    hints=(
        "torch.randint(high, size) leaves high itself out, as range does. Which number do you give "
        "it, if T - 1 is to be the largest?",
        "For the stratified times, think of [0, 1) cut into as many equal parts as there are "
        "images. Part i begins at i / batch. Where in it the time falls, torch.rand says.",
        "Only at the end multiply by T and round down. And mix the order: torch.randperm draws "
        "one, and it takes a generator too.",
    ),
    library=("undiffuse.training.sample_timesteps",),
)


def draw_times(answer, batch, T, seeds, repeats, options):
    """Many calls on one generator; a few again from its seed, and from another."""

    def many(seed, n):
        g = torch.Generator().manual_seed(seed)
        return [answer.sample_timesteps(batch, T, g, **options) for _ in range(n)]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    drawn = many(seeds[0], repeats)
    disturbed = not torch.equal(before, torch.get_rng_state())
    if not all(isinstance(t, torch.Tensor) and t.shape == (batch,) for t in drawn):
        return drawn[0]
    torch.manual_seed(2)
    return {
        "times": torch.stack(drawn),
        "again": torch.stack(many(seeds[0], 40)),
        "other": torch.stack(many(seeds[1], 40)),
        "global generator moved": disturbed,
    }


@sample_timesteps.cases
def _(draw: Draw):
    def case(name, group, batch, T, repeats, **options):
        seeds = [draw.integers(0, 2**31), draw.integers(0, 2**31)]
        args = batch, T, seeds, repeats, options
        return Case(name, args, driver=draw_times, group=group, picture="none")

    yield case("8 images, 12 steps", "uniform", 8, 12, 400)
    yield case("said in so many words", "uniform", 5, 7, 400, stratified=False)
    yield case("a batch of one", "uniform", 1, 5, 1200)
    yield case("stratified, 8 images, 24 steps", "stratified", 8, 24, 700, stratified=True)
    yield case("stratified, 4 images, 10 steps", "stratified", 4, 10, 600, stratified=True)
    yield case("stratified, 12 images, 5 steps", "stratified", 12, 5, 300, stratified=True)
    yield case("stratified, a batch of one", "stratified", 1, 4, 1000, stratified=True)
    yield case("reproducible", "generator", 6, 1000, 60)
    yield case("reproducible, stratified", "generator", 6, 1000, 60, stratified=True)


@sample_timesteps.judge
def _(case, got, expected):
    batch, T, _, repeats, options = case.args
    if not isinstance(got, dict):
        shown = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
        return f"an int64 tensor of shape ({batch},) is wanted, got {shown}"
    times = got["times"]
    if times.dtype != torch.int64:
        return f"times index alpha_bar, so they must be int64; yours are {times.dtype}"
    if case.group == "generator":
        if not torch.equal(times[:40], got["again"]):
            return "the same seed gives other times: every draw must take generator=generator"
        if got["global generator moved"]:
            return "torch's global generator was used: every draw must take generator=generator"
        if torch.equal(got["again"], got["other"]):
            return "generators with different seeds give the same times"
        return None
    if int(times.min()) < 0 or int(times.max()) > T - 1:
        return (
            f"times lie between {int(times.min())} and {int(times.max())}; 0 to {T - 1} is wanted"
        )
    if torch.equal(times[0].expand_as(times), times) and T > 1:
        return "every call gives the same times"
    if options.get("stratified"):
        edges = range(batch)
        low = torch.tensor([i * T // batch for i in edges])
        high = torch.tensor([-(-(i + 1) * T // batch) - 1 for i in edges])
        ordered = times.sort(1).values
        if bool(((ordered < low) | (ordered > high)).any()):
            return f"not every one of the {batch} equal parts of [0, {T}) has exactly one time"
    mean = repeats * batch / T
    counts = torch.bincount(times.reshape(-1), minlength=T)
    off = int((counts - mean).abs().argmax())
    if abs(float(counts[off]) - mean) > WIDE * math.sqrt(mean):
        return (
            f"t = {off} came {int(counts[off])} times in {repeats * batch} draws; about "
            f"{mean:.0f} is wanted, as of every t from 0 to {T - 1}"
        )
    error = math.sqrt((T * T - 1) / 12 / repeats)
    places = (times.double().mean(0) - (T - 1) / 2).abs() / error
    if float(places.max()) > WIDE:
        worst = int(places.argmax())
        return (
            f"place {worst} of the batch gets times of {float(times.double().mean(0)[worst]):.2f} "
            f"on average, and {(T - 1) / 2} is wanted for every place: is the order mixed?"
        )
    if not options.get("stratified") and batch > 1:
        pairs = repeats * batch * (batch - 1) / 2
        equal = (times[:, :, None] == times[:, None, :]).sum() - times.numel()
        if abs(float(equal) / 2 - pairs / T) > WIDE * math.sqrt(pairs / T):
            return (
                "the times of one batch depend on each other: "
                f"{int(equal) // 2} pairs of images share their time, about {pairs / T:.0f} "
                "would by chance"
            )
    return None


# --- 05.2 ----------------------------------------------------------------------------------

train_step = Exercise(
    id="05.2",
    title="One step of training",
    names=("train_step",),
    points={"loss and weights": 2, "labels and targets": 1, "result and mode": 1},
    difficulty=2,
    minutes=15,
    uses=("05.1",),
    hints=(
        "Six lines: training mode, times, noise, loss, gradient, step. The loss is one call of "
        "simple_loss, which takes everything you have.",
        "backward() adds to the gradients that are there. When must they be cleared?",
        "A tensor that comes out of a loss drags the whole computation behind it. loss.item() is "
        "a plain number.",
    ),
    library=("undiffuse.training.train_step",),
)


def optimizer_of(kind, model):
    """A fresh optimizer for ``model``."""
    if kind == "SGD":
        return torch.optim.SGD(model.parameters(), lr=0.3)
    return torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)


def take_steps(answer, model, kind, batches, alpha_bar, generator, options):
    """Losses of some steps and the weights after each; whether gradients are left at the end."""
    optimizer = optimizer_of(kind, model)
    losses, weights = [], []
    for batch in batches:
        more = {k: v[: len(batch)] if k == "cond" else v for k, v in options.items()}
        value = answer.train_step(model, optimizer, batch, alpha_bar, generator, **more)
        losses.append(float(value.detach()) if isinstance(value, torch.Tensor) else value)
        weights.append(flat(model.parameters()))
    left = any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    return {"losses": losses, "weights": torch.stack(weights), "gradients left": left}


def result_and_mode(answer, model, x0, alpha_bar, generator):
    """What a call returns, and the mode that the network was in, after somebody evaluated it."""
    optimizer = optimizer_of("SGD", model)
    model.eval()
    value = answer.train_step(model, optimizer, x0, alpha_bar, generator)
    during = [training for training, _ in model.saw]
    return {"returned": value, "training mode at each call": during, "after": model.training}


@train_step.cases
def _(draw: Draw):
    def batches(*shape, n=3, dtype="float64"):
        return [draw.normal(*shape, dtype=dtype, mean=0.3) for _ in range(n)]

    def model(**more):
        return Given(toy, draw.integers(0, 2**31), **more)

    main = {"driver": take_steps, "group": "loss and weights", "picture": "none"}
    args = model(), "SGD", batches(5, 1, 4, 3), some_levels(draw, 9), draw.seed(), {}
    yield Case("three steps of SGD, images", args, **main)
    args = model(), "AdamW", batches(4, 2, 4), some_levels(draw, 30), draw.seed(), {}
    yield Case("three steps of AdamW, sound", args, **main)
    kind = {"dtype": "float32"}
    args = model(**kind), "SGD", batches(1, 1, 5, **kind), some_levels(draw, 12), draw.seed(), {}
    yield Case("a batch of one, float32", args, **main, tol=Tol(1e-4, 1e-4))
    main["group"] = "labels and targets"
    cond = draw.distinct(0, 6, 5)
    options = {"cond": cond, "prediction": "v"}
    args = model(classes=6), "SGD", batches(5, 1, 3, 3), some_levels(draw, 15), draw.seed(), options
    yield Case("labels, and v as the target", args, **main)
    options = {"prediction": "x0"}
    args = model(), "AdamW", batches(3, 1, 4), some_levels(draw, 15), draw.seed(), options
    yield Case("x0 as the target", args, **main)
    options = {"cond": draw.distinct(0, 6, 4)}
    args = model(classes=6), "AdamW", batches(4, 1, 2, 2), some_levels(draw, 7), draw.seed()
    yield Case("labels", (*args, options), **main)
    args = model(), draw.normal(3, 1, 4, dtype="float64"), some_levels(draw, 8), draw.seed()
    yield Case("after evaluation", args, driver=result_and_mode, group="result and mode",
               picture="none")  # fmt: skip


@train_step.judge
def _(case, got, expected):
    from coursework.judge import compare

    if isinstance(got, dict) and isinstance(expected, dict):
        # Whoever clears the gradients after the step, and not before it, is right as well.
        got = {k: v for k, v in got.items() if k != "gradients left"}
        expected = {k: v for k, v in expected.items() if k != "gradients left"}
    return compare(got, expected, case.tol)


# --- 05.3 ----------------------------------------------------------------------------------

ema = Exercise(
    id="05.3",
    title="The average of the weights",
    names=("EMA",),
    points={"average": 2, "buffers": 1, "memory and gradients": 1},
    difficulty=2,
    minutes=20,
    hints=(
        "model.state_dict() has every parameter and every buffer by name. What you keep must not "
        "be the same memory: clone each, without its gradient.",
        "Count first: the first update is number 1. For this number the formula gives d.",
        "d belongs to what you had, 1 - d to the model's weights now. model.named_parameters() "
        "gives what to average, model.named_buffers() what to copy. Decorate update with "
        "@torch.no_grad().",
    ),
    library=("undiffuse.training.EMA",),
)


def network(seed, dtype="float64"):
    """A convolution, a normalisation with buffers and a linear layer, with random numbers."""
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Linear(4, 2))
    move(model.to(getattr(torch, dtype)), seed)
    return model


@torch.no_grad()
def move(model, seed):
    """New numbers in every parameter and buffer of ``model``, in place: a step of training."""
    g = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=g, dtype=torch.float64))
        else:
            value.add_(int(torch.randint(1, 9, (), generator=g)))


def follow(answer, model, seeds, decay):
    """(average object, shadow after each update) while the model moves."""
    average = answer.EMA(model) if decay is None else answer.EMA(model, decay)
    if decay is None:
        average.updates = 20_000  # the warm-up is over
    after = [{k: v.detach().clone() for k, v in average.shadow.items()}]
    for seed in seeds:
        move(model, seed)
        average.update(model)
        after.append({k: v.detach().clone() for k, v in average.shadow.items()})
    return average, after


def averages(answer, model, seeds, decay):
    """The averaged parameters at the start and after each update."""
    names = [name for name, _ in model.named_parameters()]
    _, after = follow(answer, model, seeds, decay)
    return [{name: shadow.get(name) for name in names} for shadow in after]


def buffers(answer, model, seeds):
    """What is kept of the buffers, after each update."""
    names = [name for name, _ in model.named_buffers()]
    _, after = follow(answer, model, seeds, 0.9)
    return [{name: shadow.get(name) for name in names} for shadow in after]


def memory(answer, model, seeds):
    """Whether average and model leave each other alone."""
    average = answer.EMA(model, 0.9)
    start = {k: v.detach().clone() for k, v in average.shadow.items()}
    move(model, seeds[0])
    still = all(torch.equal(average.shadow[k], v) for k, v in start.items())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    average.update(model)
    untouched = all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    kept = {k: v.detach().clone() for k, v in average.shadow.items()}
    move(model, seeds[1])
    still_later = all(torch.equal(average.shadow[k], v) for k, v in kept.items())
    return {
        "stands still while the model moves": still and still_later,
        "leaves the model as it is": untouched,
        "needs no gradients": not any(v.requires_grad for v in average.shadow.values()),
        "the model still learns": all(p.requires_grad for p in model.parameters()),
        "names": sorted(average.shadow),
    }


@ema.cases
def _(draw: Draw):
    def model(**more):
        return Given(network, draw.integers(0, 2**31), **more)

    def seeds(n):
        return [draw.integers(0, 2**31) for _ in range(n)]

    more = {"driver": averages, "group": "average", "picture": "none"}
    yield Case("warming up", (model(), seeds(4), 0.999), **more)
    yield Case("warm-up over after two", (model(), seeds(6), draw.uniform(0.26, 0.3)), **more)
    yield Case("the decay left to you", (model(), seeds(1), None), **more)
    args = model(dtype="float32"), seeds(3), 0.9
    yield Case("float32", args, **more, tol=Tol(1e-5, 1e-5))
    more = {"group": "buffers", "picture": "none"}
    yield Case("buffers", (model(), seeds(3)), driver=buffers, **more)
    more = {"driver": memory, "group": "memory and gradients", "picture": "none"}
    yield Case("memory and gradients", (model(), seeds(2)), **more)


# --- 05.4 ----------------------------------------------------------------------------------

lr_at = Exercise(
    id="05.4",
    title="How large a step, and when",
    names=("lr_at",),
    points={"warm-up": 1, "cosine": 1, "ends": 1},
    difficulty=1,
    minutes=12,
    hints=(
        "Two cases. While step is below warmup, the rate grows by the same amount at each step, "
        "and the very first step already has some.",
        "After that, make a share first: 0 at step = warmup, 1 at step = total - 1, and held at 1 "
        "beyond. min does the holding.",
        "(1 + cos(pi * share)) / 2 goes from 1 to 0. Stretch it so that it goes from base_lr to "
        "final.",
    ),
    library=("undiffuse.training.lr_at",),
)


def rates(answer, steps, arguments, options):
    """The rate at each of ``steps``."""
    return [answer.lr_at(step, *arguments, **options) for step in steps]


@lr_at.cases
def _(draw: Draw):
    def base():
        return draw.uniform(1e-3, 5e-3)

    def case(name, group, steps, warmup, total, **options):
        args = list(steps), (warmup, total, base()), options
        return Case(name, args, driver=rates, group=group, picture="curve")

    warmup = draw.integers(5, 9)
    yield case("warm-up", "warm-up", range(warmup), warmup, 40)
    yield case("warm-up, final above 0", "warm-up", range(4), 4, 30, final=3e-4)
    warmup, total = draw.integers(3, 7), draw.integers(25, 40)
    yield case("from warm-up to the end", "cosine", range(warmup, total), warmup, total)
    total = draw.integers(15, 25)
    yield case("no warm-up, final above 0", "cosine", range(total), 0, total, final=5e-4)
    total = draw.integers(14, 20)
    yield case("past the end", "ends", range(total - 3, 2 * total), 4, total)
    yield case("past the end, final above 0", "ends", range(total, total + 9), 2, total, final=4e-4)
    yield Case("one step", (8, 3, 21, base()), group="ends")


# --- 05.5 ----------------------------------------------------------------------------------

validation_loss = Exercise(
    id="05.5",
    title="A validation loss that can be compared",
    names=("validation_loss",),
    points={"values": 2, "labels and targets": 1, "manners": 2},
    difficulty=3,
    minutes=30,
    hints=(
        "Make everything for all N samples first: part i % bins, its time, its noise. A generator "
        "of its own, torch.Generator().manual_seed(seed), draws the same at every call.",
        "Then go through the bins. The samples of bin k are those whose part is k; "
        "Tensor.split cuts their numbers into pieces of at most batch.",
        "simple_loss gives the mean of a piece. Pieces can differ in size, so add up mean times "
        "size, and divide by how many samples the bin has.",
        "model.training says in which mode the network came. model.train(True or False) brings it "
        "back.",
    ),
    library=("undiffuse.training.validation_loss",),
)


def validate(answer, model, data, alpha_bar, options):
    """The losses."""
    return answer.validation_loss(model, data, alpha_bar, **options)


def manners(answer, model, training, data, alpha_bar, options):
    """What a call does besides returning losses."""
    model.train(training)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = answer.validation_loss(model, data, alpha_bar, **options)
    undisturbed = torch.equal(before, torch.get_rng_state())
    after = model.training
    torch.manual_seed(4)
    second = answer.validation_loss(model.train(training), data, alpha_bar, **options)
    return {
        "two calls give the same": torch.equal(torch.as_tensor(first), torch.as_tensor(second)),
        "the global generator is as it was": undisturbed,
        "the network's mode is as it was": after == training,
        "the network was evaluated in evaluation mode": not any(mode for mode, _ in model.saw),
        "at most batch samples at once": max(n for _, n in model.saw) <= options.get("batch", 250),
        "needs no gradients": not torch.as_tensor(first).requires_grad,
    }


@validation_loss.cases
def _(draw: Draw):
    def model(**more):
        return Given(toy, draw.integers(0, 2**31), by_mode=1.4, **more)

    def data(*shape, dtype="float64"):
        return draw.normal(*shape, dtype=dtype, mean=0.3)

    more = {"driver": validate, "group": "values", "picture": "none"}
    seed = draw.integers(1, 1000)
    args = model(), data(30, 1, 3, 4), some_levels(draw, 40), {"bins": 5, "seed": seed}
    yield Case("30 images in 5 bins", args, **more)
    options = {"bins": 4, "seed": draw.integers(1, 1000), "batch": 3}
    yield Case("bins and batches that do not come out even",
               (model(), data(23, 2, 5), some_levels(draw, 14), options), **more)  # fmt: skip
    yield Case("as it comes", (model(), data(24, 1, 2, 2), some_levels(draw, 35), {}), **more)
    args = (
        model(dtype="float32"),
        data(21, 1, 4, dtype="float32"),
        some_levels(draw, 50),
        {"bins": 3, "seed": 7},
    )
    yield Case("float32", args, **more, tol=Tol(1e-4, 1e-4))
    more["group"] = "labels and targets"
    options = {"bins": 3, "seed": 5, "prediction": "v", "cond": draw.integers(0, 6, 17), "batch": 4}
    args = model(classes=6), data(17, 1, 3), some_levels(draw, 20), options
    yield Case("labels, and v as the target", args, **more)
    more = {"driver": manners, "group": "manners", "picture": "none"}
    options = {"bins": 3, "seed": 2, "batch": 4}
    args = model(), True, data(16, 1, 3), some_levels(draw, 20), options
    yield Case("a network in training", args, **more)
    args = model(), False, data(14, 1, 3), some_levels(draw, 20), options
    yield Case("a network in evaluation", args, **more)
    args = model(), True, data(260, 1, 2), some_levels(draw, 20), {"bins": 1}
    yield Case("many samples in one bin", args, **more)


@validation_loss.judge
def _(case, got, expected):
    from coursework.judge import compare

    if case.group == "manners" and isinstance(got, dict):
        broken = [name for name, kept in got.items() if not kept]
        return f"it does not hold that {'; nor that '.join(broken)}" if broken else None
    return compare(got, expected, case.tol)


# --- 05.6 ----------------------------------------------------------------------------------

checkpoint = Exercise(
    id="05.6",
    title="Stopped, and gone on to the bit",
    names=("save_checkpoint", "load_checkpoint"),
    points={"weights": 2, "optimizer and average": 2, "global generator": 1, "files": 2},
    difficulty=3,
    minutes=30,
    hints=(
        "What does the next step depend on? Go through the loop line by line and write down "
        "everything that is not the same at every start.",
        "model, optimizer and ema have state_dict() and load_state_dict(...), a generator has "
        "get_state() and set_state(...), the global one torch.get_rng_state() and "
        "torch.set_rng_state(...). Put all of it into one dict for torch.save.",
        "torch.load has an argument that makes it read numbers, text and containers and nothing "
        "that could run.",
        "Write to another name in the same folder; os.replace(new, old) then puts it in place in "
        "one go.",
    ),
    library=("undiffuse.training.save_checkpoint", "undiffuse.training.load_checkpoint"),
)


class Sum:
    """A stand-in for the averaged weights, made like an EMA; in its sum the count weighs."""

    def __init__(self, model):
        self.decay, self.updates = 0.9, 0
        self.shadow = {"total": flat(model.parameters())}

    def update(self, model):
        self.updates += 1
        self.shadow["total"] += self.updates * flat(model.parameters())

    def state_dict(self):
        return {"decay": self.decay, "updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state):
        self.decay, self.updates = state["decay"], state["updates"]
        self.shadow["total"].copy_(state["shadow"]["total"])


class Training:
    """A run whose every step depends on all that a checkpoint has to hold."""

    def __init__(self, seed, adam, dropout, average):
        torch.manual_seed(seed)
        layers = [nn.Linear(3, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 2)]
        self.model = nn.Sequential(*layers).double()
        parameters = self.model.parameters()
        kind = torch.optim.AdamW if adam else torch.optim.SGD
        self.optimizer = kind(parameters, lr=0.1)
        self.average = Sum(self.model) if average else None
        self.generator = torch.Generator().manual_seed(seed)

    def go(self, first, last):
        """Steps ``first`` to ``last - 1``."""
        for step in range(first, last):
            for group in self.optimizer.param_groups:
                group["lr"] = 0.2 / (1 + step)
            x = torch.randn(8, 3, generator=self.generator, dtype=torch.float64)
            loss = (self.model(x) - x[:, :2].roll(1, 0)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.average:
                self.average.update(self.model)
        return self

    def parts(self):
        """What a checkpoint is made of, in the order of the arguments."""
        return self.model, self.optimizer, self.average, self.generator


def stop_and_go_on(answer, seed, options, extra, as_path):
    """10 steps at once, and 5 + 5 with a file between, by a run made from another seed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt" if as_path else os.path.join(folder, "run.pt")
        straight = Training(seed, **options).go(0, 10)
        first = Training(seed, **options).go(0, 5)
        answer.save_checkpoint(path, *first.parts(), 5, **extra)
        first.go(5, 7)
        second = Training(seed + 1, **options).go(0, 2)
        found = answer.load_checkpoint(path, *second.parts())
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], int)):
        return {"returned": found}
    second.go(found[0], 10)
    result = {
        "step": found[0],
        "extra": found[1],
        "weights": flat(second.model.parameters()),
        "weights without the break": flat(straight.model.parameters()),
    }
    if second.average:
        result["average"] = second.average.shadow["total"]
        result["average without the break"] = straight.average.shadow["total"]
    return result


class Harmful:
    """Makes a folder when it is read back: a stand-in for anything that a file could run."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class Unwritable:
    """Stands for a full disk: to write it fails."""

    def __reduce__(self):
        raise OSError(28, "No space left on device")


def read_a_stranger(answer, seed):
    """Whether reading a file ran what somebody had put into it."""
    run = Training(seed, adam=False, dropout=0.0, average=True)
    with tempfile.TemporaryDirectory() as folder:
        path, mark = os.path.join(folder, "run.pt"), os.path.join(folder, "mark")
        try:
            answer.save_checkpoint(path, *run.parts(), 3, more=Harmful(mark))
            answer.load_checkpoint(path, *run.parts())
        except NotImplementedError:
            raise
        except Exception:  # to refuse is right, with whatever error
            pass
        return {"what lay in the file was run": os.path.exists(mark)}


def write_in_vain(answer, seed):
    """What is left of a checkpoint when writing the next one fails."""
    run = Training(seed, adam=False, dropout=0.0, average=True).go(0, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.pt")
        answer.save_checkpoint(path, *run.parts(), 3)
        kept = flat(run.model.parameters())
        run.go(3, 5)
        said = False
        try:
            answer.save_checkpoint(path, *run.parts(), 5, more=Unwritable())
        except OSError:
            said = True
        readable, step = False, None
        with contextlib.suppress(Exception):
            step = answer.load_checkpoint(path, *run.parts())[0]
            readable = True
        same = torch.equal(kept, flat(run.model.parameters()))
    return {
        "the error is passed on": said,
        "the older file can be read": readable,
        "with its step": step == 3,
        "and its weights": same,
    }


@checkpoint.cases
def _(draw: Draw):
    def case(name, group, extra, as_path=False, adam=False, dropout=0.0, average=False):
        options = {"adam": adam, "dropout": dropout, "average": average}
        args = draw.integers(1, 2**31), options, extra, as_path
        return Case(name, args, driver=stop_and_go_on, group=group, picture="none")

    yield case("plain SGD", "weights", {})
    extra = {"losses": [draw.uniform(0.1, 1.0), 0.25], "order": draw.distinct(0, 9, 4)}
    yield case("plain SGD, and something extra", "weights", extra, as_path=True)
    group = "optimizer and average"
    yield case("AdamW", group, {"note": "half way"}, adam=True)
    yield case("AdamW and an average", group, {}, adam=True, average=True)
    yield case("dropout", "global generator", {}, dropout=0.4, as_path=True)
    seed = draw.integers(0, 2**31)
    more = {"group": "files", "picture": "none"}
    yield Case("a stranger's file", (seed,), driver=read_a_stranger, **more)
    yield Case("a write that fails", (seed,), driver=write_in_vain, **more)


@checkpoint.judge
def _(case, got, expected):
    from coursework.judge import compare

    if not isinstance(got, dict):
        return compare(got, expected)
    if "returned" in got:
        return "load_checkpoint returns (step, extra): an int, and the dict of what was extra"
    if case.driver != "stop_and_go_on":
        return compare(got, expected)
    for key in ("step", "extra"):
        if found := compare(got[key], expected[key], path=key):
            return found
    for key in ("weights", "average"):
        if key in got and not torch.equal(got[key], got[f"{key} without the break"]):
            gap = float((got[key] - got[f"{key} without the break"]).abs().max())
            what = {"weights": "other weights", "average": "another average"}[key]
            return (
                f"5 steps, a break and 5 steps end with {what} than 10 steps: the largest "
                f"difference is {gap:.2g}, and 0 is wanted"
            )
    return None


# --- 05.7 ----------------------------------------------------------------------------------

clip_and_report = Exercise(
    id="05.7",
    title="No step too long",
    names=("clip_and_report",),
    points={"clipped": 2, "left alone": 1, "report": 1},
    difficulty=1,
    minutes=12,
    core=False,
    hints=(
        "All gradients together are one long vector. Its norm is the root of the sum of all "
        "squares, over all parameters.",
        "A model's parameters() can be walked through only once. Make a list first, of those that "
        "have a gradient.",
        "One factor for all of them, and only where the norm is above max_norm. Note the norm "
        "before you scale.",
    ),
    library=("undiffuse.training.clip_and_report",),
)


def clip(answer, gradients, max_norm, once):
    """Gradients after the call and what it returned; parameter 1 has no gradient."""
    parameters = []
    for i, g in enumerate(gradients):
        if i == 1:
            parameters.append(nn.Parameter(torch.ones(3, dtype=g.dtype)))
        p = nn.Parameter(torch.full_like(g, 0.5 + i))
        p.grad = g.clone()
        parameters.append(p)
    value = answer.clip_and_report(iter(parameters) if once else parameters, max_norm)
    return {
        "returned": value,
        "gradients": [p.grad for p in parameters],
        "weights": flat(parameters),
    }


def report(answer, gradients, max_norm):
    """What is returned."""
    return clip(answer, gradients, max_norm, False)["returned"]


@clip_and_report.cases
def _(draw: Draw):
    def gradients(size=1.0, dtype="float64"):
        shapes = (2, 3), (4,), (1, 2, 2)
        return [draw.normal(*s, dtype=dtype, std=size * (1 + i)) for i, s in enumerate(shapes)]

    # torch's own function divides by the norm plus 1e-6: both are right.
    more = {"driver": clip, "tol": Tol(1e-5, 1e-5), "picture": "none"}
    yield Case("too long", (gradients(), 1.5, False), group="clipped", **more)
    yield Case("far too long", (gradients(30.0), 0.7, True), group="clipped", **more)
    args = gradients(20.0, "float32"), 2.0, False
    yield Case("too long, float32", args, group="clipped", **more)
    more["tol"] = Tol(1e-6, 0)
    yield Case("short enough", (gradients(0.01), 1.5, False), group="left alone", **more)
    yield Case("no limit", (gradients(5.0), math.inf, True), group="left alone", **more)
    yield Case("all zero", ([0 * g for g in gradients()], 1.0, False), group="left alone", **more)
    more = {"driver": report, "group": "report", "tol": Tol(1e-6, 0), "picture": "none"}
    yield Case("the norm before", (gradients(8.0), 0.4), **more)


# --- 05.8 ----------------------------------------------------------------------------------

augment = Exercise(
    id="05.8",
    title="More images than there are",
    names=("augment",),
    points={"shifts": 2, "flips": 1, "generator": 1},
    difficulty=2,
    minutes=25,
    core=False,
    hints=(
        "Draw two whole numbers for each image, down and right: one torch.randint of shape (B, 2) "
        "has them all. Mind that the upper bound is left out.",
        "Put a margin of shift pixels with the value fill around all images (F.pad). A shifted "
        "image is then a window of the old size that starts elsewhere.",
        "Which window shows the image one pixel further down: one that starts higher, or lower? "
        "A loop over the batch is fine.",
        "To mirror some images only: torch.where with a condition of shape (B, 1, 1, 1).",
    ),
    library=("undiffuse.training.augment",),
)


def shift_and_flip(answer, x, seeds, repeats, options):
    """Many calls on one generator; a few again from its seed, and from another."""

    def many(seed, n):
        g = torch.Generator().manual_seed(seed)
        return [answer.augment(x, g, **options) for _ in range(n)]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    out = many(seeds[0], repeats)
    disturbed = not torch.equal(before, torch.get_rng_state())
    if not all(isinstance(o, torch.Tensor) and o.shape == x.shape for o in out):
        return out[0]
    torch.manual_seed(2)
    return {
        "out": torch.stack(out),
        "again": torch.stack(many(seeds[0], 5)),
        "other": torch.stack(many(seeds[1], 5)),
        "global generator moved": disturbed,
    }


@augment.cases
def _(draw: Draw):
    def case(name, group, *shape, repeats=160, dtype="float32", **options):
        seeds = [draw.integers(0, 2**31), draw.integers(0, 2**31)]
        x = draw.normal(*shape, dtype=dtype)
        args = x, seeds, repeats, options
        return Case(name, args, driver=shift_and_flip, group=group, picture="none")

    yield case("as it comes", "shifts", 6, 1, 7, 6, repeats=200)
    yield case("one pixel, in colour", "shifts", 4, 3, 5, 7, shift=1, dtype="float64")
    yield case("as many images as pixels a side", "shifts", 5, 1, 5, 5, shift=1, fill=0.5)
    yield case("a batch of one", "shifts", 1, 2, 6, 4, shift=1, repeats=900)
    yield case("flips alone", "flips", 5, 1, 4, 6, shift=0, flip=True)
    yield case("shifts and flips", "flips", 6, 1, 6, 5, shift=1, flip=True, repeats=200)
    yield case("reproducible", "generator", 6, 1, 6, 6, repeats=6, shift=2, flip=True)


def moves(x, out, shift, fill, wrap=False):
    """(R, B) numbers of the move that makes each of ``out`` (R, B, C, H, W) of x, -1 for none.

    Number ((down + shift) * (2 shift + 1) + right + shift) * 2 + mirrored.
    """
    h, w = x.shape[-2:]
    found = torch.full(out.shape[:2], -1)
    rows, columns = torch.arange(h)[:, None], torch.arange(w)[None, :]
    number = 0
    for down in range(-shift, shift + 1):
        for right in range(-shift, shift + 1):
            for source in (x, x.flip(3)):
                r, c = rows - down, columns - right
                inside = (r >= 0) & (r < h) & (c >= 0) & (c < w)
                moved = source[:, :, r % h, c % w]
                if not wrap:
                    moved = torch.where(inside, moved, torch.full_like(moved, fill))
                found[(out == moved).flatten(2).all(2)] = number
                number += 1
    return found


def unlike(count, wanted, what):
    """A sentence if ``count`` is further from ``wanted`` than chance allows, else None."""
    if abs(count - wanted) <= WIDE * math.sqrt(max(wanted, 1.0)):
        return None
    return f"{what}: {count} times, where about {wanted:.0f} is wanted"


@augment.judge
def _(case, got, expected):
    x, _, repeats, options = case.args
    shift, flip = options.get("shift", 2), options.get("flip", False)
    fill = options.get("fill", -1.0)
    if not isinstance(got, dict):
        shown = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
        return f"images of shape {tuple(x.shape)} are wanted, got {shown}"
    if got["out"].dtype != x.dtype:
        return f"the images are {got['out'].dtype}; {x.dtype} went in"
    if case.group == "generator":
        if not torch.equal(got["out"][:5], got["again"]):
            return "the same seed gives other images: every draw must take generator=generator"
        if got["global generator moved"]:
            return "torch's global generator was used: every draw must take generator=generator"
        if torch.equal(got["again"], got["other"]):
            return "generators with different seeds give the same images"
        return None
    found = moves(x, got["out"], shift, fill)
    if bool((found < 0).any()):
        if bool((moves(x, got["out"], shift, fill, wrap=True) >= 0).all()):
            return "what leaves at one edge comes in at the other; fill is wanted there"
        share = float((found < 0).double().mean())
        return (
            f"{share:.0%} of the images are no shifts by up to {shift} pixels of what went in, "
            f"with {fill} where nothing was"
        )
    side, n = 2 * shift + 1, found.numel()
    mirrored, down, right = found % 2, found // 2 // side, found // 2 % side
    if not flip and bool(mirrored.any()):
        return "images are mirrored, though flip is False"
    for name, axis in (("down", down), ("right", right)):
        counts = torch.bincount(axis.reshape(-1), minlength=side)
        for k in range(side):
            text = f"a shift of {k - shift} {name} in {n} images"
            if found_off := unlike(int(counts[k]), n / side, text):
                return found_off
    if shift and (found_off := unlike(int((down == right).sum()), n / side, "the same shift down "
                                      "and right")):  # fmt: skip
        return found_off
    batch = len(x)
    pairs = repeats * batch * (batch - 1) / 2

    def equal_pairs(values):
        return (int((values[:, :, None] == values[:, None, :]).sum()) - n) // 2

    if batch > 1 and shift:
        text = "two images of a batch with the same shift"
        if found_off := unlike(equal_pairs(found // 2), pairs / side**2, text):
            return found_off
    if flip:
        if found_off := unlike(int(mirrored.sum()), n / 2, f"mirrored in {n} images"):
            return found_off
        text = "two images of a batch alike in being mirrored or not"
        if batch > 1 and (found_off := unlike(equal_pairs(mirrored), pairs / 2, text)):
            return found_off
    return None
