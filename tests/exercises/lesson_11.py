"""Checks of lesson 11, sound as waveforms: exercises, cases, drivers; the answers are elsewhere.

Sounds are noise, whose every sample is another number, with a mean that is not zero; lengths are
odd and differ from rates, channels and batch sizes. What draws at random is judged by its
distribution, with bounds seven standard errors wide: chance passes them less than once in a
million checks.
"""

import math
import zlib

import torch
from torch import nn

from coursework.exercise import Case, Draw, Exercise, Lesson, Tol

LESSON = Lesson(
    "11",
    provides=(
        "undiffuse.data",
        "undiffuse.plots",
        "undiffuse.blocks",
        "undiffuse.schedules",
        "undiffuse.results",
    ),
)
WIDE = 7.0  # standard errors
EXACT = Tol(2e-6, 2e-6)  # tells a full scale of 32767 from one of 32768


# --- 11.1 ----------------------------------------------------------------------------------

prepare_clip = Exercise(
    id="11.1",
    title="Any file becomes a clip",
    names=("prepare_clip",),
    points={"whole numbers": 1, "channels": 1, "rates": 2, "length and level": 1},
    difficulty=2,
    minutes=25,
    hints=(
        "One thing after another: numbers, channels, rate, length, level. Make a float64 array of "
        "numbers first; whole numbers know their full scale by their dtype.",
        "soundfile gives (samples, channels). Over which axis is the mean of the channels?",
        "resample_poly takes two whole numbers: it makes `up` times as many samples, filters, and "
        "keeps every `down`-th. Which fraction is target_rate / rate, in its lowest terms "
        "(math.gcd)?",
        "A signal that is too loud is divided by its largest absolute value, all of it, at the "
        "very end; one that is not stays as it is. What is the largest absolute value of silence?",
    ),
    library=("undiffuse.sound.prepare_clip",),
)


def as_stored(x: torch.Tensor, kind: str) -> torch.Tensor:
    """Samples in [-1, 1) as a file of ``kind`` holds them: int16, int32, uint8 or a float."""
    if kind == "uint8":
        return (x * 128 + 128).floor().to(torch.uint8)
    if kind.startswith("int"):
        return (x * 2 ** (int(kind[3:]) - 1)).floor().to(getattr(torch, kind))
    return x.to(getattr(torch, kind))


@prepare_clip.cases
def _(draw: Draw):
    def audio(*shape, kind="float32", top=0.9):
        return as_stored(draw.uniform(-0.6, top, *shape, dtype="float64"), kind)

    def case(name, group, x, rate, target_rate, length, numpy=False):
        args = (x.numpy() if numpy else x), rate, target_rate, length
        tol = Tol(2e-3, 2e-3) if group == "rates" else EXACT
        return Case(name, args, group=group, tol=tol, picture="curve")

    n = draw.integers(40, 60)
    group = "whole numbers"
    yield case("int16", group, audio(n, kind="int16"), 16000, 16000, n)
    yield case("int32, numpy", group, audio(n, kind="int32"), 8000, 8000, n, numpy=True)
    yield case("uint8, numpy", group, audio(n, kind="uint8"), 11025, 11025, n, numpy=True)
    loud = as_stored(draw.uniform(0.6, 0.98, 31, 2, dtype="float64"), "int16")
    group = "channels"
    yield case("stereo, float64", group, audio(51, 2, kind="float64"), 16000, 16000, 51)
    yield case("as many channels as samples", group, audio(3, 3), 8000, 8000, 3)
    yield case("loud stereo, int16, numpy", group, loud, 8000, 8000, 31, numpy=True)
    yield case("one channel with an axis of its own", group, audio(23, 1), 8000, 8000, 23)
    group = "rates"

    def tones(n, rate, target_rate, *shape, kind="float32"):
        """Two low tones, and one above what target_rate can hold, where there is room for it."""
        low, time = min(rate, target_rate) / 2, torch.arange(n, dtype=torch.float64) / rate
        pitches = [draw.uniform(0.1, 0.3) * low, draw.uniform(0.35, 0.6) * low]
        if rate > 1.6 * target_rate:
            pitches.append(draw.uniform(1.5, 0.95 * rate / 2 / low) * low)
        x = sum(
            draw.uniform(0.2, 0.3) * torch.sin(2 * math.pi * f * time + draw.uniform(0, 6))
            for f in pitches
        )
        x = x[:, None] * draw.uniform(0.3, 1.0, 1, *shape, dtype="float64") if shape else x
        return as_stored(x, kind)

    yield case("44.1 kHz to 16 kHz", group, tones(1301, 44100, 16000), 44100, 16000, 471)
    x = tones(901, 48000, 16000, kind="float64")
    yield case("48 kHz to 16 kHz, float64", group, x, 48000, 16000, 289)
    yield case("8 kHz to 16 kHz", group, tones(151, 8000, 16000), 8000, 16000, 331)
    x = tones(501, 22050, 8000, 2, kind="int16")
    yield case("stereo, int16, 22.05 kHz to 8 kHz", group, x, 22050, 8000, 190, numpy=True)
    group = "length and level"
    yield case("too short", group, audio(37), 16000, 16000, 60)
    yield case("too long", group, audio(77), 16000, 16000, 50)
    yield case("too long, and louder where it is cut off", group,
               torch.cat([audio(41), 3 + audio(20)]), 8000, 8000, 41)  # fmt: skip
    yield case("beyond 1", group, draw.normal(53, mean=-0.7, std=1.5), 16000, 16000, 53)
    quiet = 0.01 * draw.normal(29)
    yield case("quiet", group, quiet, 16000, 16000, 31)
    yield case("silent", group, torch.zeros(19, dtype=torch.int16), 22050, 16000, 21)


EDGE = 45  # output samples at which filters of different length may differ


@prepare_clip.judge
def _(case, got, expected):
    """Any good filter will do: away from its ends, a resampled clip may be off by 3 %."""
    from coursework.judge import compare

    alike = isinstance(got, torch.Tensor) and got.shape == expected.shape
    if case.group != "rates" or not alike or got.dtype != expected.dtype:
        return compare(got, expected, case.tol)
    _, rate, target_rate, length = case.args
    end = min(length, len(case.args[0]) * target_rate // rate) - EDGE
    error = (got - expected)[EDGE:end].abs()
    if bool(torch.isfinite(got).all()) and float(error.max()) <= 0.03 * float(expected.abs().max()):
        return None
    return (
        f"away from the ends, your clip is off by up to {float(error.max()):.3f}; tones below the "
        "Nyquist frequency have to stay as they are, and those above it to go"
    )


# --- 11.2 ----------------------------------------------------------------------------------

augment_audio = Exercise(
    id="11.2",
    title="More hits than were recorded",
    names=("augment_audio",),
    points={"gain": 1, "shift": 1, "polarity": 1, "each for itself": 1, "generator": 1},
    difficulty=2,
    minutes=20,
    core=False,
    reference_needed=False,
    hints=(
        "Three draws for each clip: a level in dB, a whole number of samples, and a sign. "
        "torch.rand and torch.randint of shape (B,) have them all.",
        "torch.rand lies between 0 and 1. Stretch it to lie between the two levels, while it is "
        "still in dB; only then make a factor of it. 20 dB are a factor of 10.",
        "A clip that starts k samples later: k zeros, then the clip without its last k samples. A "
        "loop over the batch is fine. Mind k = 0, and that randint leaves its upper bound out.",
        "The factor (B,) meets a batch (B, 1, L): it needs two axes of length 1 behind it.",
    ),
    library=("undiffuse.sound.augment_audio",),
)


def vary(answer, x, seeds, repeats, options):
    """Many calls on one generator; a few again from its seed, from another, and without any."""

    def many(seed, n):
        g = torch.Generator().manual_seed(seed)
        return [answer.augment_audio(x, g, **options) for _ in range(n)]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    out = many(seeds[0], repeats)
    disturbed = not torch.equal(before, torch.get_rng_state())
    if not all(isinstance(o, torch.Tensor) and o.shape == x.shape for o in out):
        return out[0]
    torch.manual_seed(2)
    return {
        "out": torch.stack(out),
        "again": torch.stack(many(seeds[0], 4)),
        "other": torch.stack(many(seeds[1], 4)),
        "without": torch.stack([answer.augment_audio(x, **options) for _ in range(2)]),
        "global generator moved": disturbed,
    }


@augment_audio.cases
def _(draw: Draw):
    still = {"max_shift": 0, "polarity": False}

    def case(name, group, batch, length, repeats, dtype="float32", **options):
        seeds = [draw.integers(0, 2**31), draw.integers(0, 2**31)]
        x = draw.normal(batch, 1, length, dtype=dtype, mean=0.3)
        args = x, seeds, repeats, options
        return Case(name, args, driver=vary, group=group, picture="none")

    low = draw.uniform(-30.0, -24.0)
    yield case("gain alone", "gain", 5, 12, 60, gain_db=(low, 2.0), **still)
    yield case("always as loud", "gain", 4, 9, 3, "float64", gain_db=(-6.5, -6.5), **still)
    quiet = {"gain_db": (-3.0, -3.0), "polarity": False}
    yield case("shift alone", "shift", 4, 13, 64, max_shift=3, **quiet)
    # So many that a draw which is rounded, half as often 0 or max_shift, is told apart.
    yield case("shift, float64", "shift", 8, 8, 180, "float64", max_shift=2, **quiet)
    yield case("sign alone", "polarity", 6, 10, 30, gain_db=(-2.0, -2.0), max_shift=0)
    yield case("as many clips as samples", "each for itself", 7, 7, 40, max_shift=2)
    yield case("a batch of one", "each for itself", 1, 11, 160, max_shift=1)
    yield case("as it comes", "each for itself", 3, 301, 8)
    yield case("reproducible", "generator", 6, 9, 4, max_shift=3)


def take_apart(x, out, max_shift):
    """(shift, factor) of each of ``out`` (R, B, 1, L) as made of x; shift -1 where none fits."""
    shift = torch.full(out.shape[:2], -1)
    factor = torch.zeros(out.shape[:2], dtype=torch.float64)
    x, out = x.double(), out.double()
    for k in range(max_shift + 1):
        moved = torch.zeros_like(x)
        moved[..., k:] = x[..., : x.shape[-1] - k]
        by = (out * moved).sum((-2, -1)) / moved.square().sum((-2, -1))
        error = (out - by[..., None, None] * moved).abs().amax((-2, -1))
        fits = (error < 1e-5 * moved.abs().amax((-2, -1))) & (by != 0)
        shift[fits], factor[fits] = k, by[fits]
    return shift, factor


def uneven(counts, what) -> str | None:
    """A sentence if ``counts`` differ by more than chance from being even, else None."""
    mean = float(counts.double().mean())
    worst = int((counts - mean).abs().argmax())
    if abs(float(counts[worst]) - mean) <= WIDE * math.sqrt(max(mean, 1.0)):
        return None
    return f"{what(worst)}: {int(counts[worst])} times, where about {mean:.0f} are wanted"


def alike(values, share, what) -> str | None:
    """A sentence if clips of one batch agree in ``values`` (R, B) unlike chance does, else None."""
    repeats, batch = values.shape
    if batch == 1 or share in (0.0, 1.0):
        return None
    pairs = repeats * batch * (batch - 1) / 2
    equal = (int((values[:, :, None] == values[:, None, :]).sum()) - values.numel()) // 2
    if abs(equal - pairs * share) <= WIDE * math.sqrt(pairs * share):
        return None
    return f"{equal} of {pairs:.0f} pairs of clips of one batch {what}; by chance {share:.0%} would"


@augment_audio.judge
def _(case, got, expected):
    x, _, _, options = case.args
    low, high = options.get("gain_db", (-6.0, 0.0))
    max_shift, polarity = options.get("max_shift", 128), options.get("polarity", True)
    if not isinstance(got, dict):
        shown = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
        return f"clips of shape {tuple(x.shape)} are wanted, got {shown}"
    if got["out"].dtype != x.dtype:
        return f"the clips are {got['out'].dtype}; {x.dtype} went in"
    if case.group == "generator":
        if not torch.equal(got["out"][:4], got["again"]):
            return "the same seed gives other clips: every draw must take generator=generator"
        if got["global generator moved"]:
            return "torch's global generator was used: every draw must take generator=generator"
        if torch.equal(got["again"], got["other"]):
            return "generators with different seeds give the same clips"
        if torch.equal(*got["without"]):
            return "two calls without a generator give the same clips"
        return None
    shift, factor = take_apart(x, got["out"], max_shift)
    if bool((shift < 0).any()):
        return (
            f"{float((shift < 0).double().mean()):.0%} of the clips are not what went in, moved "
            f"later by 0 to {max_shift} samples with zeros before it, times a factor"
        )
    if not polarity and bool((factor < 0).any()):
        return "clips are turned upside down, though polarity is False"
    level = 20 * factor.abs().log10()
    if float(level.min()) < low - 1e-3 or float(level.max()) > high + 1e-3:
        return (
            f"levels reach from {float(level.min()):.2f} to {float(level.max()):.2f} dB; "
            f"{low:.2f} to {high:.2f} dB is wanted"
        )
    if high > low:
        part = ((level - low) / (high - low) * 4).long().clamp(0, 3).reshape(-1)
        width = (high - low) / 4
        if found := uneven(
            torch.bincount(part, minlength=4),
            lambda i: f"a level from {low + i * width:.1f} to {low + (i + 1) * width:.1f} dB",
        ):
            return found
        if found := alike(level.round(decimals=4), 0.01, "are equally loud"):
            return found if case.group != "shift" and _often_alike(level) else None
    if case.name == "as it comes":
        return None if len(shift.unique()) > 8 else "there are hardly any different shifts"
    counts = torch.bincount(shift.reshape(-1), minlength=max_shift + 1)
    if found := uneven(counts, lambda k: f"a shift by {k}"):
        return found
    if found := alike(shift, 1 / (max_shift + 1), "are shifted by the same"):
        return found
    if polarity:
        turned = (factor < 0).long()
        counts = torch.bincount(turned.reshape(-1), minlength=2)
        if found := uneven(counts, lambda i: ("the right way up", "upside down")[i]):
            return found
        if found := alike(turned, 0.5, "agree in their sign"):
            return found
    return None


def _often_alike(level) -> bool:
    """Whether clips of one batch have the very same level."""
    return bool((level.round(decimals=4)[:, :1] == level.round(decimals=4)).double().mean() > 0.6)


# --- 11.3 ----------------------------------------------------------------------------------


def filled(module: nn.Module, seed: int, dtype: torch.dtype) -> nn.Module:
    """``module`` with random parameters, none zero: matrices of about unit gain.

    Each parameter's numbers follow from its own name and ``seed``, whatever else the module has.
    """
    module.to(dtype)
    with torch.no_grad():
        for name, p in module.named_parameters():
            g = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
            draw = torch.randn(p.shape, generator=g, dtype=torch.float64)
            if p.ndim > 1:
                draw = 1.3 * draw / p[0].numel() ** 0.5
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


gated_block = Exercise(
    id="11.3",
    title="A gate, and a hole in the kernel",
    names=("GatedResBlock1d",),
    points={"outputs": 2, "lengths": 1, "condition": 1, "gradients": 1},
    difficulty=2,
    minutes=25,
    hints=(
        "Follow the drawing. The embedding becomes (B, channels); to meet (B, channels, L) it "
        "needs an axis of length 1 at its end.",
        "How far does a kernel of 3 reach to each side, if its weights are `dilation` apart? So "
        "many zeros are needed there, left and right: torch.nn.functional.pad(x, (left, right)).",
        "h.chunk(2, dim=1) cuts the channels in two halves. The first goes through tanh and "
        "carries the content, the second through sigmoid and says how much of it passes.",
        "Two results: what the next block gets, and the skip. Only the first has x in it, and "
        "only the first is divided by the root of 2.",
    ),
    library=("undiffuse.wavenets", "undiffuse.wavenets.GatedResBlock1d"),
)


def gated_block_of(answer, arguments, seed, dtype):
    """The learner's block with random weights."""
    parts = ["emb", "dilated", "out", *["cond"] * (len(arguments) > 3)]
    return filled(with_parts(answer.GatedResBlock1d(*arguments), *parts), seed, dtype)


def run_gated_block(answer, arguments, x, emb, cond, seed):
    """Both outputs of the block with random weights."""
    block = gated_block_of(answer, arguments, seed, x.dtype)
    return block(x, emb) if cond is None else block(x, emb, cond)


def gated_block_gradients(answer, arguments, x, emb, cond, seed):
    """Gradients of a number made of both outputs, with respect to all inputs."""
    block = gated_block_of(answer, arguments, seed, x.dtype)
    (x, x_on), (emb, emb_on), (cond, cond_on) = tracked(x), tracked(emb), tracked(cond)
    out, skip = block(x_on, emb_on, cond_on)
    (probed(out, seed) + probed(skip, seed + 1)).backward()
    return {"for x": x.grad, "for emb": emb.grad, "for cond": cond.grad}


@gated_block.cases
def _(draw: Draw):
    def case(
        name, group, channels, dilation, batch, length, cond=0, emb_dim=10, dtype="float64",
        driver=run_gated_block,
    ):  # fmt: skip
        x = draw.normal(batch, channels, length, dtype=dtype, mean=0.4, std=1.5)
        emb = draw.normal(batch, emb_dim, dtype=dtype)
        told = draw.normal(batch, cond, length, dtype=dtype) if cond else None
        arguments = (channels, dilation, emb_dim, *[cond] * bool(cond))
        args = arguments, x, emb, told, draw.integers(0, 2**31)
        return Case(name, args, driver=driver, group=group)

    yield case("dilation 2", "outputs", 4, 2, 3, 17)
    yield case("dilation 5", "outputs", 6, 5, 2, 21)
    yield case("dilation 1", "outputs", 4, 1, 2, 9)
    yield case("shorter than the kernel", "lengths", 4, 8, 3, 7)
    yield case("as long as channels and batch", "lengths", 6, 3, 6, 6, emb_dim=6)
    yield case("a batch of one, float32", "lengths", 8, 4, 1, 33, dtype="float32")
    yield case("told of 5 channels", "condition", 4, 3, 2, 15, cond=5)
    yield case("told of as many as the gate", "condition", 4, 2, 3, 8, cond=8)
    yield case("gradients", "gradients", 4, 3, 2, 11, cond=3, driver=gated_block_gradients)


# --- 11.4 ----------------------------------------------------------------------------------

unet = Exercise(
    id="11.4",
    title="The U-Net for sound",
    names=("UNet1d",),
    points={"odd lengths": 2, "patches": 1, "labels": 1, "gradients": 1},
    difficulty=3,
    minutes=30,
    hints=(
        "Follow the table from top to bottom. Everything that is made on the way down is appended "
        "to one list: what conv_in gives, what each block gives, what each downsampling gives.",
        "Each block of the way up takes h and the last of the list, side by side: channels are "
        "axis 1. There are two blocks a level, and they use up the list exactly.",
        "Before the blocks of a finer level, h must be as long as the skip that comes next: look "
        "at the end of the list without taking it.",
        "self.stem.fold pads to a whole number of patches; self.stem.unfold(h, size) cuts back to "
        "the size that came in. Note that size before you fold.",
    ),
    library=("undiffuse.unet",),
)

UNET_PARTS = ("time_mlp", "stem", "conv_in", "down", "downsample", "mid", "up", "upsample",
              "norm_out", "conv_out")  # fmt: skip


def unet_of(answer, arguments, seed, dtype):
    """The learner's U-Net with random weights; labels only where it was asked for them."""
    parts = [*UNET_PARTS, *["conditioner"] * bool(arguments.get("classes"))]
    return filled(with_parts(answer.UNet1d(**arguments), *parts), seed, dtype)


def run_unet(answer, arguments, x, t, cond, seed):
    """The network's output with random weights."""
    network = unet_of(answer, arguments, seed, x.dtype)
    return network(x, t) if cond is None else network(x, t, cond)


def unet_gradients(answer, arguments, x, t, cond, seed):
    """Gradient of a number made of the output, for x and for one weight of each part."""
    network = unet_of(answer, arguments, seed, x.dtype)
    x, x_on = tracked(x)
    probed(network(x_on, t, cond), seed).backward()
    found = {"for x": x.grad}
    for name, part in network.named_children():
        weights = list(part.parameters())
        if weights:
            found[f"for {name}"] = weights[0].grad
    return found


def unet_sizes(answer):
    """The widths and the patch that the given constructor chooses where nothing else is asked."""
    network = answer.UNet1d()
    return {"patch": network.stem.patch, **{k: list(v.shape) for k, v in network.named_parameters()
                                            if k.endswith("weight")}}  # fmt: skip


@unet.cases
def _(draw: Draw):
    small = {"channels": (8, 12, 12)}

    def case(
        name, group, *shape, patch=1, classes=None, told=True, driver=run_unet, dtype="float64",
        more=small, tol=None, one_time=False,
    ):  # fmt: skip
        x = draw.normal(*shape, dtype=dtype)
        t = (draw.distinct(1, 40, shape[0]) / 50 + draw.uniform(0.001, 0.015, shape[0])).to(x.dtype)
        t = float(t[0]) if one_time else t
        cond = draw.distinct(0, classes + 1, shape[0]) if classes and told else None
        more = {**more, "patch": patch, **({"classes": classes} if classes else {})}
        args = more, x, t, cond, draw.integers(0, 2**31)
        return Case(name, args, driver=driver, group=group, tol=tol or Tol())

    yield case("37 samples", "odd lengths", 2, 1, 37)
    yield case("38 samples, float32", "odd lengths", 3, 1, 38, dtype="float32", tol=Tol(2e-3, 2e-3))
    four = {"channels": (4, 4, 8, 8), "in_channels": 3}
    yield case("a batch of one, three channels, four levels", "odd lengths", 1, 3, 29, more=four)
    yield case("patches of 4, 101 samples", "patches", 2, 1, 101, patch=4)
    yield case("patches of 3, two channels, 48 samples", "patches", 2, 2, 48, patch=3,
               more={**small, "in_channels": 2})  # fmt: skip
    yield case("one time for all, 23 samples", "odd lengths", 2, 1, 23, one_time=True)
    yield Case("sizes by themselves", driver=unet_sizes, group="patches")
    yield case("labels, 27 samples", "labels", 3, 1, 27, classes=5)
    yield case("labels left out", "labels", 2, 1, 18, classes=4, told=False, patch=2)
    yield case("gradients, 31 samples", "gradients", 2, 1, 31, patch=2, classes=3,
               driver=unet_gradients)  # fmt: skip


# --- 11.5 ----------------------------------------------------------------------------------

shift_schedule = Exercise(
    id="11.5",
    title="As noisy as it looks",
    names=("shift_schedule",),
    points={"sound": 2, "pictures": 1},
    difficulty=2,
    minutes=12,
    core=False,
    hints=(
        "The mean of k noise values has the variance 1 / k. So how much larger must the noise's "
        "variance be, for the same SNR after averaging, if there are k times as many values?",
        "Averaging over k neighbours in each of dims directions is an average over k ** dims "
        "values.",
        "A factor of the SNR is a summand of its natural logarithm. And which sign has it, if a "
        "larger size shall get more noise?",
    ),
    library=("undiffuse.sound.shift_schedule",),
)


@shift_schedule.cases
def _(draw: Draw):
    def levels(*shape, dtype="float32"):
        return draw.normal(*shape, dtype=dtype, std=4.0, mean=0.7)

    def case(name, group, x, size, base_size, *dims):
        # A logarithm in float32 will do for a schedule, beside log SNR in float64 too.
        return Case(name, (x, size, base_size, *dims), group=group, tol=Tol(1e-6, 1e-6))

    size, base = draw.integers(5000, 20000), draw.integers(300, 1500)
    yield case("a clip longer than the base", "sound", levels(9), size, base)
    yield case("float64, (3, 4)", "sound", levels(3, 4, dtype="float64"), size, 784)
    rates = draw.uniform(7000.0, 9000.0), draw.uniform(16000.0, 48000.0)
    yield case("a rate below the base", "sound", levels(5), *rates)
    yield case("one level", "sound", levels(), size, 1000, 1)
    size = draw.pick((96, 128, 256))
    yield case("pictures", "pictures", levels(7), size, 64, 2)
    yield case("smaller pictures, float64", "pictures", levels(4, dtype="float64"), 28, 64, 2)
    yield case("blocks of three axes", "pictures", levels(6), 40, 16, 3)


# --- 11.6 ----------------------------------------------------------------------------------

loudness = Exercise(
    id="11.6",
    title="Equally loud",
    names=("loudness_normalise",),
    points={"level": 2, "each for itself": 1, "silence": 1},
    difficulty=2,
    minutes=15,
    hints=(
        "RMS from right to left: the root of the mean of the squares. The mean runs over the last "
        "axis, which keepdim=True keeps for what follows.",
        "dB are 20 log10 of an amplitude. Turned round: which RMS is target_db? Silence would be "
        "minus infinity.",
        "You know the RMS that is there and the one that is wanted. Their ratio is the factor.",
        "A clip of zeros has an RMS of 0, and 0 / 0 is NaN. torch.where takes from one of two by a "
        "condition.",
    ),
    library=("undiffuse.sound.loudness_normalise",),
)


@loudness.cases
def _(draw: Draw):
    def clips(*shape, dtype="float32", loud=0.2):
        x = draw.normal(*shape, dtype=dtype, mean=0.6, std=1.0)
        each = draw.uniform(0.3, 1.0, *shape[:-1], 1, dtype=dtype)
        return loud * each * x

    def case(name, group, x, target, tol=2e-5):
        return Case(name, (x, target), group=group, tol=Tol(tol, tol))

    # An RMS of 3e-6 and more. 1e-8 beside it, against a division by 0, is 0.03 dB: let it pass.
    yield case("one clip", "level", clips(41), draw.uniform(-30.0, -14.0))
    yield case("float64, a batch", "level", clips(3, 77, dtype="float64"), -23.0)
    yield case("to 0 dB: peaks above 1 stay", "level", clips(2, 55), 0.0)
    yield case("hardly audible", "level", clips(2, 33, loud=1e-5), -20.0, tol=6e-3)
    yield case("sound (B, 1, L)", "each for itself", clips(4, 1, 63), draw.uniform(-28.0, -16.0))
    yield case("two channels, as many as samples", "each for itself", clips(5, 2, 5), -19.0)
    silent = clips(3, 1, 25)
    silent[draw.integers(0, 3)] = 0
    yield case("one of three silent", "silence", silent, -20.0)
    yield case("all silent, float64", "silence", torch.zeros(2, 9, dtype=torch.float64), -15.0)


# --- 11.7 ----------------------------------------------------------------------------------

drum_loop = Exercise(
    id="11.7",
    title="A bar of drums",
    names=("drum_loop",),
    points={"places": 2, "mix": 2, "level": 1},
    difficulty=2,
    minutes=25,
    hints=(
        "bpm counts beats a minute, and a beat has four steps. How many samples is a step? Leave "
        "it a fraction.",
        "Step i begins at i times that, rounded; i counts from 0. If you round the length of a "
        "step first, the error grows from step to step.",
        "Two sounds at once are heard together: what is added to is a bar of zeros. A hit may ring "
        "while the next begins, and its tail may reach beyond the end.",
        "At the very end: how loud is the loudest sample of the mix? Only if that is above 1 does "
        "anything have to be done, and to all samples alike.",
    ),
    library=("undiffuse.sound.drum_loop",),
)


@drum_loop.cases
def _(draw: Draw):
    def hit(n, loud=0.2, dtype="float32"):
        return loud * draw.uniform(-0.8, 1.0, n, dtype=dtype)

    def row(steps=16, hits=4):
        places = draw.distinct(0, steps, hits).tolist()
        return "".join("x" if i in places else "." for i in range(steps))

    def case(name, group, samples, pattern, bpm, rate):
        return Case(name, (samples, pattern, bpm, rate), group=group, picture="curve")

    bpm = draw.uniform(95.0, 140.0)
    pattern = {"kick": "x...x...x.....x.", "snare": "....x.......x..."}
    yield case("two drums", "places", {"kick": hit(23), "snare": hit(17)}, pattern, bpm, 500)
    ends = {"hat": "x..............x"}
    yield case("the first and the last step", "places", {"hat": hit(9)}, ends, bpm + 3.7, 400)
    yield case("steps of a fraction of a sample", "places", {"hat": hit(5)}, {"hat": "x" * 16},
               draw.uniform(150.0, 170.0), 211)  # fmt: skip
    yield case("a bar of 12 steps, float64", "places", {"tom": hit(11, dtype="float64")},
               {"tom": row(12)}, bpm, 300)  # fmt: skip
    together = {"kick": "x.x.....x.......", "clap": "x.......x.x....."}
    samples = {"kick": hit(113), "clap": hit(157)}  # a step has 32 to 48
    yield case("together, and tails over the next hit", "mix", samples, together, bpm, 300)
    tail = {"cymbal": hit(140), "kick": hit(12)}
    yield case("a tail beyond the end", "mix", tail,
               {"cymbal": "..............x.", "kick": "x...........x..."}, bpm, 250)  # fmt: skip
    yield case("a drum that rests", "mix", {"kick": hit(15), "bell": hit(30)},
               {"kick": row(16, 5), "bell": "................"}, bpm, 350)  # fmt: skip
    yield case("a sample that is not asked for", "mix", {"kick": hit(15), "bell": hit(30)},
               {"kick": row(16, 6)}, bpm, 350)  # fmt: skip
    # Too far on both sides, and further below zero than above.
    loud = {"kick": draw.uniform(-0.5, 0.5, 40), "snare": draw.uniform(-0.5, 0.5, 35)}
    for hits in loud.values():
        hits[2], hits[5] = draw.uniform(0.75, 0.85), -draw.uniform(0.9, 1.0)
    pattern = {"kick": "xx..x...x...x...", "snare": "x...x..xx..xx..."}
    yield case("too loud together", "level", loud, pattern, bpm, 300)
    yield case(
        "quiet stays quiet", "level", {"kick": hit(20, loud=0.05)}, {"kick": row()}, bpm, 400
    )
    yield case("all rests", "level", {"kick": hit(20)}, {"kick": "." * 16}, bpm, 200)
