"""Checks of lesson 03, the best possible denoiser: cases, drivers and judges; no answers."""

import math

import torch
from torch.overrides import TorchFunctionMode

from coursework.exercise import Case, Draw, Exercise, Given, Lesson, Tol

LESSON = Lesson(
    "03",
    provides=(
        "undiffuse.data",
        "undiffuse.plots",
        "undiffuse.schedules",
        "undiffuse.process",
        "undiffuse.prediction",
        "undiffuse.sets2d",
        "undiffuse.results",
    ),
)

# For float64 cases in which a right answer may pass through a float32: torch.as_tensor(0.7), or
# t / (T - 1) of integers. The result's dtype is compared all the same.
HALF_FLOAT64 = Tol(rtol=1e-6, atol=1e-6)


def level(draw: Draw, n: int, dtype: str = "float32") -> tuple[torch.Tensor, torch.Tensor]:
    """n noise levels (alpha, sigma), each (n,), none with alpha = sigma or sigma = 1."""
    alpha = draw.uniform(0.55, 0.95, n, dtype=dtype)
    return alpha, draw.uniform(0.25, 0.5, n, dtype=dtype) + (alpha < 0.75) * 0.7


# 03.1 ---------------------------------------------------------------------------------------------

gaussian_denoiser = Exercise(
    id="03.1",
    title="The best denoiser of a Gaussian",
    names=("gaussian_denoiser",),
    points={"one level": 1, "a level per sample": 1, "images and sound": 1, "float64": 1},
    difficulty=2,
    minutes=15,
    core=True,
    hints=(
        "Without looking at x_t, your best guess is the mean. x_t moves the guess away from it: by "
        "how much, for a very small and for a very large sigma?",
        "What does x_t tell you that you did not expect? It is x_t minus what you expected to see, "
        "alpha times the mean. Multiply this surprise by a gain, and add it to the mean.",
        "The gain is a covariance over a variance: Cov(x0, x_t) / Var(x_t). Work both out from "
        "x_t = alpha x0 + sigma eps, with Var(x0) = var and eps independent of x0.",
    ),
    library=("undiffuse.denoisers.gaussian_denoiser",),
)


@gaussian_denoiser.cases
def _(draw: Draw):
    mean, var = draw.normal(3, mean=1.5), draw.uniform(0.2, 0.6, 3)
    a, s = draw.uniform(0.6, 0.8), draw.uniform(0.3, 0.45)
    yield Case(
        "numbers for alpha and sigma", (draw.normal(5, 3), a, s, mean, var), group="one level"
    )
    x = draw.normal(6, 2, mean=-1.0)
    yield Case("alpha = 1 and much noise", (x, 1.0, 3.0, -2.0, 1.7), group="one level")
    alpha, sigma = level(draw, 4)
    mean, var = draw.normal(4, mean=-2.0), draw.uniform(1.3, 2.5, 4)
    args = (draw.normal(4, 4), alpha, sigma, mean, var)
    yield Case("as many samples as dimensions", args, group="a level per sample")
    alpha, sigma = level(draw, 5)
    args = (draw.normal(5, 2), alpha, sigma, 0.7, 0.3)
    yield Case("one mean for all", args, group="a level per sample")
    alpha, sigma = level(draw, 3)
    args = (draw.normal(3, 1, 5, 7), alpha, sigma, draw.normal(1, 5, 7, mean=0.5), 0.3)
    yield Case("images", args, group="images and sound")
    alpha, sigma = level(draw, 2)
    args = (draw.normal(2, 2, 9), alpha, sigma, 0.4, draw.uniform(0.2, 0.6, 2, 9))
    yield Case("sound", args, group="images and sound")
    alpha, sigma = level(draw, 3, "float64")
    args = (draw.normal(3, 6, dtype="float64"), alpha, sigma, -0.8, 0.2)
    yield Case("float64", args, group="float64")


# 03.2 ---------------------------------------------------------------------------------------------

mixture_denoiser = Exercise(
    id="03.2",
    title="The best denoiser of a mixture",
    names=("mixture_denoiser",),
    points={"values": 2, "a level per sample": 1, "small sigma": 1},
    difficulty=4,
    minutes=25,
    core=False,
    hints=(
        "If you knew which component x0 came from, 03.1 would answer. You do not know; you have a "
        "probability for each component.",
        "Given component k, x_t is Gaussian with mean alpha mu_k and variance "
        "alpha^2 v_k + sigma^2. Bayes' rule turns these K densities and the weights into "
        "probabilities (responsibilities).",
        "Far from every component all densities underflow to 0, and 0/0 is NaN. Keep their "
        "logarithms, with the normaliser of a D-dimensional Gaussian, and let torch.softmax "
        "divide.",
    ),
    library=("undiffuse.denoisers.mixture_denoiser",),
)


def mixture(draw: Draw, k: int, d: int, dtype: str = "float32"):
    """means (k, d), variances (k,) and weights (k,), the last two far from equal."""
    variances = draw.uniform(0.8, 1.2, k, dtype=dtype) * torch.linspace(0.1, 1.0, k)
    weights = draw.uniform(0.8, 1.2, k, dtype=dtype) * torch.linspace(3.0, 1.0, k)
    return draw.normal(k, d, dtype=dtype), variances, weights / weights.sum()


@mixture_denoiser.cases
def _(draw: Draw):
    a, s = draw.uniform(0.6, 0.8), draw.uniform(0.7, 0.9)
    args = (draw.normal(8, 2), a, s, *mixture(draw, 3, 2))
    yield Case("three components in 2-D", args, group="values")
    args = (draw.normal(6, 3), 1.0, 1.6, *mixture(draw, 5, 3))
    yield Case("alpha = 1", args, group="values")
    args = (draw.normal(1, 5, dtype="float64"), a, s, *mixture(draw, 3, 5, "float64"))
    yield Case("one sample, float64", args, group="values", tol=HALF_FLOAT64)
    alpha, sigma = level(draw, 4)
    args = (draw.normal(4, 4), alpha, sigma, *mixture(draw, 4, 4))
    yield Case("4 samples, 4 components, 4-D", args, group="a level per sample")
    means, variances, weights = mixture(draw, 3, 40)
    args = (draw.normal(5, 40, std=2.0), 0.9, 0.02, 3 * means, 0.01 * variances, weights)
    yield Case("far from every component", args, group="small sigma")
    # Between two narrow components that differ in one coordinate: both keep a share.
    means = draw.normal(1, 6).repeat(2, 1)
    means[1, 0] += 0.03
    x = 0.9 * means[0] + 0.02 * draw.normal(7, 6)
    yield Case(
        "between two near ones",
        (x, 0.9, 0.02, means, torch.tensor([1e-4, 3e-4]), torch.tensor([0.3, 0.7])),
        group="small sigma",
        tol=Tol(rtol=0, atol=2e-5),
    )


# 03.3 ---------------------------------------------------------------------------------------------

# The largest tensor that an answer may make at N = 10,000 with B = 8 and D = 16, where one of
# B x N x D would hold 1,280,000 numbers. B x N is 80,000, N x D 160,000.
MEMORY_LIMIT = 640_000

empirical_denoiser = Exercise(
    id="03.3",
    title="The best denoiser of a data set",
    names=("empirical_denoiser",),
    points={"values": 2, "images": 1, "small sigma": 1, "memory": 1},
    difficulty=3,
    minutes=25,
    core=True,
    hints=(
        "The data set is a mixture: one component per data point, of no width, all weights "
        "equal. What remains of the responsibilities?",
        "The weights of the N points are a softmax. Its argument holds the squared distance from "
        "x_t to where each point would lie at this noise level, and the variance of the noise.",
        "For memory: you need B x N distances and never the B x N x D differences at once. Take "
        "the points or the samples in chunks, or ask torch.cdist. For precision at small sigma: "
        "|x|^2 + |y|^2 - 2xy subtracts big numbers, and torch.cdist does just that unless you set "
        "compute_mode or give it float64.",
    ),
    library=("undiffuse.denoisers.empirical_denoiser",),
)


class LargestTensor(TorchFunctionMode):
    """Records, as ``numel``, the most numbers for which a call inside took memory.

    (TorchDispatchMode would see inside the calls as well, but its first use imports 800 modules.)
    """

    numel = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else (out,):
            if type(x) is torch.Tensor:
                # The storage counts, not the shape: an expanded view takes no memory.
                self.numel = max(self.numel, x.untyped_storage().nbytes() // x.element_size())
        if getattr(func, "__name__", "") == "pairwise_distance":
            # It makes all differences before it sums them.
            shapes = [x.shape for x in args if isinstance(x, torch.Tensor)]
            self.numel = max(self.numel, torch.broadcast_shapes(*shapes).numel())
        return out


def memory_driver(answer, x_t, alpha, sigma, data):
    """Whether the answer keeps to ``MEMORY_LIMIT``, and the shape of its result."""
    with LargestTensor() as watch:
        out = answer.empirical_denoiser(x_t, alpha, sigma, data)
    return {"shape": tuple(out.shape), "fits": watch.numel <= MEMORY_LIMIT}


@empirical_denoiser.judge
def _(case, got, expected):
    from coursework.judge import compare

    if case.group == "memory" and isinstance(got, dict) and got.get("fits") is False:
        return (
            f"a tensor of more than {MEMORY_LIMIT:,} numbers is made on the way; B x N distances "
            "are 80,000, all B x N x D differences at once 1,280,000"
        )
    found = compare(got, expected, case.tol)
    if found and case.name == "close pairs" and found.kind not in ("shape", "dtype", "type"):
        error = float((got - expected).abs().max())
        if error < 2e-3:
            return (
                f"off by up to {error:.1g}, which is as far apart as the two points of a pair: "
                "digits that decide between them were lost on the way to the distances"
            )
    return found


@empirical_denoiser.cases
def _(draw: Draw):
    a, s = draw.uniform(0.6, 0.8), draw.uniform(0.7, 0.95)
    args = (draw.normal(5, 3), a, s, draw.normal(7, 3))
    yield Case("7 points in 3-D", args, group="values")
    alpha, sigma = level(draw, 4)
    args = (draw.normal(4, 4), alpha, sigma, draw.normal(4, 4, mean=0.5))
    yield Case("4 samples, 4 points, 4-D", args, group="values")
    args = (draw.normal(1, 5, dtype="float64"), 1.0, 1.7, draw.normal(9, 5, dtype="float64"))
    yield Case("one sample, float64", args, group="values", tol=HALF_FLOAT64)
    alpha, sigma = level(draw, 3)
    args = (draw.normal(3, 1, 3, 5), alpha, 2 * sigma, draw.normal(6, 1, 3, 5))
    yield Case("images", args, group="images")
    data = draw.normal(40, 48)
    args = (draw.normal(5, 48, std=3.0), 0.7, 0.05, data)
    yield Case("far from every point", args, group="small sigma", tol=Tol(rtol=0, atol=1e-4))
    # Pairs of points 1.5 sigma apart in one coordinate, far from the origin. x_t lies between, so
    # that both keep a share. Differences in float32 give the result to about 2e-7 of the largest
    # value, |x|^2 + |y|^2 - 2xy in float32 to about 1e-3: the tolerance of 3e-5 lies between.
    base = 3.0 + draw.normal(30, 64)
    pair = base.clone()
    pair[:, 5] += 0.0015 / 0.8
    x = 0.8 * base[:12] + 0.001 * draw.normal(12, 64)
    x[:, 5] = 0.8 * base[:12, 5] + 0.00075
    yield Case(
        "close pairs",
        (x, 0.8, 0.001, torch.cat([base, pair])),
        group="small sigma",
        tol=Tol(rtol=0, atol=3e-5),
    )
    alpha, sigma = level(draw, 8)
    args = (draw.normal(8, 16), alpha, sigma, draw.normal(10_000, 16))
    yield Case("10,000 points", args, group="memory", driver=memory_driver)


# 03.4 ---------------------------------------------------------------------------------------------

scores = Exercise(
    id="03.4",
    title="From denoiser to score",
    names=("score_from_x0", "score_from_eps"),
    points={"from x0": 2, "from eps": 1},
    difficulty=2,
    minutes=10,
    core=True,
    hints=(
        "The score points to where the density of x_t grows: from x_t towards the data. That "
        "settles the sign of each of the two.",
        "Start from Tweedie: alpha E[x0 | x_t] = x_t + sigma^2 score. Solve for the score.",
        "For eps, put x_t = alpha x0_hat + sigma eps_hat into the first formula; one sigma cancels.",
    ),
    library=("undiffuse.denoisers.score_from_x0", "undiffuse.denoisers.score_from_eps"),
)


def score_from_eps_driver(answer, eps, sigma):
    return answer.score_from_eps(eps, sigma)


@scores.cases
def _(draw: Draw):
    a, s = draw.uniform(0.6, 0.8), draw.uniform(0.3, 0.45)
    args = (draw.normal(5, 3), draw.normal(5, 3), a, s)
    yield Case("x0, numbers", args, group="from x0")
    alpha, sigma = level(draw, 4)
    args = (draw.normal(4, 4), draw.normal(4, 4), alpha, sigma)
    yield Case("x0, a level per sample", args, group="from x0")
    alpha, sigma = level(draw, 3, "float64")
    shape = (3, 2, 4, 5)
    x, x0 = draw.normal(*shape, dtype="float64"), draw.normal(*shape, dtype="float64")
    yield Case("x0, images, float64", (x, x0, alpha, sigma), group="from x0")
    driver = score_from_eps_driver
    yield Case("eps, numbers", (draw.normal(5, 3), s), group="from eps", driver=driver)
    args = (draw.normal(4, 4), level(draw, 4)[1])
    yield Case("eps, a level per sample", args, group="from eps", driver=driver)
    args = (draw.normal(3, 2, 9), 5 * level(draw, 3)[1])
    yield Case("eps, sound", args, group="from eps", driver=driver)


# 03.5 ---------------------------------------------------------------------------------------------

simple_loss = Exercise(
    id="03.5",
    title="The loss that trains every model of this course",
    names=("simple_loss",),
    points={"eps": 2, "x0 and v": 1, "condition": 1, "gradient": 1},
    difficulty=3,
    minutes=20,
    core=True,
    hints=(
        "Four steps: noise x0 to level t, ask the model, choose what it should have said, average "
        "the squared difference.",
        "What may the model see? x_t, the time, the condition; never x0 or the noise. The time "
        "that a network receives is t / (T - 1), one float per sample.",
        "The targets: eps is the noise itself, x0 the clean sample, v the mixture of both from "
        "lesson 02. The result is a tensor of no dimensions that backward() can be called on.",
    ),
    library=("undiffuse.losses.simple_loss",),
)


class ToyModel(torch.nn.Module):
    """A model whose answer depends visibly on x_t, t and cond, with one weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, x, t, cond=None):
        if not isinstance(t, torch.Tensor) or t.shape != x.shape[:1]:
            raise ValueError(
                f"the model wants its time as a tensor of shape ({len(x)},), not "
                f"{tuple(t.shape) if isinstance(t, torch.Tensor) else t!r}"
            )
        t = t.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        out = self.weight.to(x.dtype) * x * torch.cos(2 * t) + 0.4 * t
        if cond is not None:
            out = out + 0.3 * cond.to(x.dtype).reshape(t.shape)
        return out


def toy_model(weight: float) -> ToyModel:
    return ToyModel(weight)


def gradient_driver(answer, weight, *args, **kwargs):
    """The loss and its derivative in the model's weight."""
    model = ToyModel(weight)
    loss = answer.simple_loss(model, *args, **kwargs)
    if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
        return {"loss": loss, "gradient": None}
    if loss.ndim == 0:
        loss.backward()
    return {"loss": loss.detach(), "gradient": model.weight.grad}


def refusal_driver(answer, weight, *args, **kwargs):
    """The name of the error that the call raises."""
    try:
        answer.simple_loss(ToyModel(weight), *args, **kwargs)
    except (ValueError, KeyError, TypeError) as error:
        return type(error).__name__
    return "no error"


@simple_loss.judge
def _(case, got, expected):
    from coursework.judge import compare

    if isinstance(got, dict) and "gradient" in got and got["gradient"] is None:
        return "no gradient reaches the model's weight: was the loss detached, or made a number?"
    if isinstance(expected, str) and got != expected:
        return (
            f"an unknown prediction should raise {expected}; it gave {got}"
            if isinstance(got, str)
            else f"an unknown prediction should raise {expected}"
        )
    return compare(got, expected, case.tol)


@simple_loss.cases
def _(draw: Draw):
    def inputs(steps, *shape, dtype="float32"):
        alpha_bar = torch.cumprod(draw.uniform(0.75, 0.95, steps, dtype=dtype), 0)
        t = draw.integers(0, steps, shape[0])
        t[0], t[-1] = steps - 1, 1
        x0 = draw.normal(*shape, dtype=dtype, mean=0.5)
        return x0, t, alpha_bar, draw.normal(*shape, dtype=dtype)

    model = Given(toy_model, draw.uniform(0.5, 0.9))
    yield Case("images", (model, *inputs(11, 5, 1, 4, 3)), group="eps")
    args = (model, *inputs(7, 4, 2, 9, dtype="float64"))
    yield Case("sound, float64", args, group="eps", tol=HALF_FLOAT64)
    # B = T = D: a level that lands on the wrong axis does not crash.
    yield Case("4 samples, 4 steps, 4-D", (model, *inputs(4, 4, 4)), group="eps")
    kwargs = {"prediction": "x0"}
    yield Case("model predicts x0", (model, *inputs(9, 5, 3)), kwargs, group="x0 and v")
    kwargs = {"prediction": "v"}
    yield Case("model predicts v", (model, *inputs(9, 4, 2, 3, 3)), kwargs, group="x0 and v")
    args = (0.7, *inputs(5, 3, 2))
    kwargs = {"prediction": "noise"}
    yield Case("unknown prediction", args, kwargs, group="x0 and v", driver=refusal_driver)
    kwargs = {"cond": draw.integers(2, 9, 6)}
    yield Case("with a condition", (model, *inputs(8, 6, 1, 5)), kwargs, group="condition")
    args = (draw.uniform(0.5, 0.9), *inputs(6, 5, 2))
    yield Case("gradient", args, group="gradient", driver=gradient_driver)


# 03.6 ---------------------------------------------------------------------------------------------

loss_weight = Exercise(
    id="03.6",
    title="Three losses are one, weighted",
    names=("loss_weight",),
    points={"eps, x0 and v": 2, "min-snr": 1, "shape and type": 1},
    difficulty=3,
    minutes=15,
    core=False,
    hints=(
        "Keep x_t fixed and let x0_hat be off by d. By how much is the eps off that follows from "
        "x_t and x0_hat? Square it.",
        "The error of eps is alpha / sigma times d. For v, use x0 = alpha x_t - sigma v with "
        "alpha^2 + sigma^2 = 1, and write 1 / sigma^2 in terms of the SNR.",
        "min-snr takes the weight of eps and does not let it grow beyond gamma.",
    ),
    library=("undiffuse.losses.loss_weight",),
)


def loss_weight_refusal(answer, kind, snr):
    try:
        answer.loss_weight(kind, snr)
    except (ValueError, KeyError, TypeError) as error:
        return type(error).__name__
    return "no error"


@loss_weight.cases
def _(draw: Draw):
    def snr(*shape, dtype="float32"):
        return torch.exp(draw.uniform(-3.0, 4.0, *shape, dtype=dtype))

    both = torch.cat([snr(5), torch.tensor([0.4, 9.0, 60.0])])
    for kind in ("eps", "x0", "v"):
        yield Case(kind, (kind, both), group="eps, x0 and v")
    yield Case("min-snr", ("min-snr", both), group="min-snr")
    kwargs = {"gamma": draw.uniform(1.5, 3.0)}
    yield Case("min-snr, another gamma", ("min-snr", both), kwargs, group="min-snr")
    kind = draw.pick(("eps", "v"))
    yield Case("float64", (kind, snr(3, 4, dtype="float64")), group="shape and type")
    yield Case("x0, a matrix", ("x0", snr(2, 3)), group="shape and type")
    args = ("noise", both)
    yield Case("unknown kind", args, group="shape and type", driver=loss_weight_refusal)


# 03.7 ---------------------------------------------------------------------------------------------

fit_2d = Exercise(
    id="03.7",
    title="Train a denoiser",
    names=("fit_2d",),
    points={"denoises": 3, "samples": 2, "seeded": 1},
    difficulty=4,
    minutes=35,
    core=True,
    hints=(
        "The loop of every later lesson: draw a batch of points, a time for each and noise; make "
        "x_t; ask the network; compare; step. Then wrap the network so that x0 comes out.",
        "alpha and sigma come from cosine_alpha_bar(t), one per sample, as in 03.5 but with t "
        "continuous in [0, 1]. If the network predicts v, x0 = alpha x_t - sigma v.",
        "If samples are blurred, look at the learning rate first: Adam with 3e-3, falling to 0 "
        "towards the last step, learns two moons in 1,200 steps of 256 points. "
        "Every draw takes generator=generator.",
    ),
    slow=True,
    limit=20.0,
    reference_needed=False,
    library=("undiffuse.sets2d.fit_2d",),
)

TRAIN, HELD_OUT, STEPS = 400, 2000, 1200
LEVELS = (0.2, 0.35, 0.5, 0.65)

# What passes. Measured for the reference and each alternative over seeds 0 to 39, the mean m and
# the deviation s of each figure, with `python tests/exercises/measure_03.py 40`:
MAX_ERROR = 0.60
MAX_ENERGY = 0.045
MAX_STRAY = 4.0
MIN_NOVELTY = 0.5


def cosine_levels(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """alpha and sigma of the cosine schedule at times t in [0, 1]."""
    f = torch.cos((t.double() + 0.008) / 1.008 * math.pi / 2) ** 2
    alpha_bar = (f / math.cos(0.008 / 1.008 * math.pi / 2) ** 2).clamp(0, 1)
    return alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()


def plane_points(note: str, n: int, stream: int) -> torch.Tensor:
    """n points of the set that a case's ``note`` names, turned; another ``stream``, other points."""
    from undiffuse import sets2d

    name, seed, angle = note.split()
    generator = torch.Generator().manual_seed(int(seed) * 10 + stream)
    points = getattr(sets2d, name)(n, generator)
    c, s = math.cos(float(angle)), math.sin(float(angle))
    return points @ torch.tensor([[c, s], [-s, c]])


def noisy_points(note: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Held-out points at each of ``LEVELS``, (levels * n, 2), and their times."""
    points = plane_points(note, HELD_OUT // len(LEVELS), 1).repeat(len(LEVELS), 1)
    t = torch.tensor(LEVELS).repeat_interleave(HELD_OUT // len(LEVELS))
    alpha, sigma = cosine_levels(t)
    seed = int(note.split()[1]) * 10 + 2
    noise = torch.randn(points.shape, generator=torch.Generator().manual_seed(seed))
    return alpha[:, None] * points + sigma[:, None] * noise, t


def trained(answer, points, steps, generator):
    """The learner's denoiser; two cases look at the same one, which is trained once."""
    if not hasattr(answer, "trained") or not torch.equal(answer.trained[0], points):
        answer.trained = points.clone(), answer.fit_2d(points, steps, generator)
    return answer.trained[1]


def denoise_driver(answer, points, steps, generator, x_t, t):
    """What the trained denoiser makes of noisy points; at other times; with one time for all."""
    denoiser = trained(answer, points, steps, generator)
    with torch.no_grad():
        out = denoiser(x_t, t)
        one = denoiser(x_t[:7], float(t[0]))
        other = denoiser(x_t, t.flip(0))
    return {"x0_hat": out, "one": one, "other": other}


def sample_driver(answer, points, steps, generator, start):
    """Points drawn with the trained denoiser: 30 steps of deterministic DDIM from ``start``."""
    denoiser = trained(answer, points, steps, generator)
    # Closer together towards the end: copies of training points have to show as such.
    times = torch.linspace(1, 0, 31) ** 2
    alpha, sigma = cosine_levels(times)
    x = start
    with torch.no_grad():
        for i in range(30):
            x0 = denoiser(x, times[i].expand(len(x)))
            eps = (x - alpha[i] * x0) / sigma[i]
            x = alpha[i + 1] * x0 + sigma[i + 1] * eps
    return x


def seeded_driver(answer, points, seeds, x_t, t):
    """What denoisers give after 20 steps, for each seed of the generator."""
    out = []
    for i, seed in enumerate(seeds):
        torch.manual_seed(i)
        denoiser = answer.fit_2d(points, 20, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            out.append(denoiser(x_t, t))
    return out


def rms(x: torch.Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def nearest(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Distance of each point of a to the nearest of b."""
    return torch.cdist(a.double(), b.double()).min(1).values


def energy(a: torch.Tensor, b: torch.Tensor) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'|, without each point's distance to itself."""
    a, b = a.double(), b.double()
    n, m = len(a), len(b)
    within = torch.cdist(a, a).sum() / (n * (n - 1)) + torch.cdist(b, b).sum() / (m * (m - 1))
    return float(2 * torch.cdist(a, b).mean() - within)


def relative_errors(case: Case, x0_hat: torch.Tensor) -> list[float]:
    """RMS distance from the best denoiser of 8,000 points of the same distribution, by level.

    In units of what the best *linear* denoiser, alpha x_t, has: 1 is what a network gives that
    knows the variance of the data and nothing else.
    """
    from undiffuse.denoisers import empirical_denoiser

    x_t, t = noisy_points(case.note)
    alpha, sigma = cosine_levels(t)
    best = empirical_denoiser(x_t, alpha, sigma, plane_points(case.note, 8000, 3))
    n = len(t) // len(LEVELS)
    linear = (alpha[:, None] * x_t - best).split(n)
    return [rms(d) / rms(line) for d, line in zip((x0_hat - best).split(n), linear)]


def mean_error(case: Case, x0_hat: torch.Tensor) -> float:
    errors = relative_errors(case, x0_hat)
    return sum(errors) / len(errors)


SAYS = {
    "returns the points": (
        "This denoiser is the empirical one: it knows the training points by heart, and what it "
        "draws are copies. Train a network on them; its mistakes are what makes new points."
    ),
    "nothing learned": (
        "Training changes nothing here, or nearly nothing: after all steps the answer is far from "
        "any good. Does optimizer.step() run, on this network's parameters, with the gradient of "
        "this step's loss?"
    ),
    "returns the noisy point": (
        "The denoiser gives back x_t, hardly changed. Was x_t also the target of the loss? The "
        "network should say what lies under the noise."
    ),
    "returns the noise": (
        "The network has learned to predict the noise, and you return that. A denoiser returns "
        "x0: solve x_t = alpha x0 + sigma eps for it."
    ),
    "returns v": (
        "The network has learned to predict v, and you return that. A denoiser returns x0: with v "
        "known, x0 = alpha x_t - sigma v."
    ),
    "ignores the time": (
        "The same x_t gets the same answer at any t. How far to trust a point depends on how much "
        "noise there is: the network has to see t, and the wrapper has to use it."
    ),
    "generator ignored": (
        "The same seed gives another denoiser: some draw does not take the generator. Look at "
        "torch.randn, torch.rand, torch.randint, randperm, and at the network's first weights."
    ),
    "seed has no effect": (
        "Different generators give the very same denoiser. Batches, times, noise and first weights "
        "are all to be drawn from the generator that was given."
    ),
}


def named(name: str):
    from coursework.judge import Finding

    return Finding("misconception", SAYS[name], name)


def judge_denoiser(case: Case, got: dict):
    from undiffuse.denoisers import empirical_denoiser

    points = case.args[0]
    x_t, t = noisy_points(case.note)
    for key, shape in (("x0_hat", x_t.shape), ("other", x_t.shape), ("one", (7, 2))):
        x = got.get(key) if isinstance(got, dict) else None
        if not isinstance(x, torch.Tensor) or x.shape != shape:
            shown = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            return f"the denoiser gives {shown} for x_t of shape {tuple(shape)}: x0_hat is wanted"
        if not torch.isfinite(x).all():
            return "the denoiser gives NaN or infinite values"
    out = got["x0_hat"].float()
    alpha, sigma = (v[:, None] for v in cosine_levels(t))
    known = empirical_denoiser(x_t, alpha[:, 0], sigma[:, 0], points)
    if rms(out - known) < 0.02:
        return named("returns the points")
    if rms(out - got["other"].float()) < 1e-4:
        return named("ignores the time")
    if not torch.allclose(got["one"].float(), out[:7], atol=1e-3, rtol=1e-3):
        return "one number for t gives something else than the same t for each sample"
    errors = relative_errors(case, out)
    mean = sum(errors) / len(errors)
    if mean < MAX_ERROR:
        return None
    if rms(out - x_t) < 0.15:
        return named("returns the noisy point")
    if mean_error(case, (x_t - sigma * out) / alpha) < MAX_ERROR:
        return named("returns the noise")
    if mean_error(case, alpha * x_t - sigma * out) < MAX_ERROR:
        return named("returns v")
    if 0.85 < mean < 1.5:
        return named("nothing learned")
    by_level = ", ".join(f"{e:.2f} at t = {v}" for v, e in zip(LEVELS, errors))
    return (
        f"the distance from the best denoiser, where 1 is what alpha x_t has, is {by_level}; a "
        f"mean under {MAX_ERROR} is wanted"
    )


def sample_figures(case: Case, got: torch.Tensor) -> tuple[float, float, float]:
    """(energy distance to held-out points, straying from them, novelty against the training set).

    The last two are medians of the distance to the nearest point, over the same for new real
    points: about 1 is right; straying far above 1 is noise, novelty near 0 is copies.
    """
    held_out, new = plane_points(case.note, HELD_OUT, 1), plane_points(case.note, 1000, 4)
    points = case.args[0]
    stray = nearest(got, held_out).median() / nearest(new, held_out).median()
    novelty = nearest(got, points).median() / nearest(new, points).median()
    return energy(got, held_out), float(stray), float(novelty)


def judge_samples(case: Case, got: torch.Tensor):
    if not isinstance(got, torch.Tensor) or got.shape != (1000, 2):
        return "the sampler did not get 1,000 points from the denoiser"
    if not torch.isfinite(got).all():
        return "the samples are NaN or infinite"
    distance, stray, novelty = sample_figures(case, got)
    if novelty < 0.1:
        return named("returns the points")
    if distance > MAX_ENERGY:
        return (
            f"the samples are an energy distance of {distance:.3f} from held-out points; under "
            f"{MAX_ENERGY} is wanted (two sets of real points: about 0)"
        )
    if stray > MAX_STRAY:
        return (
            f"the samples lie {stray:.1f} times as far from held-out points as new real points "
            f"do; under {MAX_STRAY} is wanted"
        )
    if novelty < MIN_NOVELTY:
        return (
            f"the samples lie {novelty:.2f} times as far from the training points as new real "
            f"points do; at least {MIN_NOVELTY} is wanted"
        )
    return None


def judge_seeds(case: Case, got: list):
    if len(got) != 3 or not all(isinstance(x, torch.Tensor) for x in got):
        return "the denoisers did not return tensors"
    first, again, other = got
    if first.shape != again.shape or not torch.equal(first, again):
        return named("generator ignored")
    if torch.equal(first, other):
        return named("seed has no effect")
    return None


@fit_2d.judge
def _(case, got, expected):
    return {"denoises": judge_denoiser, "samples": judge_samples, "seeded": judge_seeds}[
        case.group
    ](case, got)


@fit_2d.cases
def _(draw: Draw):
    note = f"two_moons {draw.integers(0, 10**6)} {draw.uniform(0, 2 * math.pi):.4f}"
    points, seed = plane_points(note, TRAIN, 0), draw.seed()
    args = (points, STEPS, seed, *noisy_points(note))
    yield Case("noisy points", args, group="denoises", driver=denoise_driver, note=note)
    args = (points, STEPS, seed, draw.normal(1000, 2))
    yield Case("samples", args, group="samples", driver=sample_driver, note=note)
    seed = draw.integers(0, 10**6)
    args = (points[:50], [seed, seed, seed + 1], draw.normal(20, 2), draw.uniform(0.1, 0.9, 20))
    yield Case("three seeds", args, group="seeded", driver=seeded_driver)


# 03.8 ---------------------------------------------------------------------------------------------

edm_precondition = Exercise(
    id="03.8",
    title="Let the network do only what is hard",
    names=("edm_precondition",),
    points={"c_skip, c_out, c_in": 2, "c_noise": 1, "float64": 1},
    difficulty=2,
    minutes=10,
    core=False,
    hints=(
        "Two demands settle everything: the network's input has variance one, and so has its "
        "target. The variance of x_t is sigma^2 + sigma_data^2.",
        "c_skip is a denoiser you know: the gain of 03.1 at alpha = 1 and mean 0. c_out is the "
        "deviation that is left after it.",
        "c_noise is a number of moderate size for any sigma: a quarter of a logarithm. Which "
        "logarithm does EDM's Table 1 write as ln?",
    ),
    library=("undiffuse.losses.edm_precondition",),
)


def first_three(answer, sigma, sigma_data):
    return tuple(answer.edm_precondition(sigma, sigma_data))[:3]


def noise_input(answer, sigma, sigma_data):
    return tuple(answer.edm_precondition(sigma, sigma_data))[3]


@edm_precondition.cases
def _(draw: Draw):
    sigma = torch.exp(draw.uniform(-4.0, 3.0, 6))
    group = "c_skip, c_out, c_in"
    data = draw.uniform(0.25, 0.45)
    yield Case("narrow data", (sigma, data), group=group, driver=first_three)
    yield Case("wide data", (sigma, draw.uniform(1.5, 3.0)), group=group, driver=first_three)
    yield Case("as images are noised", (sigma.reshape(6, 1, 1, 1), data), group=group,
               driver=first_three)  # fmt: skip
    yield Case("c_noise", (sigma, data), group="c_noise", driver=noise_input)
    wide = torch.exp(draw.uniform(-4.0, 3.0, 2, 3, dtype="float64"))
    yield Case("float64", (wide, 0.3), group="float64")


# 03.9 ---------------------------------------------------------------------------------------------

elbo_terms = Exercise(
    id="03.9",
    title="The loss as a bound on the likelihood",
    names=("elbo_terms",),
    points={"terms": 3, "closed form": 1},
    difficulty=5,
    minutes=35,
    core=False,
    hints=(
        "There are T + 1 terms: the decoder at step 0, a comparison of two Gaussians at each of "
        "the steps 1 to T - 1, and the prior, which never asks the model.",
        "Two Gaussians of equal variance: their KL divergence is the squared distance of the means "
        "over twice the variance. With the posterior's mean and variance this becomes "
        "(SNR[t-1] - SNR[t]) / 2 times the squared error of x0.",
        "Sum over the elements of a sample, average over the batch, and at the end divide by the "
        "elements of a sample and by ln 2. The error of x0 is sigma / alpha times that of eps.",
    ),
    library=("undiffuse.losses.elbo_terms",),
)


def linear_model(gains):
    """A model that answers gains[step] * x_t, the step being found from the float time."""

    def model(x, t, cond=None):
        step = (t.double() * (len(gains) - 1)).round().long()
        return gains[step].to(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) * x

    return model


@elbo_terms.judge
def _(case, got, expected):
    from coursework.judge import compare

    if case.group != "closed form" or not isinstance(got, torch.Tensor):
        return compare(got, expected, case.tol)
    x0, _, betas, _ = case.args
    if got.shape != (len(betas) + 1,):
        return compare(got, expected, case.tol)
    # The error of a term's average is 0.7 % for 20,000 samples in 2-D (a chi-square has relative
    # deviation sqrt(2 / n), n = 40,000); 5 % is seven of these. What does not vary is exact.
    var, dims = float(case.note), x0.shape[1]
    kept = torch.cumprod(1 - betas, 0)
    snr = kept / (1 - kept)
    error = dims * var / (var * snr + 1)
    square = torch.tensor(dims * var, dtype=torch.float64)
    varying = torch.cat([
        (error / (2 * betas))[:1], (snr[:-1] - snr[1:]) / 2 * error[1:],
        (kept[-1] * square / 2)[None],
    ])  # fmt: skip
    fixed = torch.zeros_like(varying)
    fixed[0] = dims / 2 * torch.log(2 * math.pi * betas[0])
    fixed[-1] = -dims / 2 * (kept[-1] + torch.log1p(-kept[-1]))
    off = (got - (varying + fixed) / (dims * math.log(2))).abs()
    wrong = (off > 0.05 * varying / (dims * math.log(2))).nonzero().flatten().tolist()
    if wrong or not torch.isfinite(got).all():
        i = wrong[0] if wrong else 0
        wanted = float((varying + fixed)[i] / (dims * math.log(2)))
        return f"term {i} is {float(got[i]):.4f}; for Gaussian data it is {wanted:.4f}, within 5 %"
    return None


@elbo_terms.cases
def _(draw: Draw):
    def inputs(steps, *shape, dtype="float64"):
        betas = draw.uniform(0.05, 0.3, steps, dtype="float64")
        x0 = draw.normal(*shape, dtype=dtype, mean=0.4)
        return x0, Given(toy_model, draw.uniform(0.5, 0.9)), betas, draw.seed()

    yield Case("4 samples in 3-D", inputs(6, 4, 3), group="terms", tol=HALF_FLOAT64)
    yield Case("images", inputs(4, 3, 2, 3, 5), group="terms", tol=HALF_FLOAT64)
    loose = Tol(rtol=1e-4, atol=1e-5)
    yield Case("sound, float32", inputs(9, 5, 1, 8, dtype="float32"), group="terms", tol=loose)
    betas = draw.uniform(0.05, 0.3, 5, dtype="float64")
    var = draw.uniform(0.3, 0.6)
    kept = torch.cumprod(1 - betas, 0)
    gains = (1 - kept).sqrt() / (kept * var + 1 - kept)  # what E[eps | x_t] multiplies x_t by
    x0 = draw.normal(20_000, 2, dtype="float64", std=math.sqrt(var))
    args = (x0, Given(linear_model, gains), betas, draw.seed())
    yield Case("Gaussian data", args, group="closed form", note=repr(var))
