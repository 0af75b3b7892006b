"""Checks of lesson 03, the best possible denoiser: cases, drivers and judges; no answers."""


import torch
from torch.utils._python_dispatch import TorchDispatchMode

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
    yield Case("numbers for alpha and sigma", (draw.normal(5, 3), a, s, mean, var), group="one level")
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


class LargestTensor(TorchDispatchMode):
    """Records, as ``numel``, the most numbers for which any operation inside took memory."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(x, torch.Tensor) and x.layout is torch.strided:
                # The storage counts, not the shape: an expanded view takes no memory.
                self.numel = max(self.numel, x.untyped_storage().nbytes() // x.element_size())
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
    return compare(got, expected, case.tol)


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
