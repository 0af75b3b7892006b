"""Checks of lesson 04, the U-Net: exercises, cases and drivers; the answers are elsewhere.

A driver builds the learner's module by its given constructor, fills every parameter with random
numbers that depend on its name and the case only, and returns what forward (and backward) gives.
Sizes are chosen so that wrong broadcasts and reshapes run without an error.
"""

import zlib

import torch
from torch import nn

from coursework.exercise import Case, Draw, Exercise, Given, Lesson, Tol

LESSON = Lesson("04", provides=("undiffuse.data", "undiffuse.plots", "undiffuse.schedules"))


def filled(module: nn.Module, seed: int, dtype: torch.dtype, gain: float = 1.0) -> nn.Module:
    """``module`` with random parameters, none zero: matrices of about unit gain times ``gain``.

    Each parameter's numbers follow from its own name and ``seed``, whatever else the module has.
    """
    module.to(dtype)
    with torch.no_grad():
        for name, p in module.named_parameters():
            g = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
            draw = torch.randn(p.shape, generator=g, dtype=torch.float64)
            if p.ndim > 1:
                draw = gain * draw / p[0].numel() ** 0.5
            elif name.endswith("weight"):
                draw = 1 + 0.3 * draw
            else:
                draw = 0.5 * draw
            p.copy_(draw)
    return module


def with_parts(module: nn.Module, *parts: str) -> nn.Module:
    """``module``, if it has the parts that its given constructor makes."""
    have = {name for name, _ in module.named_children()}
    if have != set(parts):
        raise AttributeError(
            f"the constructor is given and should stay: it makes {', '.join(sorted(parts))}; "
            f"yours has {', '.join(sorted(have)) or 'nothing'}"
        )
    return module


def tracked(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(leaf, the same values one step on): changing the second in place is allowed to autograd."""
    leaf = x.clone().requires_grad_()
    return leaf, leaf * 1.0


def probed(out: torch.Tensor, seed: int) -> torch.Tensor:
    """A number that depends on every element of ``out`` in its own way, to go backward from."""
    g = torch.Generator().manual_seed(seed)
    return (out * torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype)).sum()


# --- 04.1 ----------------------------------------------------------------------------------

timestep_embedding = Exercise(
    id="04.1",
    title="A time as many waves",
    names=("timestep_embedding",),
    points={"steps": 1, "continuous times": 1, "odd dim": 1},
    difficulty=2,
    minutes=15,
    hints=(
        "Make the frequencies first: a vector of dim // 2 numbers that starts with 1 and falls by "
        "the same factor each time. What is that factor, if the one after the last would be "
        "1 / max_period?",
        "All products of B times and dim // 2 frequencies: one of the two needs an axis of length "
        "1 behind it, the other before it.",
        "All cosines stand side by side, then all sines. For an odd dim one column is missing at "
        "the end; torch.nn.functional.pad adds zeros there.",
    ),
    library=("undiffuse.blocks", "undiffuse.unet"),
)


@timestep_embedding.cases
def _(draw: Draw):
    # float32 angles of several hundred radians are only known to about 1e-4.
    far, near = Tol(rtol=0, atol=1e-3), Tol(rtol=0, atol=1e-4)
    t = draw.distinct(1, 1000, 5)
    t[2] = 0
    yield Case("integer steps", (t, 16), group="steps", tol=far)
    t = draw.distinct(3, 60, 4)
    yield Case("as many steps as frequencies", (t, 8), group="steps", tol=near)
    yield Case("one int32 step", (draw.distinct(3, 60, 1).int(), 10), group="steps", tol=near)
    between = "continuous times"
    t = draw.uniform(0.3, 20, 6)
    yield Case("float32, as many as frequencies", (t, 12), group=between, tol=near)
    yield Case("float64", (draw.uniform(0, 999, 5, dtype="float64"), 14), group=between)
    t, period = draw.uniform(0, 40, 3, dtype="float64"), draw.uniform(30.0, 300.0)
    yield Case("another period", (t, 6, period), group=between)
    t = draw.uniform(0.3, 20, 4)
    yield Case("float32, dim 9", (t, 9), group="odd dim", tol=near)
    t = draw.uniform(0, 999, 2, dtype="float64")
    yield Case("float64, dim 3", (t, 3), group="odd dim")


# --- 04.2 ----------------------------------------------------------------------------------

res_block = Exercise(
    id="04.2",
    title="A residual block that knows the time",
    names=("ResBlock",),
    points={"output": 2, "sizes and dtypes": 1, "gradients": 1},
    difficulty=2,
    minutes=20,
    hints=(
        "Read the drawing from left to right and write down what stands there. Every convolution "
        "gets what a normalisation and then a SiLU have prepared.",
        "self.emb makes (B, out_channels) of the embedding. To be added to (B, out_channels, H, W) "
        "it needs two more axes of length 1 at its end.",
        "The shortcut carries x as it came in. Where the number of channels changes, self.skip is "
        "what makes both ends fit.",
    ),
    library=("undiffuse.blocks", "undiffuse.unet"),
)


def run_res_block(answer, channels, emb_dim, x, emb, seed):
    """The block's output with random weights."""
    block = with_parts(
        answer.ResBlock(*channels, emb_dim), "norm1", "conv1", "emb", "norm2", "conv2", "skip"
    )
    return filled(block, seed, x.dtype)(x, emb)


def res_block_gradients(answer, channels, emb_dim, x, emb, seed):
    """Gradients of a number made of the output, with respect to both inputs."""
    block = filled(answer.ResBlock(*channels, emb_dim), seed, x.dtype)
    (x, x_on), (emb, emb_on) = tracked(x), tracked(emb)
    probed(block(x_on, emb_on), seed).backward()
    return {"for x": x.grad, "for emb": emb.grad}


@res_block.cases
def _(draw: Draw):
    def case(name, group, channels, emb_dim, *shape, driver=run_res_block, dtype="float64"):
        x = draw.normal(shape[0], channels[0], *shape[1:], dtype=dtype, mean=0.4, std=1.5)
        emb = draw.normal(shape[0], emb_dim, dtype=dtype)
        args = channels, emb_dim, x, emb, draw.integers(0, 2**31)
        return Case(name, args, driver=driver, group=group)

    yield case("8 channels stay 8", "output", (8, 8), 10, 2, 6, 9)
    yield case("8 channels to 12", "output", (8, 12), 10, 3, 7, 5)
    yield case("as wide and high as channels and batch", "sizes and dtypes", (8, 8), 8, 4, 4, 8)
    yield case("a batch of one", "sizes and dtypes", (12, 4), 6, 1, 5, 5)
    yield case("float32", "sizes and dtypes", (4, 8), 8, 3, 8, 8, dtype="float32")
    yield case("gradients, 8 to 8", "gradients", (8, 8), 6, 3, 4, 6, driver=res_block_gradients)
    yield case("gradients, 8 to 12", "gradients", (8, 12), 6, 2, 5, 3, driver=res_block_gradients)


# --- 04.3 ----------------------------------------------------------------------------------

attention = Exercise(
    id="04.3",
    title="Every place looks at every other",
    names=("SelfAttention2d",),
    points={"output": 2, "sizes and dtypes": 1, "gradients": 1},
    difficulty=3,
    minutes=30,
    hints=(
        "First only reshape: from (B, 3C, H, W) to three tensors of shape (B, heads, C / heads, "
        "places). The channels come in the order: which of the three, which head, which channel "
        "of the head. A reshape can split an axis only in that order.",
        "The scores are a (places, places) matrix for each sample and head: how well the query of "
        "row i fits the key of column j. Which axis must the matrix product sum over? It is the "
        "length of that axis whose root the scores are divided by.",
        "Each query shares out one unit of attention among all keys. Along which axis of the "
        "scores does the softmax run, then?",
        "On the way back the channels must be side by side again before the reshape to x.shape: "
        "first transpose to (B, heads, C / heads, places).",
    ),
    library=("undiffuse.blocks", "undiffuse.unet"),
)


def run_attention(answer, x, arguments, seed, gain=1.0):
    """The output with random weights; ``gain`` makes the scores large."""
    block = with_parts(answer.SelfAttention2d(x.shape[1], **arguments), "norm", "qkv", "proj")
    return filled(block, seed, x.dtype, gain)(x)


def attention_gradient(answer, x, arguments, seed):
    """Gradient of a number made of the output, with respect to x."""
    block = filled(answer.SelfAttention2d(x.shape[1], **arguments), seed, x.dtype)
    x, on = tracked(x)
    probed(block(on), seed).backward()
    return x.grad


@attention.cases
def _(draw: Draw):
    def x(*shape, dtype="float64"):
        return draw.normal(*shape, dtype=dtype, mean=0.4, std=1.5)

    def seed():
        return draw.integers(0, 2**31)

    run, sizes = run_attention, "sizes and dtypes"
    args = x(2, 8, 3, 5), {"heads": 2}, seed()
    yield Case("two heads", args, driver=run, group="output")
    args = x(3, 16, 2, 2), {}, seed()
    yield Case("four heads, as many places as channels a head", args, driver=run, group="output")
    args = x(1, 12, 4, 3), {"heads": 3}, seed()
    yield Case("a batch of one, three heads", args, driver=run, group=sizes)
    args = x(2, 8, 3, 3, dtype="float32"), {"heads": 4}, seed()
    yield Case("float32", args, driver=run, group=sizes, tol=Tol(2e-4, 2e-4))
    args = x(2, 8, 1, 7), {"heads": 2}, seed(), 60.0
    yield Case("large scores", args, driver=run, group=sizes)
    args = x(2, 8, 2, 3), {"heads": 2}, seed()
    yield Case("gradient", args, driver=attention_gradient, group="gradients")


# --- 04.4 ----------------------------------------------------------------------------------

resampling = Exercise(
    id="04.4",
    title="Half the size, and back to where it was",
    names=("Downsample", "Upsample"),
    points={"Downsample": 2, "Upsample": 2},
    difficulty=2,
    minutes=20,
    hints=(
        "Count for five places in a row: a kernel of 3 that moves by 2 and may stand with its "
        "centre on places 0, 2 and 4. On which sides does it stick out, and by how much? The same "
        "for six places.",
        "torch.nn.functional.pad takes the last axis first: (left, right, top, bottom).",
        "Do not work out a factor for the way up. F.interpolate accepts the size that shall come "
        "out, so that 15 places can become 29 as well as 30.",
    ),
    library=("undiffuse.blocks", "undiffuse.unet"),
)


def run_downsample(answer, x, seed):
    """Half the size, with random weights."""
    return filled(with_parts(answer.Downsample(x.shape[1]), "conv"), seed, x.dtype)(x)


def run_upsample(answer, x, size, seed):
    """Back to ``size``, with random weights."""
    return filled(with_parts(answer.Upsample(x.shape[1]), "conv"), seed, x.dtype)(x, size)


@resampling.cases
def _(draw: Draw):
    down, up = run_downsample, run_upsample

    def x(*shape, dtype="float64"):
        return draw.normal(*shape, dtype=dtype, mean=0.8)

    def seed():
        return draw.integers(0, 2**31)

    group = {"driver": down, "group": "Downsample"}
    yield Case("down: 6 x 8", (x(2, 3, 6, 8), seed()), **group)
    yield Case("down: 7 x 5", (x(3, 2, 7, 5), seed()), **group)
    yield Case("down: 9 x 4, a batch of one", (x(1, 4, 9, 4), seed()), **group)
    yield Case("down: float32, 5 x 6", (x(2, 2, 5, 6, dtype="float32"), seed()), **group)
    group = {"driver": up, "group": "Upsample"}
    yield Case("up: 3 x 4 to 6 x 8", (x(2, 3, 3, 4), (6, 8), seed()), **group)
    yield Case("up: 4 x 3 to 7 x 5", (x(3, 2, 4, 3), (7, 5), seed()), **group)
    yield Case("up: 5 x 2 to 9 x 4, a batch of one", (x(1, 4, 5, 2), (9, 4), seed()), **group)
    args = x(2, 2, 3, 3, dtype="float32"), (5, 6), seed()
    yield Case("up: float32, 3 x 3 to 5 x 6", args, **group)


# --- 04.5 ----------------------------------------------------------------------------------

unet = Exercise(
    id="04.5",
    title="The whole network",
    names=("UNet",),
    points={"28 and 30": 2, "odd sizes": 2, "labels": 1, "gradients": 1},
    difficulty=3,
    minutes=40,
    uses=("04.1", "04.2", "04.3", "04.4"),
    hints=(
        "Follow the table from top to bottom. You need one list: whatever a block of the way down "
        "gives is appended to it, and each block of the way up takes one from its end.",
        "Each block of the way up takes two things side by side: h, then the last skip of the "
        "list. Channels are axis 1.",
        "Before the blocks of a finer level, h must have the size of the skip that comes next: "
        "look at the end of the list without taking it.",
        "The times in t lie between 0 and 1, and the embedding was made for numbers up to 1000.",
    ),
    library=("undiffuse.blocks", "undiffuse.unet"),
)

UNET_PARTS = (
    "time_mlp conv_in down downsample mid up upsample norm_out conv_out".split()  # noqa: SIM905
)


def build_unet(answer, arguments, seed, dtype):
    """The learner's U-Net with random weights; labels only where it was asked for them."""
    parts = [*UNET_PARTS, *["labels"] * bool(arguments.get("classes"))]
    return filled(with_parts(answer.UNet(**arguments), *parts), seed, dtype)


def run_unet(answer, arguments, x, t, cond, seed):
    """The network's output with random weights."""
    network = build_unet(answer, arguments, seed, x.dtype)
    return network(x, t) if cond is None else network(x, t, cond)


def unet_gradients(answer, arguments, x, t, cond, seed):
    """Gradients of a number made of the output, for x and for t."""
    network = build_unet(answer, arguments, seed, x.dtype)
    (x, x_on), (t, t_on) = tracked(x), tracked(t)
    probed(network(x_on, t_on, cond), seed).backward()
    return {"for x": x.grad, "for t": t.grad}


@unet.cases
def _(draw: Draw):
    small = {"channels": (8, 12, 12), "heads": 2}

    def case(
        name, group, *shape, classes=0, driver=run_unet, dtype="float64", more=small, tol=None
    ):
        x = draw.normal(*shape, dtype=dtype)
        # Near 0 and far from each other: sines of 1000 t then differ, and repeat nowhere.
        t = (draw.distinct(1, 40, shape[0]) / 50 + draw.uniform(0.001, 0.015, shape[0])).to(x.dtype)
        cond = draw.distinct(0, classes, shape[0]) if classes else None
        more = {**more, "classes": classes} if classes else more
        args = more, x, t, cond, draw.integers(0, 2**31)
        return Case(name, args, driver=driver, group=group, tol=tol or Tol())

    yield case("28 x 28", "28 and 30", 2, 1, 28, 28)
    yield case("30 x 30", "28 and 30", 2, 1, 30, 30)
    loose = Tol(2e-3, 2e-3)
    yield case(
        "as it comes, float32, 12 x 12", "28 and 30", 3, 1, 12, 12, dtype="float32", more={},
        tol=loose,
    )  # fmt: skip
    yield case("29 x 31", "odd sizes", 2, 1, 29, 31)
    four = {"channels": (4, 4, 8, 8), "in_channels": 3, "heads": 4}
    yield case("a batch of one, in colour, four levels", "odd sizes", 1, 3, 7, 9, more=four)
    yield case("labels, 13 x 10", "labels", 3, 1, 13, 10, classes=5)
    yield case("labels left out, 9 x 6", "labels", 2, 1, 9, 6, more={**small, "classes": 4})
    yield case("gradients, 9 x 7", "gradients", 2, 1, 9, 7, driver=unet_gradients)


# --- 04.6 ----------------------------------------------------------------------------------

zero_init = Exercise(
    id="04.6",
    title="A branch that starts silent",
    names=("zero_init_",),
    points={"layers": 1, "modules with parts": 1},
    difficulty=1,
    minutes=10,
    core=False,
    hints=(
        "A parameter must be filled with zeros as it is, not replaced by a new one: an optimizer "
        "may hold it already. nn.init has a function for that, and it works without gradients.",
        "module.parameters() also walks through all parts inside. It has an argument that stops "
        "it from doing so.",
    ),
    library=("undiffuse.blocks", "undiffuse.unet"),
)


def conv(dims, inside, outside, **more):
    """A convolution, built beside the learner's code."""
    return (nn.Conv1d, nn.Conv2d)[dims - 1](inside, outside, 3, padding=1, **more)


def linear(inside, outside, **more):
    """A linear layer, built beside the learner's code."""
    return nn.Linear(inside, outside, **more)


class Scaled(nn.Module):
    """Two convolutions, and parameters of its own that scale and shift their output."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = conv(2, channels, channels), conv(2, channels, channels)
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.second(self.first(x)) + self.shift


def scaled(channels):
    """A module with parts, built beside the learner's code."""
    return Scaled(channels)


def zero_and_look(answer, module, x, seed):
    """What the module is after the call: its state, what it gives, and whether it can learn."""
    filled(module, seed, x.dtype)
    before = dict(module.named_parameters())
    returned = answer.zero_init_(module)
    after = dict(module.named_parameters())
    out = module(x)
    can_learn = out.requires_grad
    if can_learn:
        probed(out, seed).backward()
    return {
        "state": {k: v.detach().clone() for k, v in module.state_dict().items()},
        "output": out.detach(),
        "the same parameters as before": all(after[k] is v for k, v in before.items()),
        "all still learn": can_learn and all(p.requires_grad for p in after.values()),
        "gradients": {k: p.grad for k, p in before.items() if p.grad is not None},
        "returns the module": returned is module,
    }


@zero_init.cases
def _(draw: Draw):
    def case(name, group, x, maker, *args, **kwargs):
        args = Given(maker, *args, **kwargs), x, draw.integers(0, 2**31)
        return Case(name, args, driver=zero_and_look, group=group, mutates=(0,))

    x = draw.normal(2, 3, 5, 4)
    yield case("Conv2d", "layers", x, conv, 2, 3, 4)
    yield case("Conv1d", "layers", draw.normal(3, 2, 7), conv, 1, 2, 5)
    x = draw.normal(4, 6, dtype="float64")
    yield case("Linear without bias, float64", "layers", x, linear, 6, 3, bias=False)
    x = draw.normal(2, 4, 5, 6)
    yield case("parameters of its own beside two parts", "modules with parts", x, scaled, 4)


# --- 04.7 ----------------------------------------------------------------------------------

receptive_field = Exercise(
    id="04.7",
    title="How far one place sees",
    names=("receptive_field",),
    points={"plain": 1, "strides": 1, "all together": 1},
    difficulty=2,
    minutes=15,
    core=False,
    hints=(
        "Keep two numbers while you walk through the layers: how many input places are seen so "
        "far, and how many input places lie between two neighbours of the present layer.",
        "Before any layer, a place sees itself: 1. And neighbours are 1 apart.",
        "A kernel of k has k - 1 gaps. How long is a gap, in places of its own input, if the "
        "kernel is dilated? And how many input places is one place of its input worth?",
    ),
    library=("undiffuse.blocks", "undiffuse.unet"),
)


@receptive_field.cases
def _(draw: Draw):
    def layer(kernels=(3, 5, 7), strides=(1,), dilations=(1,)):
        return draw.pick(kernels), draw.pick(strides), draw.pick(dilations)

    yield Case("three layers", ([layer(), layer(), (4, 1, 1)],), group="plain")
    yield Case("one layer", ([(draw.integers(5, 12), 1, 1)],), group="plain")
    yield Case("no layer", ([],), group="plain")
    strided = [layer(strides=(2, 3)), layer(strides=(2, 3)), layer(), layer(strides=(2,)), layer()]
    yield Case("strides", (strided,), group="strides")
    # A kernel of 1 sees nothing new, but its stride counts for all that follow.
    yield Case("a stride of a kernel of 1", ([(1, 3, 1), layer(), layer()],), group="strides")
    dilated = [layer(dilations=(2,)), layer(dilations=(4, 5)), layer()]
    yield Case("dilations", (dilated,), group="all together")
    both = [layer(strides=(2, 3), dilations=(2, 3)), layer(strides=(2,)), layer(dilations=(3, 4))]
    yield Case("strides and dilations", (both,), group="all together")
