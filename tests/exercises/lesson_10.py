"""Checks of lesson 10, cheap diffusion: cases, toys and drivers; the answers are elsewhere.

Counts are compared as whole numbers, targets and layers element by element; where a call costs
something, the calls are counted.
"""

import zlib

import torch
from torch import nn

from coursework.exercise import Case, Draw, Exercise, Given, Lesson, Tol

LESSON = Lesson(
    "10",
    provides=(
        "undiffuse.data",
        "undiffuse.plots",
        "undiffuse.schedules",
        "undiffuse.process",
        "undiffuse.prediction",
        "undiffuse.metrics",
        "undiffuse.results",
    ),
)


def filled(module: nn.Module, seed: int, dtype: torch.dtype) -> nn.Module:
    """``module`` with random parameters, none zero; each follows from its own name and ``seed``."""
    module.to(dtype)
    with torch.no_grad():
        for name, p in module.named_parameters():
            g = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
            draw = torch.randn(p.shape, generator=g, dtype=torch.float64)
            p.copy_(draw / p[0].numel() ** 0.5 if p.ndim > 1 else 0.5 * draw)
    return module


# --- 10.1 ----------------------------------------------------------------------------------

flops = Exercise(
    id="10.1",
    title="What does a call cost?",
    names=("conv_flops", "model_flops"),
    points={"one convolution": 2, "a network": 2},
    difficulty=2,
    minutes=25,
    core=True,
    hints=(
        "One number of the output: how many products go into it? Then how many numbers does the "
        "output have? The product of the two, with an addition for each multiplication.",
        "Along an axis the output has floor((n + 2 padding - dilation (kernel - 1) - 1) / stride) "
        "+ 1 places. With groups, an output channel sees only its own group of input channels.",
        "module.register_forward_hook(f) calls f(module, inputs, output) whenever the layer runs, "
        "so that you see the sizes that it really gets. It returns a handle with remove().",
        "A linear layer acts on the last axis; all the axes before it are places. How many numbers "
        "come out of it, and how many products go into each?",
    ),
    library=("undiffuse.costs.conv_flops", "undiffuse.costs.model_flops"),
)


class Toy(nn.Module):
    """Networks to be counted; what they compute does not matter."""

    def __init__(self, kind: str, c: int, groups: int) -> None:
        super().__init__()
        self.kind = kind
        conv = nn.Conv1d if kind == "sound" else nn.Conv2d
        self.first = conv(2, c * groups, 3, stride=2, padding=1)
        self.grouped = conv(c * groups, 2 * groups, 5, padding=2, groups=groups, bias=False)
        self.norm = nn.GroupNorm(1, 2 * groups)
        self.wide = conv(2 * groups, 2 * groups, 3, padding=2, dilation=2)
        self.time = nn.Linear(3, 2 * groups)
        self.mix = nn.Linear(2 * groups, 2 * groups, bias=False)

    def forward(self, x, t=None):
        h = torch.relu(self.norm(self.grouped(self.first(x))))
        if self.kind == "twice":
            h = self.wide(self.wide(h))
        if t is not None:
            h = h + self.time(t).reshape(len(x), -1, *[1] * (x.ndim - 2))
            h = self.mix(h.movedim(1, -1)).movedim(-1, 1)
        return h


def toy_network(kind: str, c: int, groups: int) -> Toy:
    """For ``Given``."""
    return Toy(kind, c, groups)


def count_network(answer, model, shape, inputs):
    """The count twice (nothing may stay behind), and what is left of the model's state."""
    model.train()
    first, second = (answer.model_flops(model, shape, *inputs) for _ in range(2))
    left = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    training = model.training
    model.eval()
    answer.model_flops(model, shape, *inputs)
    return {
        "flops": first,
        "again": second,
        "hooks left": left,
        "training kept": training,
        "evaluating kept": not model.training,
    }


@flops.cases
def _(draw: Draw):
    one, net = "one convolution", "a network"
    a, b = draw.integers(3, 7), draw.integers(8, 12)
    h, w = draw.integers(9, 13), draw.integers(14, 19)
    yield Case("no padding", (a, b, 3, (h, w)), group=one)
    yield Case("padded, images", (a, b, 5, (h, w), 1, 2), group=one)
    yield Case("stride 2, odd sizes", (a, b, 3, (2 * h + 1, 2 * w), 2, 1), group=one)
    yield Case("sound, stride 3", (a, b, 7, (h * w,), 3, 3), group=one)
    yield Case("groups", (3 * a, 3 * b, 3, (h, w), 1, 1, 3), group=one)
    yield Case("dilated", (a, b, 3, (h, w), 1, 2, 1, 2), group=one)
    yield Case("a number an axis", (a, b, (3, 5), (h, w), (2, 1), (1, 2)), group=one)
    yield Case("one place", (a, b, 1, (h, w)), group=one)
    c, g = draw.integers(2, 5), draw.integers(3, 5)
    shape = (draw.integers(2, 5), 2, h, w)
    yield Case("images", (Given(toy_network, "image", c, g), shape, ()), group=net,
               driver=count_network)  # fmt: skip
    yield Case("a layer called twice", (Given(toy_network, "twice", c, g), (1, 2, w, h), ()),
               group=net, driver=count_network)  # fmt: skip
    t = draw.normal(shape[0], 3)
    yield Case("with a time", (Given(toy_network, "image", c, g), shape, (t,)), group=net,
               driver=count_network)  # fmt: skip
    yield Case("sound with a time", (Given(toy_network, "sound", c, g), (shape[0], 2, h * w), (t,)),
               group=net, driver=count_network)  # fmt: skip


# --- 10.2 ----------------------------------------------------------------------------------

separable = Exercise(
    id="10.2",
    title="A convolution in two parts",
    names=("DepthwiseSeparable",),
    points={"images": 2, "strides and sound": 1, "parameters": 1},
    difficulty=2,
    minutes=15,
    core=False,
    hints=(
        "Two layers, one after the other: the first looks at neighbours and keeps channels apart, "
        "the second looks at channels and keeps places apart.",
        "groups of a convolution says into how many separate parts the channels are cut. How many "
        "parts are there when each channel is alone?",
        "Padding kernel // 2 keeps the size for an odd kernel. Which of the two layers has the "
        "stride? And which has a kernel of one place?",
    ),
    library=("undiffuse.blocks.DepthwiseSeparable", "undiffuse.unet"),
)


def run_separable(answer, channels, options, x, seed):
    """The layer's output with random weights."""
    return filled(answer.DepthwiseSeparable(*channels, **options), seed, x.dtype)(x)


def parameters_of(answer, channels, options):
    """Names and shapes of what is learnt."""
    module = answer.DepthwiseSeparable(*channels, **options)
    return {name: list(p.shape) for name, p in module.named_parameters()}


def strides_of(answer, channels, options):
    """Which of the two layers has the stride."""
    module = answer.DepthwiseSeparable(*channels, **options)
    return {name: list(getattr(module, name).stride) for name in ("depthwise", "pointwise")}


@separable.cases
def _(draw: Draw):
    def case(name, group, a, b, *shape, dtype="float32", **options):
        x = draw.normal(shape[0], a, *shape[1:], dtype=dtype)
        args = ((a, b), options, x, draw.integers(0, 2**31))
        return Case(name, args, group=group, driver=run_separable)

    yield case("twice as many channels", "images", 4, 8, 2, 7, 6)
    yield case("fewer channels, a wide kernel", "images", 6, 4, 3, 8, 9, kernel=5)
    yield case("as many, float64, a batch of one", "images", 5, 5, 1, 5, 5, dtype="float64")
    yield case("stride 2, odd sizes", "strides and sound", 3, 6, 2, 9, 7, stride=2)
    yield case("sound", "strides and sound", 4, 8, 4, 11, dims=1)
    yield case("sound, stride 3, wide kernel", "strides and sound", 3, 6, 2, 17, dims=1, kernel=7,
               stride=3)  # fmt: skip
    a = draw.integers(3, 9)
    yield Case("of images", ((a, 2 * a), {"kernel": 5}), group="parameters", driver=parameters_of)
    yield Case("of sound", ((a, 3 * a), {"dims": 1}), group="parameters", driver=parameters_of)
    yield Case("who has the stride", ((3, 4), {"stride": 2}), group="strides and sound",
               driver=strides_of)  # fmt: skip


# --- 10.3 ----------------------------------------------------------------------------------

front = Exercise(
    id="10.3",
    title="Which are worth their price?",
    names=("pareto_front",),
    points={"two columns": 1, "ties": 1, "more columns": 1},
    difficulty=2,
    minutes=15,
    core=True,
    hints=(
        "Take two points. When would nobody ever choose the second? Write that as two conditions, "
        "one with 'everywhere' and one with 'somewhere'.",
        "points[:, None] and points[None] compare all pairs at once: (N, 1, D) with (1, N, D).",
        "Two equal points: is one of them better than the other anywhere? Then neither may remove "
        "the other.",
    ),
    library=("undiffuse.costs.pareto_front",),
)


@front.cases
def _(draw: Draw):
    def mixed(n, d, dtype="float32"):
        return draw.uniform(0.5, 9.0, n, d, dtype=dtype)

    yield Case("random", (mixed(40, 2),), group="two columns")
    yield Case("few, float64", (mixed(5, 2, "float64"),), group="two columns")
    yield Case("one point", (mixed(1, 2),), group="two columns")
    way = draw.uniform(0.2, 1.0, 9).cumsum(0)
    chain = torch.stack([way, way.flip(0)], 1)[draw.distinct(0, 9, 9)]
    yield Case("none is beaten", (chain,), group="two columns")
    whole = draw.integers(1, 6, 30, 2).float()
    yield Case("whole numbers", (whole,), group="ties")
    p = mixed(1, 2)
    worse = p + torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [-0.25, 3.0]])
    yield Case("equal in one column", (torch.cat([worse, p])[draw.distinct(0, 5, 5)],),
               group="ties")  # fmt: skip
    yield Case("all the same", (p.expand(4, 2).clone(),), group="ties")
    yield Case("three columns", (mixed(30, 3),), group="more columns")
    yield Case("four columns of whole numbers", (draw.integers(1, 4, 25, 4).float(),),
               group="more columns")  # fmt: skip
    yield Case("one column", (draw.integers(2, 5, 8, 1).float(),), group="more columns")


# --- 10.4 ----------------------------------------------------------------------------------

target = Exercise(
    id="10.4",
    title="Two steps in one",
    names=("distillation_target",),
    points={"values": 2, "to the data": 1, "calls of the teacher": 1},
    difficulty=3,
    minutes=30,
    core=True,
    hints=(
        "First walk: a DDIM step from t to t_mid with the teacher's x0, then one from t_mid to "
        "t_next. You need the noise estimate of each: eps = (x - alpha x0) / sigma.",
        "Then ask: a student stands at x_t and takes ONE DDIM step to t_next. Write the step with "
        "an unknown x0, and eps expressed by x_t and that x0. It is linear in x0.",
        "With k = sigma(t_next) / sigma(t) the single step is k x_t + (alpha(t_next) - k alpha(t)) "
        "x0. Set it equal to where the two steps ended, and solve.",
        "The student learns from the target, and no gradient goes into the teacher.",
    ),
    library=("undiffuse.distillation.distillation_target",),
)


class Teacher:
    """A smooth ``(x, t, cond) -> x0`` that keeps what it was called with."""

    def __init__(self, a: float, b: float) -> None:
        self.a, self.b, self.calls = a, b, []
        self.gain = torch.ones((), requires_grad=True)

    def __call__(self, x, t, cond=None):
        t = torch.as_tensor(t)
        self.calls.append((list(t.shape), str(t.dtype), cond))
        t = t.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) if t.ndim else t.to(x.dtype)
        return self.gain.to(x.dtype) * torch.tanh(self.a * x + self.b * torch.cos(3 * t)) * (1 + t)


def a_teacher(a: float, b: float) -> Teacher:
    """For ``Given``."""
    return Teacher(a, b)


def waves(sine: bool):
    """For ``Given``: sine or cosine of 1.3 t, of a schedule that preserves variance."""
    return lambda t: torch.sin(1.3 * t) if sine else torch.cos(1.3 * t)


def straight(rising: bool):
    """For ``Given``: t or 1 - t."""
    return lambda t: t.clone() if rising else 1 - t


def run_target(answer, teacher, x_t, ts, alpha, sigma, cond, count):
    """The target; with ``count`` also how the teacher was called and whether a graph is left."""
    found = answer.distillation_target(teacher, x_t, *ts, alpha, sigma, cond)
    if not count:
        return found.detach()
    return {
        "target": found.detach(),
        "keeps a graph": found.requires_grad,
        "calls": len(teacher.calls),
        "time shapes": [c[0] for c in teacher.calls],
        "time dtypes": [c[1] for c in teacher.calls],
        "conds": [None if c[2] is None else c[2].tolist() for c in teacher.calls],
    }


@target.cases
def _(draw: Draw):
    def case(name, group, *shape, schedule="waves", data=False, dtype="float32", cond=None,
             count=False):  # fmt: skip
        teacher = Given(a_teacher, draw.uniform(0.5, 0.9), draw.uniform(0.2, 0.6))
        b = shape[0]
        t = draw.uniform(0.75, 0.95, b, dtype=dtype)
        mid = draw.uniform(0.5, 0.65, b, dtype=dtype)
        end = 0 * t if data else draw.uniform(0.15, 0.35, b, dtype=dtype)
        levels = {
            "waves": (Given(waves, False), Given(waves, True)),
            "straight": (Given(straight, False), Given(straight, True)),
        }[schedule]
        x = draw.normal(*shape, dtype=dtype, mean=0.4)
        args = (teacher, x, (t, mid, end), *levels, cond, count)
        # float32: the division by a small step costs digits
        tol = Tol(1e-4, 1e-4) if dtype == "float32" else Tol(1e-8, 1e-8)
        return Case(name, args, group=group, driver=run_target, tol=tol)

    yield case("images", "values", 3, 1, 5, 4)
    yield case("sound, float64", "values", 2, 2, 9, dtype="float64")
    yield case("a straight path, as many samples as numbers", "values", 4, 4, schedule="straight")
    yield case("images to the data", "to the data", 3, 2, 4, 3, data=True)
    yield case("straight, float64, to the data", "to the data", 1, 7, schedule="straight",
               data=True, dtype="float64")  # fmt: skip
    yield case("with labels", "calls of the teacher", 3, 5, cond=draw.integers(0, 9, 3), count=True)
    yield case("without", "calls of the teacher", 2, 1, 6, schedule="straight", count=True)


# --- 10.5 ----------------------------------------------------------------------------------

skip = Exercise(
    id="10.5",
    title="Where nothing is left to do",
    names=("consistency_skip",),
    points={"values": 2, "boundary": 1},
    difficulty=2,
    minutes=12,
    core=True,
    hints=(
        "At t = sigma_min the function has to give its input back, whatever the network says. What "
        "must the two factors be there?",
        "Both formulas are EDM's with t - sigma_min where t stood, but not everywhere: read which "
        "t was left alone.",
        "Of the two, which has a root?",
    ),
    library=("undiffuse.consistency.consistency_skip",),
)


def at_boundary(answer, x, network, sigma_data, sigma_min):
    """The consistency function at the boundary, for whatever a network says."""
    level = torch.tensor(sigma_min, dtype=x.dtype)
    c_skip, c_out = answer.consistency_skip(level, sigma_data, sigma_min)
    return {"f": c_skip * x + c_out * network, "c_skip": c_skip, "c_out": c_out}


@skip.cases
def _(draw: Draw):
    def numbers():
        return draw.uniform(0.6, 1.4), draw.uniform(0.05, 0.2)

    data, low = numbers()
    yield Case("levels", (draw.uniform(0.4, 9.0, 7), data, low), group="values")
    data, low = numbers()
    t = draw.uniform(0.3, 3.0, 4, dtype="float64")
    yield Case("float64, near the end", (t, data, low), group="values")
    data, low = numbers()
    yield Case("two axes", (draw.uniform(0.5, 60.0, 3, 2), data, low), group="values")
    data, low = numbers()
    yield Case("a number without axes", (draw.uniform(0.5, 2.0, 1, dtype="float64")[0], data, low),
               group="values")  # fmt: skip
    for dtype in ("float32", "float64"):
        data, low = numbers()
        args = (draw.normal(3, 4, dtype=dtype), draw.normal(3, 4, dtype=dtype, std=30), data, low)
        yield Case(f"f(x, sigma_min) = x, {dtype}", args, group="boundary", driver=at_boundary)


# --- 10.6 ----------------------------------------------------------------------------------

stem = Exercise(
    id="10.6",
    title="Pixels into channels",
    names=("PatchStem",),
    points={"fold": 1, "unfold": 1, "odd sizes": 1},
    difficulty=2,
    minutes=20,
    core=False,
    hints=(
        "Cut height into (H / p, p) and width into (W / p, p) by reshape. Now each pixel has six "
        "numbers as its address. Which three of them make the new channel, in which order?",
        "permute brings the three together; a second reshape joins them. The way back is the same "
        "in reverse order.",
        "For sizes that p does not divide, add rows below and columns at the right, copies of the "
        "last ones (F.pad with mode='replicate'), and cut them off again at the end.",
    ),
    library=("undiffuse.blocks.PatchStem", "undiffuse.unet"),
)


def fold(answer, patch, x):
    """Folded."""
    return answer.PatchStem(patch).fold(x)


def unfold(answer, patch, x, size):
    """Unfolded."""
    return answer.PatchStem(patch).unfold(x, size)


def there_and_back(answer, patch, x):
    """The round trip, and the size between."""
    module = answer.PatchStem(patch)
    kept = x.clone()
    folded = module.fold(x)
    return {
        "folded": folded,
        "back": module.unfold(folded, x.shape[2:]),
        "given": bool((x == kept).all()),
    }


@stem.cases
def _(draw: Draw):
    yield Case("patch 2", (2, draw.normal(2, 3, 6, 4)), group="fold", driver=fold)
    yield Case("patch 3, float64", (3, draw.normal(1, 2, 6, 9, dtype="float64")), group="fold",
               driver=fold)  # fmt: skip
    yield Case("as many channels as rows", (2, draw.normal(4, 4, 4, 4)), group="fold", driver=fold)
    yield Case("patch 1", (1, draw.normal(2, 3, 5, 4)), group="fold", driver=fold)
    yield Case("back, patch 2", (2, draw.normal(2, 12, 3, 5), (6, 10)), group="unfold",
               driver=unfold)  # fmt: skip
    yield Case("back, patch 3", (3, draw.normal(3, 18, 2, 4), (6, 12)), group="unfold",
               driver=unfold)  # fmt: skip
    yield Case("back to an odd size", (2, draw.normal(2, 8, 3, 4), (5, 7)), group="odd sizes",
               driver=unfold)  # fmt: skip
    yield Case("both odd", (2, draw.normal(2, 2, 5, 7)), group="odd sizes", driver=there_and_back)
    yield Case("patch 4, one short, one over", (4, draw.normal(1, 1, 7, 9)), group="odd sizes",
               driver=there_and_back)  # fmt: skip


# --- 10.7 ----------------------------------------------------------------------------------

both = Exercise(
    id="10.7",
    title="Guidance in one call",
    names=("batched_cfg",),
    points={"values": 2, "one call": 2},
    difficulty=2,
    minutes=15,
    core=True,
    hints=(
        "The network does not mind how many samples it gets. What if x_t stood twice in the batch, "
        "once with its labels and once with the label for none?",
        "Time may be a number, or a tensor with one for each sample: then it has to stand twice as "
        "well.",
        "chunk(2) takes the answer apart again. Which half was which? The guided prediction is "
        "none + scale (cond - none), with 'none' the one without a label.",
    ),
    library=("undiffuse.guidance.batched_cfg",),
)


class Conditional:
    """A toy ``(x, t, cond) -> prediction`` that notes its calls."""

    def __init__(self, a: float, null: int) -> None:
        self.a, self.null = a, null
        self.sizes, self.labels, self.times = [], [], []

    def __call__(self, x, t, cond):
        time = torch.as_tensor(t, dtype=x.dtype)
        time = time.expand(len(x)) if time.ndim == 0 else time
        if not time.shape == cond.shape == x.shape[:1]:
            raise ValueError(f"{len(x)} samples, times {tuple(time.shape)}, {len(cond)} labels")
        self.sizes.append(len(x))
        self.labels.append(sorted(cond.tolist()))
        self.times.append(sorted(round(v, 4) for v in time.tolist()))
        column = [1] * (x.ndim - 1)
        level = torch.cos(cond.to(x.dtype) * 0.7).reshape(-1, *column)
        return torch.tanh(self.a * x + level) * (1 + time.reshape(-1, *column))


def conditional(a: float, null: int) -> Conditional:
    """For ``Given``."""
    return Conditional(a, null)


def run_cfg(answer, model, x_t, t, cond, scale, count):
    """The guided prediction; with ``count`` also the calls, and whether inputs were changed."""
    kept = x_t.clone(), cond.clone()
    found = answer.batched_cfg(model, x_t, t, cond, model.null, scale)
    if not count:
        return found
    return {
        "prediction": found,
        "batches": model.sizes,
        "labels": model.labels,
        "times": model.times,
        "inputs unchanged": bool((x_t == kept[0]).all() and (cond == kept[1]).all()),
    }


@both.cases
def _(draw: Draw):
    def case(name, group, *shape, each=False, dtype="float32", null=10, count=False, scale=None):
        x = draw.normal(*shape, dtype=dtype)
        t = draw.uniform(0.2, 0.9, shape[0], dtype=dtype) if each else draw.uniform(0.2, 0.9)
        cond = draw.distinct(0, null, shape[0])
        model = Given(conditional, draw.uniform(0.4, 0.9), null)
        scale = draw.uniform(1.5, 4.0) if scale is None else scale
        return Case(name, (model, x, t, cond, scale, count), group=group, driver=run_cfg)

    yield case("images, one time", "values", 3, 1, 4, 5)
    yield case("sound, a time for each", "values", 4, 2, 4, each=True)
    yield case("float64, below 1", "values", 2, 6, dtype="float64", scale=0.4)
    yield case("a batch of one", "values", 1, 3, each=True, null=4)
    yield case("how often, one time", "one call", 3, 5, count=True)
    yield case("how often, a time for each", "one call", 4, 1, 4, each=True, null=7, count=True)


# --- 10.8 ----------------------------------------------------------------------------------

codec = Exercise(
    id="10.8",
    title="Diffusion somewhere smaller",
    names=("LatentCodec",),
    points={"codes and scale": 2, "fit": 1, "kept with the weights": 1},
    difficulty=3,
    minutes=30,
    core=False,
    hints=(
        "The scale multiplies codes on their way out of encode. What has to happen to them first "
        "in decode?",
        "set_scale wants the deviation of codes as the encoder gives them. If a scale is already "
        "set, encode would give others: set it to 1 first, or call the encoder itself.",
        "self.scale is a buffer, so that it is saved with the weights. Change its value with "
        "self.scale.copy_(...) or fill_(...); an assignment of a number would lose that.",
        "fit is the training loop of 05.2 with another loss: how far is decode(encode(x)) from x? "
        "Only when it is done is the scale worth setting.",
    ),
    library=("undiffuse.latents.LatentCodec",),
)


def made_codec(answer, channels, seed):
    """The learner's codec with random weights, in float64."""
    codec = answer.LatentCodec(*channels)
    have = {name for name, _ in codec.named_children()}
    if have != {"encoder", "decoder"}:
        raise AttributeError(f"the constructor is given and makes encoder and decoder, not {have}")
    return filled(codec, seed, torch.float64)


def codes(answer, channels, seed, x, other):
    """What the scale does to codes, set once, and again of other images."""
    codec = made_codec(answer, channels, seed)
    with torch.no_grad():
        told = codec.set_scale(x)
        z = codec.encode(x)
        found = {
            "told": float(told),
            "scale": codec.scale.clone(),
            "codes": z,
            "one alone": codec.encode(x[:1]),
            "decoded": codec.decode(z),
            "another code": codec.decode(torch.ones_like(z)),
        }
        codec.set_scale(other)
        return found | {"set again": codec.scale.clone()}


def trained(answer, channels, seed, x, steps, generator, options):
    """Losses and codes after a few steps, and what is left of the generator."""
    codec = made_codec(answer, channels, seed)
    losses = codec.fit(x, steps, generator, **options)
    with torch.no_grad():
        z = codec.encode(x)
    return {
        "losses": torch.tensor([float(v) for v in losses], dtype=torch.float64),
        "codes": z,
        "scale": codec.scale.clone(),
        "next draw": torch.randint(10**6, (1,), generator=generator),
    }


def saved(answer, channels, seed, x):
    """The state after the scale is set, put into a new codec."""
    codec = made_codec(answer, channels, seed)
    codec.set_scale(x)
    fresh = answer.LatentCodec(*channels).double()
    fresh.load_state_dict(codec.state_dict())
    with torch.no_grad():
        return {"keys": sorted(codec.state_dict()), "codes": fresh.encode(x)}


@codec.cases
def _(draw: Draw):
    def images(n, c=1):
        return draw.normal(n, c, 8, 8, dtype="float64", std=0.7, mean=0.2)

    seed = draw.integers(0, 2**31)
    near = Tol(1e-7, 1e-7)
    yield Case("grey images", ((1, 3, 4), seed, images(6), images(4)), group="codes and scale",
               driver=codes, tol=near)  # fmt: skip
    yield Case("two channels", ((2, 2, 3), seed + 1, images(5, 2), images(3, 2)),
               group="codes and scale", driver=codes, tol=near)  # fmt: skip
    yield Case("as it comes", ((), seed + 5, images(3), images(2)), group="codes and scale",
               driver=codes, tol=near)  # fmt: skip
    args = ((1, 2, 4), seed + 2, images(9), 4, draw.seed(), {"batch": 3, "lr": 0.01})
    yield Case("four steps", args, group="fit", driver=trained, tol=Tol(1e-5, 1e-5))
    args = ((1, 2, 3), seed + 3, images(5), 1, draw.seed(), {"batch": 8, "lr": 0.02})
    yield Case("one step, a large batch", args, group="fit", driver=trained, tol=Tol(1e-5, 1e-5))
    args = ((1, 2, 3), seed + 6, images(5), 3, draw.seed(), {})
    yield Case("a batch and a rate as they come", args, group="fit", driver=trained,
               tol=Tol(1e-5, 1e-5))  # fmt: skip
    yield Case("a file", ((1, 3, 4), seed + 4, images(7)), group="kept with the weights",
               driver=saved, tol=near)  # fmt: skip
