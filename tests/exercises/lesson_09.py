"""Checks of lesson 09, few data: exercises, cases, drivers and judges; the answers are elsewhere.

What may be drawn in any order is judged by its distribution: each bound is seven standard errors
wide, which chance passes less than once in a million checks. What has its draws stated is compared
number by number.
"""

import math

import torch
from torch import nn

from coursework.exercise import Case, Draw, Exercise, Given, Lesson, Tol

LESSON = Lesson(
    "09",
    provides=(
        "undiffuse.data",
        "undiffuse.plots",
        "undiffuse.schedules",
        "undiffuse.process",
        "undiffuse.prediction",
        "undiffuse.losses",
        "undiffuse.training",
        "undiffuse.metrics",
        "undiffuse.results",
    ),
)
WIDE = 7.0  # standard errors

# The first optimizer of a process makes torch import its compiler, which takes seconds. It must not
# fall under a check's time limit: an import that is broken off leaves torch unusable.
torch.optim.SGD([nn.Parameter(torch.zeros(1))])


# --- 09.1 ----------------------------------------------------------------------------------

stratified_subset = Exercise(
    id="09.1",
    title="A few that stand for all",
    names=("stratified_subset",),
    points={"shares": 2, "random": 1, "generator": 1},
    difficulty=2,
    minutes=20,
    hints=(
        "labels.unique(return_counts=True) gives the classes in ascending order and how many of "
        "each there are. n times a count over the number of labels is a class's fair share.",
        "Shares are seldom whole numbers. Cut all of them off, and count how many places are "
        "left. Which classes lost most by cutting?",
        "argsort has descending and stable: with stable=True, equals stay in the order in which "
        "they were.",
        "torch.randperm(count, generator=generator) mixes the members of a class; the first so "
        "many of them are chosen. Nobody comes twice.",
    ),
    library=("undiffuse.subsets.stratified_subset",),
)


def choose(answer, labels, n, seeds, repeats):
    """Many subsets from one generator; a few again from its seed, and from another."""

    def many(seed, times):
        g = torch.Generator().manual_seed(seed)
        return [answer.stratified_subset(labels, n, g) for _ in range(times)]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    kept = labels.clone()
    drawn = many(seeds[0], repeats)
    disturbed = not torch.equal(before, torch.get_rng_state())
    if not all(isinstance(i, torch.Tensor) and i.ndim == 1 for i in drawn):
        return drawn[0]
    if len({len(i) for i in drawn}) > 1:
        return drawn[0]
    torch.manual_seed(2)
    return {
        "index": torch.stack(drawn),
        "again": torch.stack(many(seeds[0], 4)),
        "other": torch.stack(many(seeds[1], 4)),
        "global generator moved": disturbed,
        "labels kept": torch.equal(labels, kept),
    }


@stratified_subset.cases
def _(draw: Draw):
    def case(name, group, counts, n, repeats=16, first=0, step=1):
        labels = torch.cat([torch.full((c,), first + step * i) for i, c in enumerate(counts)])
        labels = labels[draw.distinct(0, len(labels), len(labels))]
        seeds = [draw.integers(0, 2**31), draw.integers(0, 2**31)]
        args = labels, n, seeds, repeats
        return Case(name, args, driver=choose, group=group, picture="none")

    yield case("shares that come out even", "shares", (50, 30, 20), 10)
    yield case("a place is left over", "shares", (25, 4, 11), 13)
    yield case("equal fractions", "shares", (10, 6, 4), 5)
    yield case("two places left, one rare class", "shares", (41, 2, 33, 15), 20)
    yield case("labels that do not begin at 0", "shares", (12, 7, 30), 9, first=3, step=4)
    yield case("all of them", "shares", (4, 9, 3), 16)
    yield case("one class", "random", (12,), 4, repeats=400)
    yield case("two classes", "random", (9, 6), 5, repeats=400)
    yield case("reproducible", "generator", (20, 30), 11, repeats=6)


@stratified_subset.judge
def _(case, got, expected):
    labels, n, _, repeats = case.args
    if not isinstance(got, dict):
        shown = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
        return f"an int64 tensor of shape ({n},) is wanted, got {shown}"
    index = got["index"]
    if index.dtype != torch.int64:
        return f"indices must be int64; yours are {index.dtype}"
    if not got["labels kept"]:
        return "labels was changed"
    if case.group == "generator":
        if not torch.equal(index[:4], got["again"]):
            return "the same seed gives another subset: every draw must take generator=generator"
        if got["global generator moved"]:
            return "torch's global generator was used: every draw must take generator=generator"
        if torch.equal(got["again"], got["other"]):
            return "generators with different seeds give the same subset"
        return None
    if index.shape[1] != n:
        return f"{index.shape[1]} samples are chosen, and {n} are wanted"
    if int(index.min()) < 0 or int(index.max()) >= len(labels):
        return f"indices lie between {int(index.min())} and {int(index.max())}"
    if bool((index.sort(1).values.diff(dim=1) == 0).any()):
        return "a sample is chosen twice"
    if case.group == "shares":
        classes = labels.unique()
        wanted = [int((labels[expected["index"][0]] == c).sum()) for c in classes]
        for row in index:
            counts = [int((labels[row] == c).sum()) for c in classes]
            if counts != wanted:
                return f"classes {classes.tolist()} get {counts} places; {wanted} are wanted"
        return None
    counts = torch.bincount(index.reshape(-1), minlength=len(labels)).double()
    for c in labels.unique():
        members = (labels == c).nonzero()[:, 0]
        chosen = int((labels[expected["index"][0]] == c).sum())
        mean = repeats * chosen / len(members)
        spread = math.sqrt(mean * (1 - chosen / len(members)))
        off = (counts[members] - mean).abs()
        if float(off.max()) > WIDE * spread:
            worst = int(off.argmax())
            return (
                f"member {worst} of class {int(c)} is chosen {int(counts[members][worst])} times "
                f"in {repeats} subsets, and every member about {mean:.0f} times is wanted"
            )
    return None


# --- 09.2 ----------------------------------------------------------------------------------

random_affine = Exercise(
    id="09.2",
    title="Turned, resized, moved, slanted: in one go",
    names=("random_affine",),
    points={"one at a time": 2, "together": 2, "amounts": 1},
    difficulty=4,
    minutes=45,
    hints=(
        "Draw u first, all of it, as the text says. Each column times its limit is an angle, a "
        "power, a number of pixels. Angles must be in radians.",
        "Build R K s for each image as a (B, 2, 2) matrix: torch.stack of the four entries, then "
        "reshape. torch.linalg.inv inverts all of them at once. Why is the inverse needed?",
        "F.affine_grid measures in units in which the image is 2 wide and 2 high, whatever its "
        "shape. A pixel is 2 / W of these to the right and 2 / H down. Put the change of units on "
        "both sides of your matrix.",
        "The third column of the (B, 2, 3) matrix says where the middle comes from: take d away "
        "first, then go back through the matrix.",
        "grid_sample fills with 0. Which number must be taken away before, and added after, so "
        "that it fills with fill?",
    ),
    library=("undiffuse.affine.random_affine", "undiffuse.affine.affine_images"),
)


def alter(answer, x, seed, limits):
    """(images, amounts); whether x and the global generator are as they were."""
    torch.manual_seed(1)
    before, kept = torch.get_rng_state(), x.clone()
    found = answer.random_affine(x, torch.Generator().manual_seed(seed), **limits)
    if not (isinstance(found, tuple) and len(found) == 2):
        return {"returned": found}
    return {
        "images": found[0],
        "amounts": found[1],
        "x is as it was": torch.equal(x, kept),
        "the global generator is as it was": torch.equal(before, torch.get_rng_state()),
    }


def told_only(answer, x, seed, limits):
    """The amounts alone."""
    found = alter(answer, x, seed, limits)
    return found if "returned" in found else found["amounts"]


@random_affine.cases
def _(draw: Draw):
    none = {"rotate": 0.0, "scale": 0.0, "shift": 0.0, "shear": 0.0}
    more = {"driver": alter, "tol": Tol(1e-4, 1e-4), "picture": "none"}

    def images(*shape, dtype="float64"):
        return draw.normal(*shape, dtype=dtype)

    def seed():
        return draw.integers(0, 2**31)

    def one(name, x, **limits):
        return Case(name, (x, seed(), none | limits), group="one at a time", **more)

    yield one("moved", images(4, 1, 9, 7), shift=2.4)
    yield one("turned", images(3, 1, 8, 13), rotate=70.0)
    yield one("resized", images(4, 2, 11, 7), scale=0.6)
    yield one("slanted", images(3, 1, 7, 10), shear=35.0)
    limits = {"rotate": 40.0, "scale": 0.4, "shift": 1.7, "shear": 25.0}
    together = {"group": "together", **more}
    yield Case("all of it", (images(5, 1, 12, 8), seed(), limits), **together)
    yield Case("in colour, another fill", (images(3, 3, 7, 9), seed(), limits | {"fill": 0.7}),
               **together)  # fmt: skip
    yield Case("a batch of one, float32", (images(1, 1, 10, 7, dtype="float32"), seed(), limits),
               **together)  # fmt: skip
    yield Case("as it comes", (images(4, 1, 14, 14), seed(), {}), **together)
    amounts = {"driver": told_only, "group": "amounts", "picture": "none"}
    yield Case("amounts", (images(6, 1, 5, 6), seed(), limits), **amounts)
    args = images(5, 1, 6, 5), seed(), none | {"scale": 0.3, "shift": 1.0}
    yield Case("amounts where some limits are zero", args, **amounts)


# --- 09.3 ----------------------------------------------------------------------------------

augment_conditioned = Exercise(
    id="09.3",
    title="Say what was altered",
    names=("augment_conditioned",),
    points={"altered and told": 2, "at sampling": 2},
    difficulty=2,
    minutes=15,
    uses=("09.2",),
    hints=(
        "Three lines while training: random_affine for all images, a draw that says which ones "
        "stay altered, and a choice between both for images and for amounts.",
        "torch.where takes a condition that broadcasts: (B, 1, 1, 1) beside images, (B, 1) beside "
        "amounts.",
        "What does a network have to be told, so that it draws what the data look like? And does "
        "anything have to be drawn for that?",
    ),
    library=("undiffuse.affine.augment_conditioned",),
)


def alter_some(answer, x, seed, options):
    """(images, amounts), and the generator afterwards."""
    torch.manual_seed(1)
    g, kept = torch.Generator().manual_seed(seed), x.clone()
    found = answer.augment_conditioned(x, g, **options)
    if not (isinstance(found, tuple) and len(found) == 2):
        return {"returned": found}
    return {
        "images": found[0],
        "amounts": found[1],
        "x is as it was": torch.equal(x, kept),
        "next draw": torch.rand(2, generator=g),
    }


@augment_conditioned.cases
def _(draw: Draw):
    more = {"driver": alter_some, "tol": Tol(1e-4, 1e-4), "picture": "none"}

    def case(name, group, *shape, **options):
        args = draw.normal(*shape, dtype="float64"), draw.integers(0, 2**31), options
        return Case(name, args, group=group, **more)

    group = "altered and told"
    yield case("some of them", group, 16, 1, 6, 5, share=0.7, rotate=40.0, shift=1.6)
    yield case("few of them, in colour", group, 20, 3, 5, 7, share=0.2, scale=0.5, shear=20.0)
    yield case("all of them", group, 4, 1, 6, 6, share=1.0, rotate=30.0)
    yield case("none of them", group, 4, 1, 6, 6, share=0.0, rotate=30.0)
    yield case("as it comes", group, 12, 1, 7, 6)
    group = "at sampling"
    yield case("at sampling", group, 5, 1, 6, 7, share=0.9, training=False, rotate=50.0)
    yield case("at sampling, as it comes", group, 3, 1, 6, 5, training=False)


# --- 09.4 ----------------------------------------------------------------------------------

freeze = Exercise(
    id="09.4",
    title="What does not learn",
    names=("freeze",),
    points={"which": 2, "optimizer": 1, "norm layers": 2},
    difficulty=3,
    minutes=25,
    core=False,
    hints=(
        "model.named_parameters() gives names such as 0.weight. fnmatch.fnmatchcase(name, "
        "pattern) says whether one matches. p.numel() is how many numbers a parameter has.",
        "An optimizer that was built before still has the parameter in its list. It moves every "
        "one that has a gradient, and an old gradient is one.",
        "A BatchNorm layer in training mode keeps averages of what it sees. Those are buffers and "
        "no parameters: requires_grad does nothing for them. In which mode are they left alone?",
        "model.train() puts all layers back into training mode. register_forward_pre_hook calls a "
        "function right before a layer's forward; it gets the layer.",
    ),
    library=("undiffuse.finetune.freeze",),
)


class Gain(nn.Module):
    """A layer with a number to learn that does something else in training, and keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.weight * x * (1.5 if self.training else 1.0)


def norm_of(model):
    """The BatchNorm of a toy."""
    return next(m for m in model.modules() if isinstance(m, nn.BatchNorm1d))


@torch.no_grad()
def layers(seed, tied=False, inside=False, gain=False, affine=True):
    """Two linear layers with a BatchNorm between them, and random numbers in all of it.

    inside: the BatchNorm is in a block of its own. affine: it has numbers to learn.
    """
    norm = nn.BatchNorm1d(4, affine=affine)
    middle = nn.Sequential(norm) if inside else norm
    end = Gain() if gain else nn.Linear(3, 4)
    model = nn.Sequential(nn.Linear(3, 4), middle, nn.Tanh(), nn.Linear(4, 3), end).double()
    g = torch.Generator().manual_seed(seed)
    for value in [*model.parameters(), norm.running_mean]:
        value.copy_(torch.randn(value.shape, generator=g, dtype=torch.float64))
    if tied:
        model[4].weight = model[0].weight
    return model


def which(answer, model, patterns):
    """What is returned, and who still learns."""
    returned = answer.freeze(model, patterns)
    return {"returned": returned,
            "learns": {name: p.requires_grad for name, p in model.named_parameters()}}  # fmt: skip


def in_two_calls(answer, model, first, second, x):
    """What the second call returns, and the BatchNorm's statistics after training mode is set."""
    answer.freeze(model, first)
    returned = answer.freeze(model, second)
    model.train()
    out = model(x)
    return {"returned": returned, "out": out.detach(), "mean": norm_of(model).running_mean.clone()}


def refused(answer, model, patterns):
    """Whether a pattern that matches nothing is an error, and which."""
    try:
        answer.freeze(model, patterns)
    except NotImplementedError:
        raise
    except Exception as error:
        return type(error).__name__
    return "no error"


def go_on(answer, model, patterns, x, kind):
    """Weights after a step that follows the freezing, by an optimizer from before."""
    optimizer = (torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=0.1)
                 if kind == "SGD" else torch.optim.AdamW(model.parameters(), lr=0.1))  # fmt: skip
    model.train()
    model(x).square().mean().backward()
    optimizer.step()
    answer.freeze(model, patterns)
    model(x).square().mean().backward()
    optimizer.step()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def statistics(answer, model, patterns, x):
    """What the BatchNorm layer keeps and gives, right away and once training mode is set again."""
    answer.freeze(model, patterns)
    found = []
    for again in (False, True):
        if again:
            model.train()
        out = model(x)
        found.append({"out": out.detach(), "mean": norm_of(model).running_mean.clone(),
                      "variance": norm_of(model).running_var.clone()})  # fmt: skip
    return found


@freeze.cases
def _(draw: Draw):
    def model(**more):
        return Given(layers, draw.integers(0, 2**31), **more)

    def x():
        return draw.normal(6, 3, dtype="float64", mean=1.5)

    more = {"group": "which", "picture": "none"}
    yield Case("one layer", (model(), ["0.*"]), driver=which, **more)
    yield Case("one kind", (model(), ["*.bias"]), driver=which, **more)
    yield Case("a pattern that is no list", (model(), "3.*"), driver=which, **more)
    yield Case("several, which overlap", (model(), ["0.*", "*.weight"]), driver=which, **more)
    yield Case("a name inside a name", (model(), ["weight", "3.bias"]), driver=refused, **more)
    yield Case("shared weights", (model(tied=True), ["0.weight", "3.*"]), driver=which, **more)
    yield Case("shared weights, by the other name", (model(tied=True), ["4.*"]), driver=which,
               **more)  # fmt: skip
    yield Case("nothing matches", (model(), ["0.*", "down.*"]), driver=refused, **more)
    more = {"driver": go_on, "group": "optimizer", "picture": "none"}
    yield Case("SGD from before", (model(), ["0.*"], x(), "SGD"), **more)
    yield Case("AdamW from before", (model(), ["3.*", "4.bias"], x(), "AdamW"), **more)
    more = {"driver": statistics, "group": "norm layers", "picture": "none"}
    yield Case("a frozen BatchNorm", (model(), ["0.*", "1.*"], x()), **more)
    yield Case("a BatchNorm that learns", (model(), ["0.*"], x()), **more)
    yield Case("a BatchNorm that learns in part", (model(), ["1.weight"], x()), **more)
    yield Case("a BatchNorm within a block", (model(inside=True), ["1.*"], x()), **more)
    yield Case("a BatchNorm with nothing to learn", (model(affine=False), ["0.*"], x()), **more)
    yield Case("a BatchNorm, in two calls", (model(), ["0.*", "1.weight"], "1.bias", x()),
               **more | {"driver": in_two_calls})  # fmt: skip
    yield Case("another layer that is frozen", (model(gain=True), ["4.*"], x()), **more)


# --- 09.5 ----------------------------------------------------------------------------------

lora = Exercise(
    id="09.5",
    title="Small additions to large layers",
    names=("LoRAConv",),
    points={"forward": 2, "start": 1, "merge": 2},
    difficulty=3,
    minutes=30,
    hints=(
        "forward is one line: what base gives, plus scale times what up makes of what down makes "
        "of x. After merging it is another one.",
        "Why does exactly one of the two small layers start at zero? Think of what comes out at "
        "the first step, and of the gradient of each factor.",
        "The change of base's weight is a matrix of (out, rest): up's weight, flattened to (out, "
        "rank), times down's, flattened to (rank, rest). Then it gets base's shape.",
        "self.merged remembers that it was done. Both forward and merge have to look at it.",
    ),
    library=("undiffuse.finetune.LoRAConv", "undiffuse.finetune.add_lora"),
)


@torch.no_grad()
def layer(seed, kind, *args, **more):
    """A linear layer or a convolution with random weights, float64."""
    made = getattr(nn, kind)(*args, **more).double()
    g = torch.Generator().manual_seed(seed)
    for p in made.parameters():
        p.copy_(0.5 * torch.randn(p.shape, generator=g, dtype=torch.float64))
    return made


@torch.no_grad()
def fill(module, seed):
    """Random numbers for both small layers."""
    g = torch.Generator().manual_seed(seed)
    for part in (module.down, module.up):
        part.weight.copy_(torch.randn(part.weight.shape, generator=g, dtype=torch.float64))


def through(answer, base, x, rank, alpha, seed):
    """The output with random factors."""
    module = answer.LoRAConv(base) if rank is None else answer.LoRAConv(base, rank, alpha)
    fill(module, seed)
    return module(x)


def beginning(answer, base, x, rank, alpha):
    """What is so at the start, and who learns in one step."""
    plain = base(x).detach()
    torch.manual_seed(3)
    module = answer.LoRAConv(base, rank, alpha)
    same = torch.equal(module(x).detach(), plain)
    module(x).square().sum().backward()
    return {
        "starts as base": same,
        "base learns": any(p.grad is not None for p in module.base.parameters()),
        "a factor gets a gradient": any(
            p.weight.grad is not None and bool(p.weight.grad.any())
            for p in (module.down, module.up)
        ),
    }


def merging(answer, base, x, rank, alpha, seed, times):
    """Output before and after merging, and base's weight."""
    module, held = answer.LoRAConv(base, rank, alpha), base.weight
    fill(module, seed)
    before = module(x).detach()
    for _ in range(times):
        module.merge()
    return {
        "before": before,
        "after": module(x).detach(),
        "base alone": module.base(x).detach(),
        "weight": module.base.weight.detach(),
        "weight, as who held it sees it": held.detach(),
    }


@lora.cases
def _(draw: Draw):
    def linear():
        return Given(layer, draw.integers(0, 2**31), "Linear", 5, 7), draw.normal(
            4, 5, dtype="float64"
        )

    def conv1d():
        base = Given(layer, draw.integers(0, 2**31), "Conv1d", 3, 4, 5, stride=3, padding=2)
        return base, draw.normal(2, 3, 11, dtype="float64")

    def conv2d():
        base = Given(layer, draw.integers(0, 2**31), "Conv2d", 3, 5, (3, 2), 2, padding=1)
        return base, draw.normal(2, 3, 6, 7, dtype="float64")

    def seed():
        return draw.integers(0, 2**31)

    more = {"driver": through, "group": "forward", "picture": "none"}
    yield Case("linear", (*linear(), 2, 6.0, seed()), **more)
    yield Case("sound", (*conv1d(), 2, 3.0, seed()), **more)
    yield Case("images", (*conv2d(), 3, 1.5, seed()), **more)
    yield Case("as it comes", (*linear(), None, None, seed()), **more)
    more = {"driver": beginning, "group": "start", "picture": "none"}
    yield Case("at the start, linear", (*linear(), 2, 4.0), **more)
    yield Case("at the start, images", (*conv2d(), 2, 4.0), **more)
    more = {"driver": merging, "group": "merge", "picture": "none"}
    yield Case("merged, linear", (*linear(), 3, 7.0, seed(), 1), **more)
    yield Case("merged, sound", (*conv1d(), 2, 5.0, seed(), 1), **more)
    yield Case("merged, images", (*conv2d(), 2, 3.0, seed(), 1), **more)
    yield Case("merged three times", (*conv2d(), 3, 2.0, seed(), 3), **more)


@lora.judge
def _(case, got, expected):
    from coursework.judge import compare

    if case.driver == "beginning" and isinstance(got, dict):
        for name, wanted in expected.items():
            if got.get(name) != wanted:
                return f"it does not hold that: {name}" if wanted else f"it should not be: {name}"
        return None
    return compare(got, expected, case.tol)


# --- 09.6 ----------------------------------------------------------------------------------

generalisation_gap = Exercise(
    id="09.6",
    title="When to stop",
    names=("generalisation_gap",),
    points={"gaps": 1, "patience": 2, "copies": 2},
    difficulty=2,
    minutes=20,
    hints=(
        "Go through the looks once, and keep three things: the lowest validation loss so far, at "
        "which look it was, and for how many looks there has been none lower.",
        "What has to be asked first of a look: whether its samples are copies, or whether its "
        "loss is the lowest?",
        "Lower means lower, and not as low. A new lowest loss sets the count of disappointments "
        "back to 0.",
    ),
    library=("undiffuse.stopping.generalisation_gap",),
)


def decide(answer, rows, options):
    """(gaps, keep, stop) as plain data."""
    found = answer.generalisation_gap(*rows, **options)
    return list(found) if isinstance(found, tuple) else found


@generalisation_gap.cases
def _(draw: Draw):
    def case(name, group, val, near, **options):
        """val: ranks of the validation losses; near: 1 where samples are new, 0 for copies, else
        the ratio itself."""
        levels = sorted(draw.uniform(0.2, 0.8, max(val) + 1, dtype="float64").tolist())
        bounds = {1: (0.93, 1.2), 0: (0.2, 0.8)}
        ratios = [draw.uniform(*bounds[v]) if v in bounds else v for v in near]
        # Training losses fall to the end, but for some noise: their lowest is not the first.
        train = [0.19 - 0.01 * i + draw.uniform(0.0, 0.004) for i in range(len(val))]
        args = (train, [levels[v] for v in val], ratios), options
        return Case(name, args, driver=decide, group=group, picture="none")

    yield case("still falling", "gaps", (3, 2, 1, 0), (1, 1, 1, 1))
    yield case("one look", "gaps", (0,), (1,))
    yield case("up for good", "patience", (3, 1, 0, 2, 4, 5, 6), (1,) * 7)
    yield case("up, and down again", "patience", (5, 2, 3, 4, 1, 0, 3), (1,) * 7)
    yield case("in a row, and not in all", "patience", (6, 3, 5, 2, 4, 5, 1, 4, 0), (1,) * 9)
    yield case("equal is no better", "patience", (2, 1, 1, 1, 1, 0), (1,) * 6)
    yield case("less and less bad", "patience", (5, 1, 4, 3, 2, 0), (1,) * 6)
    yield case("little patience", "patience", (4, 1, 2, 0, 3), (1,) * 5, patience=1)
    yield case("much patience", "patience", (4, 1, 2, 3, 2, 0), (1,) * 6, patience=5)
    yield case("copies, while the loss still falls", "copies", (4, 3, 2, 1, 0), (1, 1, 1, 0, 0))
    yield case("copies for one look", "copies", (4, 2, 3, 1, 0), (1, 1, 0, 1, 1))
    yield case("copies from the start", "copies", (2, 1, 0), (0, 1, 1))
    yield case("copies, by a looser limit", "copies", (3, 2, 1, 0), (1, 0, 1, 0), copies=0.1)
    yield case("just at the limit", "copies", (3, 2, 1, 0), (1, 0.75, 1, 1), copies=0.75)
    yield case("copies, by a stricter limit", "copies", (3, 2, 1, 0), (1, 1, 1, 1), copies=1.3)
