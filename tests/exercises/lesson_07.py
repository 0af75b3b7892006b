"""Checks of lesson 07, steering: cases, drivers, judges and toys; the answers are elsewhere.

Scales are never 1 or one half where a value is compared, samples of a batch differ in size and in
label, and the label for "none" is not always the one after the last class.
"""

import math

import torch
from torch import nn

from coursework.exercise import Case, Draw, Exercise, Given, Lesson

LESSON = Lesson("07", provides=("undiffuse.data", "undiffuse.plots", "undiffuse.schedules"))


# 07.1 ---------------------------------------------------------------------------------------------

# A test of a right answer sounds a false alarm with a probability of at most this; an exercise
# makes fewer than 20 of them.
FALSE_ALARM = 1e-8

drop_labels = Exercise(
    id="07.1",
    title="Forget the label now and then",
    names=("drop_labels",),
    points={"how many": 1, "each for itself": 1, "generator": 1},
    difficulty=1,
    minutes=10,
    hints=(
        "You need one random decision for each label. torch.rand(n, generator=...) gives n "
        "numbers, even between 0 and 1: which share of them lies below p?",
        "A comparison gives a mask of True and False, and torch.where takes from one of two "
        "sources by a mask. The result is a new tensor; y stays as it was.",
        "Dropped labels become `null`, all of them, whatever number that is.",
    ),
    reference_needed=False,
    library=("undiffuse.guidance.drop_labels",),
)


def drop_once(answer, y, p, null, generator):
    """One call."""
    return answer.drop_labels(y, p, null, generator)


def drop_many_times(answer, y, p, null, generator):
    """A call for each label of ``y``, each a batch of one."""
    return torch.cat([answer.drop_labels(one, p, null, generator) for one in y.split(1)])


def drop_with_seeds(answer, y, p, null, seed, other):
    """Twice with one seed, once more with the generator used before, once with another seed."""
    generator = torch.Generator().manual_seed(seed)
    first = answer.drop_labels(y.clone(), p, null, generator)
    later = answer.drop_labels(y.clone(), p, null, generator)
    again = answer.drop_labels(y.clone(), p, null, torch.Generator().manual_seed(seed))
    another = answer.drop_labels(y.clone(), p, null, torch.Generator().manual_seed(other))
    return {"first": first, "later": later, "again": again, "another": another}


@drop_labels.cases
def _(draw: Draw):
    def labels(n: int) -> torch.Tensor:
        return draw.integers(0, 5, n)

    group = "how many"
    for name, p, null in (
        ("few dropped", draw.uniform(0.08, 0.15), 5),
        ("most dropped", draw.uniform(0.7, 0.8), 10),
    ):
        args = (labels(4000), p, null, draw.seed())
        yield Case(name, args, group=group, driver=drop_once, picture="none")
    yield Case("p = 0 drops none", (labels(6), 0.0, 5, draw.seed()), group=group, driver=drop_once)
    yield Case("p = 1 drops all", (labels(6), 1.0, 5, draw.seed()), group=group, driver=drop_once)
    args = (labels(600), draw.uniform(0.2, 0.4), 7, draw.seed())
    yield Case(
        "600 batches of one", args, group="each for itself", driver=drop_many_times, picture="none"
    )
    seeds = draw.seed().value, draw.seed().value
    args = (labels(300), draw.uniform(0.25, 0.4), 5, *seeds)
    yield Case("seeds", args, group="generator", driver=drop_with_seeds, picture="none")


def by_chance(hits: int, n: int, p: float) -> bool:
    """Whether ``hits`` of n may be by chance, at FALSE_ALARM, where each has probability p.

    Chernoff: a share as far from p as k / n has probability at most 2 exp(-n KL(k / n | p)).
    """
    if p in (0.0, 1.0):
        return hits == n * p
    share = hits / n
    parts = ((share, p), (1 - share, 1 - p))
    divergence = sum(a * math.log(a / b) for a, b in parts if a > 0)
    return n * divergence <= math.log(2 / FALSE_ALARM)


def look_at_labels(out, y, p, null) -> str | None:
    """What is wrong with ``out`` as ``y`` with labels dropped, or None."""
    if not isinstance(out, torch.Tensor):
        return f"the result is a {type(out).__name__}; a tensor of labels is wanted"
    if out.shape != y.shape:
        return f"shape {tuple(out.shape)}, where that of y, {tuple(y.shape)}, is wanted"
    if out.dtype != y.dtype:
        return f"dtype {out.dtype}, where that of y, {y.dtype}, is wanted"
    dropped = out != y
    if bool((out[dropped] != null).any()):
        alien = int(out[dropped & (out != null)][0])
        return f"a label was changed into {alien}; a dropped label becomes {null}, all others stay"
    n, hits = len(y), int(dropped.sum())
    if not by_chance(hits, n, p):
        return f"{hits} of {n} labels were dropped at p = {p:.3g}; chance does not explain that"
    pairs = dropped[0::2] & dropped[1::2]
    if not by_chance(int(pairs.sum()), len(pairs), p * p):
        return (
            f"{int(pairs.sum())} of {len(pairs)} pairs of neighbours were dropped together, where "
            f"about {len(pairs) * p * p:.0f} are expected if each is dropped for itself"
        )
    for k in range(5):
        of_class = dropped[y == k]
        if len(of_class) and not by_chance(int(of_class.sum()), len(of_class), p):
            return f"{int(of_class.sum())} of {len(of_class)} labels {k} were dropped"
    return None


@drop_labels.judge
def _(case, got, expected):
    if case.driver != "drop_with_seeds":
        return look_at_labels(got, *case.args[:3])
    for name in ("first", "later", "another"):
        if found := look_at_labels(got[name], *case.args[:3]):
            return found
    if not torch.equal(got["first"], got["again"]):
        return "the same seed drops other labels the second time: draw from `generator` only"
    if torch.equal(got["first"], got["later"]) or torch.equal(got["first"], got["another"]):
        return "the same labels are dropped in every call: each call draws anew from `generator`"
    return None


# 07.2 ---------------------------------------------------------------------------------------------

conditioner = Exercise(
    id="07.2",
    title="A row for each class, and one for none",
    names=("ClassConditioner",),
    points={"rows": 2, "null": 1, "bad labels": 1},
    difficulty=2,
    minutes=12,
    core=False,
    hints=(
        "nn.Embedding(n, dim) holds n rows of dim numbers, all of which are trained. Labels are 0 "
        "to classes - 1, and then there is one more. How many rows is that, and which is the last?",
        "Calling the embedding with y looks the rows up. Label k takes row k, without a shift.",
        "Look at y before you look anything up: its least and its largest value tell all. An empty "
        "y has neither; let it pass.",
    ),
    library=("undiffuse.blocks.ClassConditioner",),
)


def build_conditioner(answer, classes, dim, rows, y, weight):
    """Builds the module, puts ``rows`` in where they fit, looks y up, and takes the gradient."""
    module = answer.ClassConditioner(classes, dim)
    parameters = sorted(f"{name} {tuple(p.shape)}" for name, p in module.named_parameters())
    held = module.rows.weight
    fits = held.shape == rows.shape
    if fits:
        with torch.no_grad():
            held.copy_(rows)
    out = module(y)
    gradient = None
    if fits and out.requires_grad:
        (gradient,) = torch.autograd.grad((out * weight).sum(), held)
    return {"null": module.null, "parameters": parameters, "out": out, "gradient": gradient}


def ask_for_null(answer, classes, dim, rows):
    """What the label ``null`` gives beside the first and the last class."""
    module = answer.ClassConditioner(classes, dim)
    with torch.no_grad():
        module.rows.weight.copy_(rows[: len(module.rows.weight)])
    return module(torch.tensor([0, module.null, classes - 1, module.null]))


def refuse_labels(answer, classes, dim, y):
    """The type of the error for labels that do not exist, or the shape of what comes back."""
    module = answer.ClassConditioner(classes, dim)
    try:
        return str(tuple(module(y).shape))
    except (ValueError, IndexError, RuntimeError) as error:
        return type(error).__name__


@conditioner.cases
def _(draw: Draw):
    for name, classes, dim, n in (
        ("4 classes, 3 numbers", 4, 3, 6),
        ("as many classes as numbers as labels", 5, 5, 5),
        ("10 classes, one label", 10, 7, 1),
    ):
        y = draw.integers(0, classes, n)
        if n > 1:
            y[draw.integers(1, n - 1)] = classes
            y[-1] = y[0]  # a row met twice gets both gradients
        args = (classes, dim, draw.normal(classes + 1, dim), y, draw.normal(n, dim))
        yield Case(name, args, group="rows", driver=build_conditioner, picture="none")
    for name, classes, dim in (("null of 3 classes", 3, 6), ("null of 10 classes", 10, 4)):
        args = (classes, dim, draw.normal(classes + 1, dim))
        yield Case(name, args, group="null", driver=ask_for_null)
    classes = draw.integers(3, 8)
    good = draw.integers(0, classes, 4)
    for name, bad in (("one too high", classes + 1), ("below zero", -1)):
        y = good.clone()
        y[draw.integers(0, 4)] = bad
        yield Case(name, (classes, 4, y), group="bad labels", driver=refuse_labels)
    empty = torch.zeros(0, dtype=torch.int64)
    yield Case("no labels at all", (classes, 4, empty), group="bad labels", driver=refuse_labels)


# 07.3 ---------------------------------------------------------------------------------------------

cfg = Exercise(
    id="07.3",
    title="Classifier-free guidance",
    names=("cfg",),
    points={"images": 1, "sound": 1, "special scales": 1},
    difficulty=1,
    minutes=10,
    hints=(
        "What does the label add to the prediction? That difference is what guidance exaggerates.",
        "Start at the prediction without a label, and go `scale` times the way to the one with it. "
        "Test: scale 0 has to give the first, scale 1 the second.",
        "If your result at scale 1 is not eps_cond, you may have a formula from the paper, whose w "
        "is scale - 1.",
    ),
    library=("undiffuse.guidance.cfg", "undiffuse.guidance.batched_cfg"),
)


@cfg.cases
def _(draw: Draw):
    def pair(*shape, dtype="float32"):
        return draw.normal(*shape, dtype=dtype, mean=0.4), draw.normal(*shape, dtype=dtype)

    def scale(low=1.6, high=6.0):
        return draw.uniform(low, high)

    yield Case("images, odd size", (*pair(3, 1, 7, 9), scale()), group="images")
    yield Case("float64 images", (*pair(2, 3, 4, 4, dtype="float64"), scale()), group="images")
    yield Case("a batch of one", (*pair(1, 1, 5, 5), scale(7.0, 9.0)), group="images")
    yield Case("sound", (*pair(4, 2, 11), scale()), group="sound")
    yield Case("points", (*pair(6, 2), scale()), group="sound")
    group = "special scales"
    yield Case("scale 0", (*pair(2, 1, 5, 6), 0.0), group=group)
    yield Case("scale 1", (*pair(2, 1, 5, 6), 1.0), group=group)
    yield Case("between 0 and 1", (*pair(2, 1, 9), draw.uniform(0.2, 0.4)), group=group)
    yield Case("away from the label", (*pair(2, 1, 9), -draw.uniform(1.2, 2.0)), group=group)


# 07.4 ---------------------------------------------------------------------------------------------


def noise_levels(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """alpha and sigma of the toys: a quarter of a circle."""
    return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)


class ToyNetwork(nn.Module):
    """An exact conditional denoiser that counts its calls: each class is a Gaussian.

    Called as model(x_t (N, ...), t (N,) or a number, cond (N,)) -> eps of x_t's shape. Label
    ``null`` stands for the mixture of all classes. Like a network it has a parameter, so that a
    forgotten graph is seen.
    """

    def __init__(self, means, variances, null):
        super().__init__()
        self.gain = nn.Parameter(torch.ones((), dtype=means.dtype))
        self.means, self.variances, self.null = means, variances, null
        self.seen, self.grew = [], False

    def forward(self, x_t, t, cond):
        n, classes = len(x_t), len(self.means)
        self.seen.append(n)
        self.grew |= x_t.requires_grad
        if cond.shape != (n,) or not (((cond >= 0) & (cond < classes)) | (cond == self.null)).all():
            raise ValueError(
                f"the toy network wants {n} labels, each 0 to {classes - 1} or {self.null}, got "
                f"{cond.tolist()}"
            )
        t = torch.as_tensor(t, dtype=x_t.dtype)
        if t.ndim and t.shape != (n,):
            raise ValueError(f"the toy network wants t of shape ({n},), got {tuple(t.shape)}")
        alpha, sigma = (level.reshape(-1, 1) for level in noise_levels(t.expand(n)))
        x, means = x_t.flatten(1), self.means.flatten(1)
        total = alpha**2 * self.variances + sigma**2  # (N, K)
        off = x[:, None] - alpha[..., None] * means  # (N, K, D)
        logits = -x.shape[1] / 2 * total.log() - off.square().sum(2) / (2 * total)
        asked = (cond[:, None] == torch.arange(classes)) | (cond == self.null)[:, None]
        share = torch.softmax(logits.masked_fill(~asked, -math.inf), 1)
        eps = (share[..., None] * off * (sigma / total)[..., None]).sum(1)
        return self.gain * eps.reshape(x_t.shape)


def toy_network(means, variances, null):
    """For the cases: the toy network."""
    return ToyNetwork(means, variances, null)


def toy_step():
    """For the cases: one deterministic solver step between two times (DDIM)."""

    def step(x, eps, t, t_next):
        alpha, sigma = noise_levels(torch.as_tensor(t, dtype=x.dtype))
        alpha_next, sigma_next = noise_levels(torch.as_tensor(t_next, dtype=x.dtype))
        return alpha_next * (x - sigma * eps) / alpha + sigma_next * eps

    return step


def sample_and_count(answer, model, x, y, null, scale, times, step):
    """Samples, the calls of the network, its rows at most, and whether graphs were kept or left."""
    out = answer.guided_sample(model, x, y, null, scale, times, step)
    return {
        "samples": out,
        "calls": len(model.seen),
        "rows": max(model.seen, default=0),
        "graph": bool(out.requires_grad),
        "grew": model.grew,
    }


guided_sample = Exercise(
    id="07.4",
    title="Sample with guidance, one call a step",
    names=("guided_sample",),
    points={"samples": 2, "one call a step": 1, "no graph": 1},
    difficulty=2,
    minutes=20,
    uses=("07.3",),
    hints=(
        "A network does not mind a larger batch. Put x below itself, and below the labels as many "
        "nulls: one call answers both questions.",
        "torch.cat joins two batches along the first axis; .chunk(2) cuts the answer into the two "
        "halves again, in the order in which you joined them.",
        "torch.full_like(y, null) makes the second half of the labels.",
        "Each pair of neighbours in `times` is one step; itertools.pairwise(times) runs over them.",
    ),
    library=("undiffuse.guidance.guided", "undiffuse.guidance.batched_cfg"),
)


@guided_sample.judge
def _(case, got, expected):
    from coursework.judge import compare

    if not isinstance(got, dict):
        return compare(got, expected, case.tol)
    steps, batch = len(case.args[5]) - 1, len(case.args[1])
    if case.group == "no graph" and got["graph"]:
        return "the samples still carry the graph of all calls: its memory grows with the steps"
    if case.group == "no graph" and got["grew"]:
        return "while sampling, each call was recorded on top of the one before: memory grows"
    if case.group == "one call a step":
        if got["calls"] != steps:
            return f"{got['calls']} calls of the network in {steps} steps; one a step is wanted"
        if got["rows"] > 2 * batch:
            return f"a call of {got['rows']} rows for {batch} samples; {2 * batch} are enough"
    return compare(got["samples"], expected["samples"], case.tol)


@guided_sample.cases
def _(draw: Draw):
    def case(name, group, shape, classes, null, scale, steps, dtype="float32"):
        means = 2 * draw.normal(classes, *shape[1:], dtype=dtype)
        variances = draw.uniform(0.8, 1.2, classes, dtype=dtype) * torch.linspace(0.2, 0.6, classes)
        model = Given(toy_network, means, variances.to(means.dtype), null)
        gaps = draw.uniform(0.6, 1.4, steps, dtype="float64")
        times = torch.cat([gaps.flip(0).cumsum(0).flip(0), torch.zeros(1)]) * 0.96 / gaps.sum()
        # The first labels are not class 0, so that a null read as 0 is seen.
        y = draw.integers(0, classes, shape[0])
        y[:2] = draw.distinct(1, classes, 2)[: len(y)]
        x = draw.normal(*shape, dtype=dtype)
        args = (model, x, y, null, scale, times, Given(toy_step))
        return Case(name, args, group=group, driver=sample_and_count)

    def scale():
        return draw.uniform(1.7, 3.5)

    yield case("points", "samples", (6, 2), 4, 4, scale(), 7)
    yield case("images, null far off", "samples", (3, 1, 4, 5), 3, 9, scale(), 5)
    yield case("sound, float64", "samples", (3, 1, 6), 3, 3, scale(), 6, "float64")
    yield case("a batch of one, a single step", "samples", (1, 3), 5, 5, scale(), 1)
    yield case("without guidance", "samples", (4, 2), 4, 6, 1.0, 4)
    yield case("8 steps", "one call a step", (5, 2), 4, 4, scale(), 8)
    yield case("3 steps, sound", "one call a step", (2, 1, 5), 3, 7, scale(), 3)
    yield case("the result is data only", "no graph", (4, 2), 3, 3, scale(), 4)


# 07.5 ---------------------------------------------------------------------------------------------

rescale = Exercise(
    id="07.5",
    title="Bring the contrast back",
    names=("rescale_guidance",),
    points={"images": 1, "sound": 1, "phi": 1},
    difficulty=2,
    minutes=12,
    core=False,
    hints=(
        "Every sample has a deviation of its own: take it over all axes but the first, and keep "
        "those axes (keepdim=True) so that the shapes meet.",
        "By which factor do you multiply `guided` so that its deviation becomes that of `cond`?",
        "phi is the share of the rescaled one in the result; the rest is `guided` as it was. Test: "
        "phi = 0 changes nothing.",
    ),
    library=("undiffuse.guidance.rescale_guidance", "undiffuse.guidance.guided"),
)


@rescale.cases
def _(draw: Draw):
    def pair(*shape, dtype="float32"):
        """Samples that differ in deviation, with a mean."""
        sizes = draw.distinct(2, 12, shape[0]).to(getattr(torch, dtype)) / 4
        sizes = sizes.reshape(-1, *[1] * (len(shape) - 1))
        guided = draw.normal(*shape, dtype=dtype, mean=0.6) * sizes
        return guided, draw.normal(*shape, dtype=dtype, mean=-0.3)

    def phi():
        return draw.pick([draw.uniform(0.2, 0.35), draw.uniform(0.65, 0.8)])

    yield Case("images, odd size", (*pair(4, 1, 7, 9), phi()), group="images")
    yield Case("as many images as channels", (*pair(3, 3, 5, 4), phi()), group="images")
    yield Case("float64", (*pair(2, 1, 6, 6, dtype="float64"), phi()), group="images")
    yield Case("sound, as many clips as samples", (*pair(6, 1, 6), phi()), group="sound")
    yield Case("a batch of one", (*pair(1, 2, 13), phi()), group="sound")
    yield Case("phi = 0", (*pair(3, 1, 5, 5), 0.0), group="phi")
    yield Case("phi = 1", (*pair(3, 1, 5, 5), 1.0), group="phi")
    yield Case("little", (*pair(3, 2, 7), draw.uniform(0.1, 0.2)), group="phi")


# 07.6 ---------------------------------------------------------------------------------------------

interval = Exercise(
    id="07.6",
    title="Guide only in the middle",
    names=("guidance_interval",),
    points={"a number": 1, "a time per sample": 1},
    difficulty=1,
    minutes=10,
    core=False,
    hints=(
        "What does scale 1 mean in cfg? That is what belongs outside the interval.",
        "For a tensor, `and` does not work: combine two masks with &, each in parentheses, and let "
        "torch.where choose.",
        "isinstance(t, torch.Tensor) tells the two kinds of t apart.",
    ),
    library=("undiffuse.guidance.guidance_interval", "undiffuse.guidance.guided"),
)


@interval.cases
def _(draw: Draw):
    def edges():
        # Multiples of 1/64 are exact in every float, so that "at the edge" is at the edge.
        return draw.integers(10, 24) / 64, draw.integers(38, 54) / 64

    def some_scale():  # exact in float32, through which torch.where takes two plain numbers
        return draw.integers(109, 384) / 64

    group, scale = "a number", some_scale()
    lo, hi = edges()
    yield Case("inside", (scale, draw.uniform(lo + 0.02, hi - 0.02), lo, hi), group=group)
    yield Case(
        "noisier than the interval", (scale, draw.uniform(hi + 0.02, 1), lo, hi), group=group
    )
    yield Case(
        "cleaner than the interval", (scale, draw.uniform(0, lo - 0.02), lo, hi), group=group
    )
    yield Case("at its lower end", (scale, lo, lo, hi), group=group)
    yield Case("at its upper end", (scale, hi, lo, hi), group=group)
    group = "a time per sample"
    for name, dtype, shape in (
        ("a batch", "float32", (9,)),
        ("float64", "float64", (7,)),
        ("a column", "float32", (8, 1)),
    ):
        lo, hi = edges()
        t = draw.uniform(0, 1, *shape, dtype=dtype)
        ends = torch.tensor([lo, hi, lo - 1 / 64, hi + 1 / 64, (lo + hi) / 2], dtype=t.dtype)
        t.view(-1)[:5] = ends
        yield Case(name, (some_scale(), t, lo, hi), group=group)
    yield Case("one sample", (scale, draw.uniform(0, 1, 1), lo, hi), group=group)


# 07.7 ---------------------------------------------------------------------------------------------

classifier_guidance = Exercise(
    id="07.7",
    title="Steer with a classifier",
    names=("classifier_guidance",),
    points={"values": 2, "images and sound": 1, "while sampling": 1},
    difficulty=3,
    minutes=20,
    core=False,
    hints=(
        "Make a copy of x that torch differentiates with respect to: detach it, then "
        "requires_grad_(True). Call the classifier on that copy.",
        "Of the (B, classes) table each sample needs one entry, that of its own label: gather, or "
        "indexing with arange(B) and y.",
        "A gradient is taken of one number. If sample i has an influence on its own entry only, "
        "the gradient of the sum holds each sample's own gradient.",
        "torch.autograd.grad gives the gradient back and writes it nowhere. torch.enable_grad() "
        "turns differentiation on where a sampler has turned it off.",
    ),
    library=("undiffuse.guidance.classifier_guidance", "undiffuse.guidance.classifier_guided"),
)


class ToyClassifier(nn.Module):
    """log p(class | x), (B, ...) -> (B, classes), whose unnormalised logits are quadratic in x."""

    def __init__(self, centres, precisions, offsets):
        super().__init__()
        self.centres = nn.Parameter(centres)
        self.precisions, self.offsets = precisions, offsets

    def forward(self, x):
        off = x.flatten(1)[:, None] - self.centres.flatten(1)  # (B, classes, D)
        logits = self.offsets - self.precisions * off.square().sum(2) / 2
        return torch.log_softmax(logits, dim=1)


def toy_classifier(centres, precisions, offsets):
    """For the cases: the toy classifier."""
    return ToyClassifier(centres, precisions, offsets)


def steer(answer, score, classifier, x, y, scale):
    """The steered score, and what the call left behind."""
    out = answer.classifier_guidance(score, classifier, x, y, scale)
    return {
        "score": out,
        "graph": bool(out.requires_grad),
        "x differentiated": bool(x.requires_grad),
        "classifier's gradients": classifier.centres.grad is not None,
    }


def steer_in_sampler(answer, score, classifier, x, y, scale):
    """The same where gradients are off, as in a sampler."""
    with torch.no_grad():
        return steer(answer, score, classifier, x, y, scale)


LEFT_BEHIND = {
    "graph": "the steered score still carries a graph: detach it, or memory grows at every step",
    "x differentiated": "x itself was set to require gradients; work on a copy",
    "classifier's gradients": "gradients were written into the classifier's own parameters",
}


@classifier_guidance.judge
def _(case, got, expected):
    from coursework.judge import compare

    found = compare(got, expected, case.tol)
    if isinstance(got, dict) and isinstance(got.get("score"), torch.Tensor):
        found = compare(got["score"], expected["score"], case.tol)
        left = [says for key, says in LEFT_BEHIND.items() if got.get(key)]
        return found or (left[0] if left else None)
    return found


@classifier_guidance.cases
def _(draw: Draw):
    def case(name, group, shape, classes, dtype="float32", driver=steer):
        # Near the point where all classes are about as likely: no gradient vanishes.
        size = math.prod(shape[1:]) ** -0.5
        classifier = Given(
            toy_classifier,
            2 * size * draw.normal(classes, *shape[1:], dtype=dtype),
            draw.uniform(0.6, 1.0, classes, dtype=dtype) + torch.arange(classes) / 8,
            draw.normal(classes, dtype=dtype),
        )
        y = draw.integers(0, classes, shape[0])
        y[:3] = draw.distinct(0, classes, 3)[: len(y)]
        x, score = size * draw.normal(*shape, dtype=dtype), draw.normal(*shape, dtype=dtype)
        args = (score, classifier, x, y, draw.uniform(1.7, 4.0))
        return Case(name, args, group=group, driver=driver)

    yield case("points", "values", (6, 2), 4)
    yield case("as many points as classes", "values", (5, 3), 5)
    yield case("one point", "values", (1, 2), 3)
    yield case("float64", "values", (4, 3), 3, "float64")
    yield case("images, odd size", "images and sound", (3, 1, 3, 5), 4)
    yield case("sound", "images and sound", (4, 1, 6), 3)
    yield case("gradients switched off", "while sampling", (5, 2), 4, driver=steer_in_sampler)
