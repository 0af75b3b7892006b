"""Checks of lesson 13, words to pictures: cases, drivers and judges; the answers are elsewhere.

Numbers of the pad and of unknown words are never 0 and 1 by habit, masks have words that are not at
the front, batches have as many prompts as words, and one prompt of a batch is often empty.
"""

import math
import zlib

import torch
from torch import nn

from coursework.exercise import Case, Draw, Exercise, Lesson, Tol

LESSON = Lesson("13", provides=("undiffuse.data", "undiffuse.plots", "undiffuse.schedules"))

NOUNS = ("cook", "pilot", "judge", "farmer", "singer", "ninja", "baby", "guard", "teacher")
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")


def filled(module: nn.Module, seed: int, dtype: torch.dtype) -> nn.Module:
    """``module`` with random parameters, none zero, that follow from each one's name and seed."""
    module.to(dtype)
    with torch.no_grad():
        for name, p in module.named_parameters():
            g = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
            draw = torch.randn(p.shape, generator=g, dtype=torch.float64)
            if p.ndim > 1 and "embed" not in name and "places" not in name:
                draw = 1.5 * draw / p[0].numel() ** 0.5
            elif "norm" in name and name.endswith("weight"):
                draw = 1 + 0.3 * draw
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


# --- 13.1 ----------------------------------------------------------------------------------

tokenize = Exercise(
    id="13.1",
    title="Words as numbers",
    names=("tokenize",),
    points={"words": 1, "unknown words": 1, "short and long": 1},
    difficulty=1,
    minutes=15,
    hints=(
        "Begin with what every row has when nothing has been read: a tensor full of the number "
        "for padding. Then write the numbers of the words into its beginning.",
        "dict.get takes a second argument: what to give for a key that is not there.",
        "vocab holds words in lower case only. When do you make them so, before or after looking "
        "them up? And which words go when there are too many?",
    ),
    library=("undiffuse.text",),
)


def some_vocab(draw: Draw, words) -> dict[str, int]:
    """Word -> number with gaps, the special ones somewhere in between."""
    numbers = draw.distinct(2, 60, len(words) + 2).tolist()
    return dict(zip(["<pad>", "<unk>", *words], numbers))


@tokenize.cases
def _(draw: Draw):
    known = ("a", "an", "with", "skin", "in", "the", "style", "of", "noto", *NOUNS, *TONES)
    vocab = some_vocab(draw, known)

    def prompt(noun=None):
        noun, tone = noun or draw.pick(NOUNS), draw.pick(TONES)
        return f"a {noun} with {tone} skin, in the style of noto"

    texts = [prompt(), prompt(), prompt()]
    yield Case("three prompts of ten words", (texts, vocab, 10), group="words")
    texts = [f"{draw.pick(NOUNS)}.", f"The {draw.pick(NOUNS)}", "WITH Medium-Dark Skin"]
    yield Case("capitals and full stops", (texts, vocab, 3), group="words")
    more = some_vocab(draw, (*known, "cook's", "3", "o'clock"))
    one, other = draw.pick(NOUNS), draw.pick(NOUNS)
    texts = [f"a cook's {one}; 3 {other}!", f"{one}/{other} (medium-dark)", "the 3 o'clock: noto?"]
    yield Case("apostrophes, digits, other signs", (texts, more, 6), group="words")
    texts = [prompt("gardener"), prompt(), "hjkl with skin"]
    yield Case("words that are not there", (texts, vocab, 12), group="unknown words")
    texts = [f"{draw.pick(NOUNS)} qwertz {draw.pick(NOUNS)} in noto", "消防士 skin"]
    yield Case("an unknown word in the middle", (texts, vocab, 6), group="unknown words")
    texts = [prompt(), "", draw.pick(NOUNS), prompt() + " with a baby"]
    yield Case("longer, shorter, empty", (texts, vocab, 7), group="short and long")
    yield Case("one prompt, one word of it", ([prompt()], vocab, 1), group="short and long")
    yield Case("no prompt at all", ([], vocab, 5), group="short and long")


# --- 13.2 ----------------------------------------------------------------------------------

encoder = Exercise(
    id="13.2",
    title="A reader of prompts",
    names=("TextEncoder",),
    points={"each word": 2, "the whole": 2, "empty prompts": 1},
    difficulty=3,
    minutes=35,
    hints=(
        "Make four of the lines first, and look at the shapes: embedding plus places; queries, "
        "keys and values; attention; the two shortcuts.",
        "F.scaled_dot_product_attention takes attn_mask, True where a query may look. Which axis "
        "of its (queries, keys) does a pad belong to, if no word shall look at it? The mask must "
        "broadcast to (B, heads, queries, keys).",
        "A prompt without any word has no key that may be looked at, and a softmax over nothing "
        "is NaN. What may such a prompt look at, if what comes out is set to zero anyway?",
        "The mean over words is a sum over words, divided by how many there are. Pads must be "
        "zero in the sum, and must not be counted.",
    ),
    library=("undiffuse.text", "undiffuse.blocks", "undiffuse.unet"),
)

ENCODER_PARTS = ("embed", "norm1", "qkv", "proj", "norm2", "mlp")


def two_of(out) -> tuple:
    """(each, whole), if that is what ``forward`` gave."""
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        kind = f"{len(out)} things" if isinstance(out, (tuple, list)) else f"a {type(out).__name__}"
        raise ValueError(f"forward is to return two tensors, (each, whole); yours returns {kind}")
    return tuple(out)


def run_encoder(answer, options, tokens, mask, seed, dtype):
    """What each word and the whole become, with random weights."""
    module = with_parts(answer.TextEncoder(**options), *ENCODER_PARTS)
    module = filled(module, seed, getattr(torch, dtype))
    each, whole = two_of(module(tokens, mask))
    return {"each": each, "whole": whole}


def encode_longer(answer, options, tokens, mask, seed, more):
    """The same prompts with ``more`` pads behind them: what the words and the whole become."""
    module = filled(answer.TextEncoder(**options), seed, torch.float64)
    b, n = tokens.shape
    tokens = torch.cat([tokens, torch.full((b, more), 3)], 1)
    mask = torch.cat([mask, torch.zeros(b, more, dtype=torch.bool)], 1)
    each, whole = two_of(module(tokens, mask))
    return {"each": each[:, :n], "whole": whole}


@encoder.cases
def _(draw: Draw):
    def case(name, group, b, n, words, heads, width, driver=run_encoder, dtype="float64", more=0):
        """words: how many real ones each prompt has; they need not be in front."""
        options = {"words": 30, "length": n + more + 2, "width": width, "heads": heads}
        mask = torch.zeros(b, n, dtype=torch.bool)
        for row, count in enumerate(words):
            mask[row, draw.distinct(0, n, count)] = True
        tokens = draw.integers(0, 30, b, n)
        args = options, tokens, mask, draw.integers(0, 2**31)
        args = (*args, more) if more else (*args, dtype)
        tol = Tol() if dtype == "float64" else Tol(2e-4, 2e-4)
        return Case(name, args, driver=driver, group=group, tol=tol)

    yield case("three prompts of five words", "each word", 3, 5, (5, 5, 5), 2, 8)
    yield case("as many prompts as words as heads", "each word", 4, 4, (2, 4, 3, 1), 4, 8)
    yield case("pads in between", "each word", 2, 7, (3, 5), 3, 12)
    yield case("float32", "the whole", 3, 6, (6, 2, 4), 2, 8, dtype="float32")
    yield case("one prompt, one word", "the whole", 1, 6, (1,), 2, 4)
    args = {"driver": encode_longer, "more": 3}
    yield case("more pads change nothing", "the whole", 2, 5, (4, 2), 2, 8, **args)
    yield case("one of three is empty", "empty prompts", 3, 5, (2, 0, 5), 2, 8)
    yield case("all are empty", "empty prompts", 2, 4, (0, 0), 2, 8)


# --- 13.3 ----------------------------------------------------------------------------------

cross = Exercise(
    id="13.3",
    title="Places look at words",
    names=("CrossAttention",),
    points={"output": 2, "masks": 2, "gradients": 1},
    difficulty=3,
    minutes=30,
    hints=(
        "Who asks, and who is asked? Each place of the picture has one query; each word has one "
        "key and one value. So the scores are (places, words) for each sample and head.",
        "self.q gives (B, C, H, W): split C into (heads, C / heads), and bring the places in front "
        "of the channels of a head. self.kv gives (B, L, 2 C): first all of the keys, then all of "
        "the values, each in the order (head, channel of the head).",
        "The mask says which words there are, for all places and heads alike: (B, L) has to become "
        "something that broadcasts to (B, heads, places, L).",
        "Where a prompt has no word, x comes back as it was. self.proj has no bias: what does it "
        "make of zeros?",
    ),
    library=("undiffuse.text", "undiffuse.blocks", "undiffuse.unet"),
)


def run_cross(answer, x, context, mask, heads, seed):
    """The output with random weights."""
    module = answer.CrossAttention(x.shape[1], context.shape[2], heads)
    module = filled(with_parts(module, "norm", "q", "kv", "proj"), seed, x.dtype)
    return module(x, context, mask)


def cross_gradients(answer, x, context, mask, heads, seed):
    """Gradients of a number made of the output, for x and for the words."""
    module = filled(answer.CrossAttention(x.shape[1], context.shape[2], heads), seed, x.dtype)
    x, context = x.clone().requires_grad_(), context.clone().requires_grad_()
    out = module(x * 1.0, context * 1.0, mask)
    g = torch.Generator().manual_seed(seed)
    (out * torch.randn(out.shape, generator=g, dtype=torch.float64)).sum().backward()
    return {"for x": x.grad, "for the words": context.grad}


@cross.cases
def _(draw: Draw):
    def case(name, group, shape, words, dim, heads, driver=run_cross, dtype="float64"):
        b, n = shape[0], max(words) + 2
        mask = torch.zeros(b, n, dtype=torch.bool)
        for row, count in enumerate(words):
            mask[row, draw.distinct(0, n, count)] = True
        x = draw.normal(*shape, dtype=dtype, mean=0.3, std=1.4)
        context = draw.normal(b, n, dim, dtype=dtype, std=1.3)
        args = x, context, mask, heads, draw.integers(0, 2**31)
        tol = Tol() if dtype == "float64" else Tol(2e-4, 2e-4)
        return Case(name, args, driver=driver, group=group, tol=tol, picture="none")

    yield case("two heads", "output", (2, 8, 3, 5), (3, 3), 6, 2)
    yield case("as many places as words as channels", "output", (3, 8, 2, 4), (6, 6, 6), 8, 4)
    yield case("float32, three heads", "output", (2, 12, 3, 3), (4, 2), 5, 3, dtype="float32")
    yield case("prompts of unlike length", "masks", (3, 8, 4, 2), (5, 1, 3), 7, 2)
    yield case("a batch of one", "masks", (1, 4, 5, 3), (3,), 4, 2)
    yield case("a prompt without words", "masks", (3, 8, 2, 3), (2, 0, 4), 6, 2)
    yield case("gradients", "gradients", (2, 8, 2, 3), (3, 1), 6, 2, driver=cross_gradients)


# --- 13.4 ----------------------------------------------------------------------------------

# A test of a right answer sounds a false alarm with a probability of at most this; an exercise
# makes fewer than 30 of them.
FALSE_ALARM = 1e-8

drop_prompts = Exercise(
    id="13.4",
    title="Now and then, no prompt",
    names=("drop_prompts",),
    points={"how many": 1, "whole prompts": 1, "generator": 1},
    difficulty=1,
    minutes=10,
    hints=(
        "It is exercise 07.1 for rows in place of numbers: one random decision a prompt.",
        "torch.where needs a condition that broadcasts against (B, L). Yours has shape (B,): where "
        "does it want another axis?",
        "What stands in the place of a dropped prompt is `empty`, all of it, and not zeros: that "
        "the pad is 0 is true of one vocabulary only.",
    ),
    reference_needed=False,
    library=("undiffuse.guidance.drop_labels", "undiffuse.text"),
)


def drop_once(answer, tokens, p, empty, generator):
    """One call."""
    return answer.drop_prompts(tokens, p, empty, generator)


def drop_one_by_one(answer, tokens, p, empty, generator):
    """A call for each prompt, each a batch of one."""
    parts = [answer.drop_prompts(one, p, empty, generator) for one in tokens.split(1)]
    return torch.cat(parts)


def drop_with_seeds(answer, tokens, p, empty, seed, other):
    """Twice with one seed, once more with the generator used before, once with another seed."""
    generator = torch.Generator().manual_seed(seed)
    first = answer.drop_prompts(tokens.clone(), p, empty, generator)
    later = answer.drop_prompts(tokens.clone(), p, empty, generator)
    again = answer.drop_prompts(tokens.clone(), p, empty, torch.Generator().manual_seed(seed))
    another = answer.drop_prompts(tokens.clone(), p, empty, torch.Generator().manual_seed(other))
    return {"first": first, "later": later, "again": again, "another": another}


@drop_prompts.cases
def _(draw: Draw):
    def prompts(n: int, length: int, pad: int) -> torch.Tensor:
        """None of them empty, with pads at the end of some."""
        tokens = draw.integers(10, 40, n, length)
        for row in range(0, n, 3):
            tokens[row, draw.integers(1, length) :] = pad
        return tokens

    def empty(length: int, pad: int) -> torch.Tensor:
        return torch.full((length,), pad)

    group, pad = "how many", draw.integers(3, 9)
    for name, p in (("few dropped", draw.uniform(0.08, 0.15)), ("most", draw.uniform(0.7, 0.8))):
        args = (prompts(2000, 5, pad), p, empty(5, pad), draw.seed())
        yield Case(name, args, group=group, driver=drop_once, picture="none")
    args = (prompts(6, 6, pad), 0.0, empty(6, pad), draw.seed())
    yield Case("p = 0 drops none", args, group=group, driver=drop_once, picture="none")
    args = (prompts(5, 4, pad), 1.0, empty(4, pad), draw.seed())
    yield Case("p = 1 drops all", args, group=group, driver=drop_once, picture="none")
    # Not one number: a vocabulary may begin every prompt with a sign of its own.
    with_start = torch.cat([torch.tensor([2]), empty(4, pad)])
    args = (prompts(900, 5, pad), draw.uniform(0.2, 0.4), with_start, draw.seed())
    yield Case("prompts begin with a sign", args, group="whole prompts", driver=drop_once,
               picture="none")  # fmt: skip
    args = (prompts(500, 3, pad), draw.uniform(0.2, 0.4), empty(3, pad), draw.seed())
    yield Case("500 batches of one", args, group="whole prompts", driver=drop_one_by_one,
               picture="none")  # fmt: skip
    args = (prompts(300, 4, pad), draw.uniform(0.25, 0.4), empty(4, pad))
    seeds = draw.seed().value, draw.seed().value
    yield Case("seeds", (*args, *seeds), group="generator", driver=drop_with_seeds, picture="none")


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


def look_at_prompts(out, tokens, p, empty) -> str | None:
    """What is wrong with ``out`` as ``tokens`` with prompts dropped, or None."""
    if not isinstance(out, torch.Tensor):
        return f"the result is a {type(out).__name__}; a tensor of tokens is wanted"
    if out.shape != tokens.shape:
        return f"shape {tuple(out.shape)}, where that of tokens, {tuple(tokens.shape)}, is wanted"
    if out.dtype != tokens.dtype:
        return f"dtype {out.dtype}, where that of tokens, {tokens.dtype}, is wanted"
    kept, gone = (out == tokens).all(1), (out == empty).all(1)
    odd = ~(kept | gone)
    if bool(odd.any()):
        row = int(odd.nonzero()[0])
        return (
            f"prompt {row} became {out[row].tolist()}: a prompt either stays as it was, "
            f"{tokens[row].tolist()}, or becomes the empty one, {empty.tolist()}"
        )
    n, hits = len(tokens), int(gone.sum())
    if not by_chance(hits, n, p):
        return f"{hits} of {n} prompts were dropped at p = {p:.3g}; chance does not explain that"
    half = n // 2
    pairs = gone[0 : 2 * half : 2] & gone[1 : 2 * half : 2]
    if not by_chance(int(pairs.sum()), len(pairs), p * p):
        return (
            f"{int(pairs.sum())} of {len(pairs)} pairs of neighbours were dropped together, where "
            f"about {len(pairs) * p * p:.0f} are expected if each is dropped for itself"
        )
    return None


@drop_prompts.judge
def _(case, got, expected):
    if case.driver != "drop_with_seeds":
        return look_at_prompts(got, *case.args[:3])
    for name in ("first", "later", "another"):
        if found := look_at_prompts(got[name], *case.args[:3]):
            return found
    if not torch.equal(got["first"], got["again"]):
        return "the same seed drops other prompts the second time: draw from `generator` only"
    if torch.equal(got["first"], got["later"]) or torch.equal(got["first"], got["another"]):
        return "the same prompts are dropped in every call: each call draws anew from `generator`"
    return None


# --- 13.5 ----------------------------------------------------------------------------------

guided = Exercise(
    id="13.5",
    title="Two prompts at once",
    names=("guided_by_two",),
    points={"two prompts": 1, "negative prompts": 1, "special scales": 1},
    difficulty=2,
    minutes=15,
    hints=(
        "Guidance by one prompt starts from eps_null and goes along what the prompt adds to it. "
        "With two prompts there are two such directions.",
        "Both directions start at eps_null. How often does eps_null itself stand in the sum?",
        "With scale_b = 0 your formula must be plain guidance by a. With scale_b below 0 it goes "
        "away from b. Neither needs a special case.",
    ),
    library=("undiffuse.guidance",),
)


@guided.cases
def _(draw: Draw):
    def three(*shape, dtype="float64"):
        return tuple(draw.normal(*shape, dtype=dtype, mean=0.4 * k) for k in range(3))

    def scale(low, high):
        return draw.uniform(low, high)

    args = (*three(2, 3, 4, 5), scale(1.3, 2.4), scale(2.6, 4.0))
    yield Case("pictures", args, group="two prompts")
    args = (*three(3, 1, 7, dtype="float32"), scale(2.6, 4.0), scale(1.2, 1.9))
    yield Case("sound, float32", args, group="two prompts")
    args = (*three(2, 2, 3, 3), scale(1.4, 2.8), -scale(1.2, 2.2))
    yield Case("b is not wanted", args, group="negative prompts")
    args = (*three(1, 1, 4, 4), scale(2.2, 3.1), -scale(0.2, 0.4))
    yield Case("hardly wanted, a batch of one", args, group="negative prompts")
    args = (*three(2, 1, 3, 4), scale(1.5, 3.0), 0.0)
    yield Case("scale_b = 0", args, group="special scales")
    args = (*three(2, 1, 3, 4), 0.0, scale(1.5, 3.0))
    yield Case("scale_a = 0", args, group="special scales")


# --- 13.6 ----------------------------------------------------------------------------------

retrieval = Exercise(
    id="13.6",
    title="Which text belongs to which picture?",
    names=("retrieval_accuracy",),
    points={"share": 1, "lengths of vectors": 1, "ties": 1},
    difficulty=2,
    minutes=20,
    core=False,
    hints=(
        "Make one table first: a row for each picture, a column for each text, and in it how alike "
        "the two are. Where in the table do the pairs stand that belong together?",
        "The cosine of two vectors is the dot product of the vectors after each was divided by its "
        "length. Matrix products make the whole table at once.",
        "argmax names one column even where several are equally good. Count how many columns reach "
        "the best value of a row, and whether the right one is among them.",
    ),
)


@retrieval.cases
def _(draw: Draw):
    def pair(n, d, noise, dtype="float64"):
        """Pictures and texts that are alike, with noise in the pictures, of unlike lengths."""
        text = draw.normal(n, d, dtype="float64")
        image = text + noise * draw.normal(n, d, dtype="float64")
        return image.to(getattr(torch, dtype)), text.to(getattr(torch, dtype))

    yield Case("forty pairs", pair(40, 6, 1.3), group="share")
    yield Case("as many features as pairs, float32", pair(12, 12, 1.2, "float32"), group="share")
    yield Case("one pair", pair(1, 5, 0.4), group="share")
    image, text = pair(30, 5, 0.9)
    longer = draw.uniform(0.1, 9.0, 30, 1, dtype="float64")
    yield Case("texts of unlike length", (image, text * longer), group="lengths of vectors")
    image, text = pair(20, 5, 0.9)
    image[::2] *= 1e-6  # dot products are then nearly equal, and cosines are not
    yield Case("short pictures", (image, text), group="lengths of vectors")
    # Every third text is there two or four times, so that it cannot be told which one is meant.
    image, text = pair(24, 6, 0.8)
    text[1::3] = text[0::3]
    yield Case("texts that are there twice", (image, text), group="ties")
    image, text = pair(16, 4, 0.7)
    text[1:4] = text[0]
    text[9:12] = text[8]
    yield Case("texts that are there four times", (image, text), group="ties")
    image, text = draw.normal(9, 4, dtype="float64"), draw.normal(1, 4, dtype="float64")
    # Alike but for 1e-8, by which each text leans to the picture after its own: whoever takes the
    # greatest cosine to the last digit finds no pair at all.
    text = text / text.norm()
    side = image - (image @ text.T) * text
    side = side / side.norm(dim=1, keepdim=True)
    yield Case("all texts alike", (image, text + 1e-8 * side.roll(-1, 0)), group="ties")
