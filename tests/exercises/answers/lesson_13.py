"""Answers of lesson 13: references, named mistakes with what to say about them, alternatives.

A wrong or alternative module is the reference with another ``forward``: the constructors are
given in the lesson.
"""

import math
import random
import re

import torch
import torch.nn.functional as F
from torch import nn

from coursework.exercise import Answers

# --- 13.1 ----------------------------------------------------------------------------------

a_tokenize = Answers("13.1")


@a_tokenize.reference
def tokenize(texts, vocab, length):
    tokens = torch.full((len(texts), length), vocab["<pad>"])
    for row, text in zip(tokens, texts):
        words = re.findall(r"[\w'-]+", text.lower())[:length]
        numbers = [vocab.get(word, vocab["<unk>"]) for word in words]
        row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
    return tokens


def _tokens(texts, length, pad, numbers_of):
    """A table of ``numbers_of(text)``, a list for each text, padded behind."""
    tokens = torch.full((len(texts), length), pad)
    for row, text in zip(tokens, texts):
        numbers = numbers_of(text)[:length]
        row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
    return tokens


def _words(text):
    return re.findall(r"[\w'-]+", text.lower())


@a_tokenize.misconception(
    "unknown-left-out",
    "You leave out words that vocab does not have, and the next word takes their place. They "
    "become the number of <unk>, so that the network can see that something stood there.",
)
def tokenize(texts, vocab, length):
    return _tokens(
        texts, length, vocab["<pad>"], lambda t: [vocab[w] for w in _words(t) if w in vocab]
    )


@a_tokenize.misconception(
    "unknown-is-pad",
    "Words that vocab does not have become the pad in yours. A pad means that the text is over; "
    "such a word has a number of its own, that of <unk>.",
)
def tokenize(texts, vocab, length):
    pad = vocab["<pad>"]
    return _tokens(texts, length, pad, lambda t: [vocab.get(w, pad) for w in _words(t)])


@a_tokenize.misconception(
    "case-kept",
    "You look words up as they are written. vocab has lower-case words only, so that every "
    "capital makes a word unknown.",
)
def tokenize(texts, vocab, length):
    unknown = vocab["<unk>"]
    return _tokens(
        texts,
        length,
        vocab["<pad>"],
        lambda t: [vocab.get(w, unknown) for w in re.findall(r"[\w'-]+", t)],
    )


@a_tokenize.misconception(
    "commas-kept",
    "You part words at spaces only, so that a comma or a full stop stays on its word and makes it "
    "unknown. The stub says of what a word consists.",
)
def tokenize(texts, vocab, length):
    unknown = vocab["<unk>"]
    return _tokens(
        texts,
        length,
        vocab["<pad>"],
        lambda t: [vocab.get(w, unknown) for w in t.lower().split()],
    )


@a_tokenize.misconception(
    "hyphens-part-words",
    "You part words at hyphens. medium-dark is one word, with a number of its own; medium and dark "
    "mean other tones.",
)
def tokenize(texts, vocab, length):
    unknown = vocab["<unk>"]
    return _tokens(
        texts,
        length,
        vocab["<pad>"],
        lambda t: [vocab.get(w, unknown) for w in re.findall(r"[\w']+", t.lower())],
    )


@a_tokenize.misconception(
    "pads-in-front",
    "Your pads stand before the words. They belong behind them: the first word has the first "
    "place, however long the text is.",
)
def tokenize(texts, vocab, length):
    tokens = torch.full((len(texts), length), vocab["<pad>"])
    for row, text in zip(tokens, texts):
        numbers = [vocab.get(word, vocab["<unk>"]) for word in _words(text)[:length]]
        row[length - len(numbers) :] = torch.tensor(numbers, dtype=torch.int64)
    return tokens


@a_tokenize.misconception(
    "last-words-kept",
    "Of a text that is too long you keep the last words. The first ones are kept, and the end is "
    "cut off.",
)
def tokenize(texts, vocab, length):
    unknown = vocab["<unk>"]
    return _tokens(
        texts,
        length,
        vocab["<pad>"],
        lambda t: [vocab.get(w, unknown) for w in _words(t)[-length:]],
    )


@a_tokenize.misconception(
    "pad-is-zero",
    "You fill up with 0. The number of the pad is what vocab says under <pad>, which need not be "
    "0.",
)
def tokenize(texts, vocab, length):
    unknown = vocab["<unk>"]
    return _tokens(texts, length, 0, lambda t: [vocab.get(w, unknown) for w in _words(t)])


@a_tokenize.misconception(
    "unknown-is-one",
    "Unknown words become 1 in yours. Their number is what vocab says under <unk>, which need not "
    "be 1.",
)
def tokenize(texts, vocab, length):
    return _tokens(texts, length, vocab["<pad>"], lambda t: [vocab.get(w, 1) for w in _words(t)])


@a_tokenize.misconception(
    "letters",
    "You turn single signs into numbers, not words. vocab has a number for each word.",
)
def tokenize(texts, vocab, length):
    unknown = vocab["<unk>"]
    return _tokens(
        texts, length, vocab["<pad>"], lambda t: [vocab.get(c, unknown) for c in t.lower()]
    )


@a_tokenize.misconception(
    "commas-and-stops-only",
    "You take commas and full stops away and part words at spaces. Any other sign (; ! / and "
    "brackets) stays on its word and makes it unknown. Say what a word is, not what it is not.",
)
def tokenize(texts, vocab, length):
    unknown = vocab["<unk>"]
    return _tokens(
        texts,
        length,
        vocab["<pad>"],
        lambda t: [vocab.get(w, unknown) for w in re.sub("[,.]", " ", t.lower()).split()],
    )


@a_tokenize.misconception(
    "apostrophes-part-words",
    "You part words at apostrophes: cook's becomes cook and s. The stub counts apostrophes among "
    "what words are made of.",
)
def tokenize(texts, vocab, length):
    unknown = vocab["<unk>"]
    return _tokens(
        texts,
        length,
        vocab["<pad>"],
        lambda t: [vocab.get(w, unknown) for w in re.findall(r"[\w-]+", t.lower())],
    )


@a_tokenize.misconception(
    "no-prompt-no-columns",
    "Right, but for a list without prompts: torch makes (0,) of an empty list, and cannot know how "
    "long its rows would be, or that they hold whole numbers. (0, length) is wanted, int64.",
)
def tokenize(texts, vocab, length):
    rows = []
    for text in texts:
        numbers = [vocab.get(word, vocab["<unk>"]) for word in _words(text)[:length]]
        rows.append(numbers + [vocab["<pad>"]] * (length - len(numbers)))
    return torch.tensor(rows)


@a_tokenize.misconception(
    "padded-to-the-longest",
    "Your rows are as long as the longest prompt of the batch. They have `length` numbers, "
    "whatever the batch holds.",
)
def tokenize(texts, vocab, length):
    longest = max((len(_words(text)) for text in texts), default=length)
    unknown = vocab["<unk>"]
    return _tokens(
        texts,
        min(length, longest),
        vocab["<pad>"],
        lambda t: [vocab.get(w, unknown) for w in _words(t)],
    )


@a_tokenize.alternative("lists, padded before they become a tensor")
def tokenize(texts, vocab, length):
    rows = []
    for text in texts:
        row = []
        for word in re.findall(r"[\w'-]+", text):
            word = word.lower()
            row.append(vocab[word] if word in vocab else vocab["<unk>"])
        row = row[:length]
        rows.append(row + [vocab["<pad>"]] * (length - len(row)))
    return torch.tensor(rows, dtype=torch.int64).reshape(len(texts), length)


@a_tokenize.alternative("one position at a time")
def tokenize(texts, vocab, length):
    tokens = torch.empty(len(texts), length, dtype=torch.long)
    for i, text in enumerate(texts):
        words = [m.group() for m in re.finditer(r"[\w'-]+", text.lower())]
        for k in range(length):
            word = words[k] if k < len(words) else "<pad>"
            tokens[i, k] = vocab.get(word, vocab["<unk>"])
    return tokens


# --- 13.2 ----------------------------------------------------------------------------------

a_encoder = Answers("13.2")


@a_encoder.reference
class TextEncoder(nn.Module):
    def __init__(self, words, length, width, heads):
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(words, width)
        self.places = nn.Parameter(0.1 * torch.randn(length, width))
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens, mask):
        b, n = tokens.shape
        x = self.embed(tokens) + self.places[:n]
        qkv = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        keys = mask | ~mask.any(1, keepdim=True)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=keys[:, None, None, :])
        x = x + self.proj(h.transpose(1, 2).reshape(b, n, -1))
        x = x + self.mlp(self.norm2(x))
        each = x * mask[..., None]
        whole = each.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return each, whole


class _Encoder(TextEncoder):
    """The reference in steps, for wrong ones to change one of them."""

    def looks(self, mask):
        """(B, 1 or heads, queries or 1, keys): where a query may look."""
        return (mask | ~mask.any(1, keepdim=True))[:, None, None, :]

    def start(self, tokens):
        return self.embed(tokens) + self.places[: tokens.shape[1]]

    def parts(self, x):
        b, n = x.shape[:2]
        qkv = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, -1)
        return qkv.permute(2, 0, 3, 1, 4)

    def attend(self, x, mask):
        b, n = x.shape[:2]
        q, k, v = self.parts(x)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=self.looks(mask))
        return self.proj(h.transpose(1, 2).reshape(b, n, -1))

    def think(self, x, mask):
        x = x + self.attend(x, mask)
        return x + self.mlp(self.norm2(x))

    def ends(self, x, mask):
        each = x * mask[..., None]
        return each, each.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)

    def forward(self, tokens, mask):
        return self.ends(self.think(self.start(tokens), mask), mask)


def _count_off(got, expected):
    """Whether words are right everywhere, and each whole right but for a little less of it."""
    if not all(o.status == "ok" and isinstance(o.value, dict) for o in got):
        return False
    ratios = []
    for g, e in zip(got, expected):
        each, whole = g.value["each"], g.value["whole"]
        if not all(isinstance(x, torch.Tensor) for x in (each, whole)):
            return False
        wanted = e.value["whole"]
        if (each.shape, whole.shape) != (e.value["each"].shape, wanted.shape):
            return False
        if whole.dtype != wanted.dtype or not torch.allclose(each, e.value["each"], 1e-3, 1e-6):
            return False
        ratio = (whole / wanted)[wanted.abs() > 1e-2].double()
        rounding = 1e-12 if whole.dtype == torch.float64 else 1e-4
        if bool(((ratio < 0.99) | (ratio > 1 + rounding)).any()):
            return False
        ratios.append(ratio)
    return bool((torch.cat(ratios) < 1 - 1e-9).any())


@a_encoder.misconception(
    "pads-attended",
    "Words look at pads in yours: what a word becomes then depends on how many pads happen to "
    "stand behind the prompt. Give the attention a mask, over the keys: the last axis of "
    "(queries, keys). A mask over the queries stops pads from looking, not from being looked at.",
)
class TextEncoder(_Encoder):
    def looks(self, mask):
        return None


@a_encoder.misconception(
    "mean-over-pads",
    "`whole` is divided by the length of the row, pads and all: a short prompt becomes faint. "
    "Divide by the number of its words.",
)
class TextEncoder(_Encoder):
    def ends(self, x, mask):
        each = x * mask[..., None]
        return each, each.mean(1)


@a_encoder.misconception(
    "pads-in-the-mean",
    "The pads go into `whole`: you average all places of the row, what pads became among them. "
    "Only words count.",
)
class TextEncoder(_Encoder):
    def ends(self, x, mask):
        return x * mask[..., None], x.mean(1)


@a_encoder.misconception(
    "mask-inverted",
    "Your attention looks at the pads, and at them only. The mask is True where there is a word, "
    "and F.scaled_dot_product_attention takes True for 'may look'. (In nn.MultiheadAttention True "
    "means the contrary.)",
)
class TextEncoder(_Encoder):
    def looks(self, mask):
        keys = ~mask
        return (keys | ~keys.any(1, keepdim=True))[:, None, None, :]


@a_encoder.misconception(
    "empty-is-nan",
    "A prompt without words becomes NaN: a softmax over nothing, or a division by zero words. "
    "This is the prompt that guidance needs most. Its words and its whole are zero.",
    detect=lambda got, expected, cases: (
        all(
            o.status == "ok" and isinstance(o.value, dict)
            and isinstance(o.value.get("whole"), torch.Tensor)
            for o in got
        )
        and all(
            bool(torch.isnan(o.value["whole"]).any()) == (c.group == "empty prompts")
            for o, c in zip(got, cases)
        )
    ),
)  # fmt: skip
class TextEncoder(_Encoder):
    def ends(self, x, mask):
        each = x * mask[..., None]
        return each, each.sum(1) / mask.sum(1, keepdim=True)


@a_encoder.misconception(
    "pads-not-zeroed",
    "`each` still has numbers at the pads. They are to be zero there.",
)
class TextEncoder(_Encoder):
    def ends(self, x, mask):
        return x, super().ends(x, mask)[1]


@a_encoder.misconception(
    "no-places",
    "The places are missing: without them a prompt is a bag of words, and 'dog bites man' is 'man "
    "bites dog'. Add self.places to the embedding.",
)
class TextEncoder(_Encoder):
    def start(self, tokens):
        return self.embed(tokens)


@a_encoder.misconception(
    "no-shortcuts",
    "The shortcuts are missing: attention and mlp are to be added to what was there, not to take "
    "its place.",
)
class TextEncoder(_Encoder):
    def think(self, x, mask):
        x = self.attend(x, mask)
        return self.mlp(self.norm2(x))


@a_encoder.misconception(
    "no-first-norm",
    "The words go into self.qkv as they are; self.norm1 comes first.",
)
class TextEncoder(_Encoder):
    def parts(self, x):
        b, n = x.shape[:2]
        return self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)


@a_encoder.misconception(
    "sum-for-whole",
    "`whole` is the sum over the words: a prompt of twelve words weighs more than one of three. "
    "Take their mean.",
)
class TextEncoder(_Encoder):
    def ends(self, x, mask):
        each = x * mask[..., None]
        return each, each.sum(1)


@a_encoder.misconception(
    "heads-not-parted",
    "The reshape mixes heads and words: after (B, heads, L, width / heads) the words must come "
    "before the heads again, by a transpose, before both are laid side by side.",
)
class TextEncoder(_Encoder):
    def attend(self, x, mask):
        b, n = x.shape[:2]
        q, k, v = self.parts(x)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=self.looks(mask))
        return self.proj(h.reshape(b, n, -1))


@a_encoder.misconception(
    "looks-where-no-word-is",
    "Your attention may look where there is no word, and nowhere else. The mask is True where "
    "there is a word, and F.scaled_dot_product_attention takes True for 'may look'.",
)
class TextEncoder(_Encoder):
    def attend(self, x, mask):
        b, n = x.shape[:2]
        q, k, v = self.parts(x)
        away = (mask | ~mask.any(1, keepdim=True))[:, None, None, :]
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(away, -1e30)
        h = scores.softmax(3).masked_fill(away, 0.0) @ v
        return self.proj(h.transpose(1, 2).reshape(b, n, -1))


@a_encoder.misconception(
    "mask-added-as-number",
    "Your mask is of numbers. Numbers are added to the scores: 1 for words, 0 for pads, so that "
    "pads are still looked at, a little less. Hand over the mask as bool.",
)
class TextEncoder(_Encoder):
    def looks(self, mask):
        return super().looks(mask).to(self.places.dtype)


@a_encoder.misconception(
    "no-first-shortcut",
    "The first shortcut is missing: what the attention gives takes the place of the words. It is "
    "to be added to them, before the mlp.",
)
class TextEncoder(_Encoder):
    def think(self, x, mask):
        x = self.attend(x, mask)
        return x + self.mlp(self.norm2(x))


@a_encoder.misconception(
    "no-second-shortcut",
    "The second shortcut is missing: what the mlp gives takes the place of what went into it. It "
    "is to be added.",
)
class TextEncoder(_Encoder):
    def think(self, x, mask):
        return self.mlp(self.norm2(x + self.attend(x, mask)))


@a_encoder.misconception(
    "no-second-norm",
    "self.norm2 is not used: the mlp gets what comes out of it.",
)
class TextEncoder(_Encoder):
    def think(self, x, mask):
        x = x + self.attend(x, mask)
        return x + self.mlp(x)


@a_encoder.misconception(
    "norms-swapped",
    "The norms have changed places: norm1 stands before the attention, norm2 before the mlp.",
)
class TextEncoder(_Encoder):
    def parts(self, x):
        b, n = x.shape[:2]
        return self.qkv(self.norm2(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)

    def think(self, x, mask):
        x = x + self.attend(x, mask)
        return x + self.mlp(self.norm1(x))


@a_encoder.misconception(
    "norms-behind",
    "Your norms stand behind the shortcuts, as in the first transformers: norm(x + attention(x)). "
    "Here they stand inside, before the attention and before the mlp, and the sums are not "
    "normalised.",
)
class TextEncoder(_Encoder):
    def parts(self, x):
        b, n = x.shape[:2]
        return self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)

    def think(self, x, mask):
        x = self.norm1(x + self.attend(x, mask))
        return self.norm2(x + self.mlp(x))


@a_encoder.misconception(
    "heads-before-thirds",
    "You part the output of self.qkv into heads first, and each head into three. The thirds come "
    "first: all queries, then all keys, then all values, and each of them has the heads.",
)
class TextEncoder(_Encoder):
    def parts(self, x):
        b, n = x.shape[:2]
        qkv = self.qkv(self.norm1(x)).reshape(b, n, self.heads, 3, -1)
        return qkv.permute(3, 0, 2, 1, 4)


@a_encoder.misconception(
    "words-mixed-with-heads",
    "You reshape (B, L, width) to (B, heads, L, width / heads) at once, which puts pieces of "
    "several words into one row. Part the width first, (B, L, heads, width / heads), and then "
    "bring the heads before the words by a transpose.",
)
class TextEncoder(_Encoder):
    def parts(self, x):
        b, n = x.shape[:2]
        return [a.reshape(b, self.heads, n, -1) for a in self.qkv(self.norm1(x)).chunk(3, -1)]


@a_encoder.misconception(
    "one-head",
    "There is one head, as wide as the whole. self.heads of them share the width, and each has a "
    "softmax of its own.",
)
class TextEncoder(_Encoder):
    def parts(self, x):
        b, n = x.shape[:2]
        return self.qkv(self.norm1(x)).reshape(b, n, 3, 1, -1).permute(2, 0, 3, 1, 4)


@a_encoder.misconception(
    "a-little-added-to-the-count",
    "You add a small number to the count of words, against a division by 0. So every `whole` is a "
    "little too small. Change the count only where it is 0.",
    detect=lambda got, expected, cases: _count_off(got, expected),
)
class TextEncoder(_Encoder):
    def ends(self, x, mask):
        each = x * mask[..., None]
        return each, each.sum(1) / (mask.sum(1, keepdim=True) + 1e-6)


@a_encoder.misconception(
    "pads-zeroed-not-masked",
    "You set pads to zero before the attention, and give it no mask. A pad's key is then that of a "
    "zero, and not nothing: it gets a share of the softmax all the same.",
)
class TextEncoder(_Encoder):
    def looks(self, mask):
        return None

    def think(self, x, mask):
        return super().think(x * mask[..., None], mask)


@a_encoder.misconception(
    "not-scaled",
    "The scores are not divided by the root of the width of a head. "
    "F.scaled_dot_product_attention does it by itself; by hand it is easily forgotten.",
)
class TextEncoder(_Encoder):
    def parts(self, x):
        q, k, v = super().parts(x)
        return q * q.shape[-1] ** 0.5, k, v


@a_encoder.misconception(
    "no-proj",
    "self.proj is not used: what the heads found is added as it is. It mixes them first.",
)
class TextEncoder(_Encoder):
    def attend(self, x, mask):
        b, n = x.shape[:2]
        q, k, v = self.parts(x)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=self.looks(mask))
        return h.transpose(1, 2).reshape(b, n, -1)


@a_encoder.misconception(
    "shortcuts-normalised",
    "Your shortcuts carry what the norms have made: x = norm(x), and then the sum. The norm is for "
    "the attention and for the mlp alone; x itself goes past it.",
)
class TextEncoder(_Encoder):
    def think(self, x, mask):
        x = self.norm1(x) + self.attend(x, mask)
        x = self.norm2(x)
        return x + self.mlp(x)


@a_encoder.alternative("softmax by hand")
class TextEncoder(_Encoder):
    def attend(self, x, mask):
        b, n, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        size = width // self.heads
        q, k, v = (a.view(b, n, self.heads, size).transpose(1, 2) for a in (q, k, v))
        scores = q @ k.transpose(2, 3) / math.sqrt(size)
        scores = scores.masked_fill(~mask[:, None, None, :], -1e30)
        h = scores.softmax(dim=3) @ v
        return self.proj(h.transpose(1, 2).flatten(2))


@a_encoder.alternative("empty prompts mended at the end")
class TextEncoder(_Encoder):
    def forward(self, tokens, mask):
        x = self.start(tokens)
        b, n = x.shape[:2]
        q, k, v = self.parts(x)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        h = torch.nan_to_num(h)
        x = x + self.proj(h.transpose(1, 2).reshape(b, n, -1))
        x = x + self.mlp(self.norm2(x))
        each = torch.where(mask[:, :, None], x, torch.zeros_like(x))
        count = torch.maximum(mask.sum(1), torch.tensor(1)).to(x.dtype)
        return each, torch.einsum("bld,b->bd", each, 1 / count)


# --- 13.3 ----------------------------------------------------------------------------------

a_cross = Answers("13.3")


@a_cross.reference
class CrossAttention(nn.Module):
    def __init__(self, channels, context_dim, heads):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(4, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.kv = nn.Linear(context_dim, 2 * channels)
        self.proj = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x, context, mask):
        b, c = x.shape[:2]
        split = (self.heads, c // self.heads)
        q = self.q(self.norm(x)).reshape(b, *split, -1).transpose(2, 3)
        k, v = self.kv(context).reshape(b, -1, 2, *split).permute(2, 0, 3, 1, 4)
        some = mask.any(1, keepdim=True)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=(mask | ~some)[:, None, None, :])
        h = h * some[:, :, None, None]
        return x + self.proj(h.transpose(2, 3).reshape(x.shape))


class _Cross(CrossAttention):
    """The reference in steps, for wrong ones to change one of them."""

    def looks(self, mask):
        return mask | ~mask.any(1, keepdim=True)

    def parts(self, x, context):
        b, c = x.shape[:2]
        split = (self.heads, c // self.heads)
        q = self.q(self.norm(x)).reshape(b, *split, -1).transpose(2, 3)
        k, v = self.kv(context).reshape(b, -1, 2, *split).permute(2, 0, 3, 1, 4)
        return q, k, v

    def mix(self, q, k, v, allowed):
        """(B, heads, places, C / heads); allowed: (B, L) or None."""
        if allowed is not None:
            allowed = allowed[:, None, None, :]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)

    def add(self, x, h):
        return x + self.proj(h.transpose(2, 3).reshape(x.shape))

    def forward(self, x, context, mask):
        h = self.mix(*self.parts(x, context), self.looks(mask))
        h = h * mask.any(1)[:, None, None, None]
        return self.add(x, h)


@a_cross.misconception(
    "roles-swapped",
    "Each word shares out its attention among the places: your softmax runs over the places. Here "
    "the places ask: for each place the shares of the words add up to 1.",
)
class CrossAttention(_Cross):
    def mix(self, q, k, v, allowed):
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        shares = scores.softmax(2) * allowed[:, None, None, :]
        return shares @ v


@a_cross.misconception(
    "mask-inverted",
    "You look where there is no word. The mask is True where there is one, and True means 'may "
    "look' to F.scaled_dot_product_attention.",
)
class CrossAttention(_Cross):
    def looks(self, mask):
        return ~mask | ~(~mask).any(1, keepdim=True)


@a_cross.misconception(
    "pads-attended",
    "The mask is not used: places look at pads as if they were words.",
)
class CrossAttention(_Cross):
    def looks(self, mask):
        return None


@a_cross.misconception(
    "no-residual",
    "The shortcut is missing: what the words say takes the place of the picture. Add it to x.",
)
class CrossAttention(_Cross):
    def add(self, x, h):
        return self.proj(h.transpose(2, 3).reshape(x.shape))


@a_cross.misconception(
    "keys-and-values-swapped",
    "The first half of self.kv's output is the keys, the second the values. Yours are the other "
    "way round.",
)
class CrossAttention(_Cross):
    def parts(self, x, context):
        q, k, v = super().parts(x, context)
        return q, v, k


@a_cross.misconception(
    "not-scaled",
    "The scores are not divided by the root of the channels of a head, so that the softmax is "
    "sharper than it should be.",
)
class CrossAttention(_Cross):
    def mix(self, q, k, v, allowed):
        scores = (q @ k.transpose(2, 3)).masked_fill(~allowed[:, None, None, :], -torch.inf)
        return scores.softmax(3) @ v


@a_cross.misconception(
    "no-norm",
    "self.norm is not used: the queries are made of x after the normalisation.",
)
class CrossAttention(_Cross):
    def parts(self, x, context):
        b, c = x.shape[:2]
        _, k, v = super().parts(x, context)
        q = self.q(x).reshape(b, self.heads, c // self.heads, -1).transpose(2, 3)
        return q, k, v


@a_cross.misconception(
    "empty-looks-at-pads",
    "A prompt without words changes x: where no word may be looked at you let all pads be looked "
    "at (against NaN, which is right), and keep what they say. It has to be zero.",
)
class CrossAttention(_Cross):
    def forward(self, x, context, mask):
        return self.add(x, self.mix(*self.parts(x, context), self.looks(mask)))


@a_cross.misconception(
    "empty-is-nan",
    "A prompt without words gives NaN: its scores are all minus infinity, and a softmax over them "
    "has no answer. x should come back as it was.",
    detect=lambda got, expected, cases: (
        all(o.status == "ok" for o in got)
        and [bool(torch.isnan(o.value).any()) if isinstance(o.value, torch.Tensor) else False
             for o in got] == [c.name == "a prompt without words" for c in cases]
    ),
)  # fmt: skip
class CrossAttention(_Cross):
    def mix(self, q, k, v, allowed):
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        return scores.masked_fill(~allowed[:, None, None, :], -torch.inf).softmax(3) @ v

    def forward(self, x, context, mask):
        return self.add(x, self.mix(*self.parts(x, context), mask))


@a_cross.misconception(
    "heads-not-parted",
    "The reshape mixes heads and places: (B, heads, places, C / heads) needs a transpose before "
    "the channels of all heads lie side by side in front of the places.",
)
class CrossAttention(_Cross):
    def add(self, x, h):
        return x + self.proj(h.reshape(x.shape))


@a_cross.misconception(
    "softmax-over-places",
    "Your scores are masked, and then the softmax runs over the places: each word shares out its "
    "attention. Here the places ask: for each place the shares of the words add up to 1.",
)
class CrossAttention(_Cross):
    def mix(self, q, k, v, allowed):
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        return scores.masked_fill(~allowed[:, None, None, :], -1e9).softmax(2) @ v


@a_cross.misconception(
    "scaled-by-all-channels",
    "You divide by the root of all C channels. A score is a sum over the channels of one head: "
    "divide by the root of C / heads.",
)
class CrossAttention(_Cross):
    def mix(self, q, k, v, allowed):
        q = q / self.heads**0.5
        return super().mix(q, k, v, allowed)


@a_cross.misconception(
    "masked-after-the-softmax",
    "You strike out pads after the softmax (or their values): they had their share of the 1 "
    "already, and what is left to the words adds up to less. Mask the scores before it.",
)
class CrossAttention(_Cross):
    def mix(self, q, k, v, allowed):
        return super().mix(q, k, v * allowed[:, None, :, None], None)


@a_cross.misconception(
    "scores-made-zero",
    "You multiply scores by the mask. A score of 0 is not a small one: the softmax makes a share "
    "of it. A place may not look where its score is minus infinity.",
)
class CrossAttention(_Cross):
    def mix(self, q, k, v, allowed):
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        return (scores * allowed[:, None, None, :]).softmax(3) @ v


@a_cross.misconception(
    "one-head",
    "There is one head, of all channels. self.heads of them share the channels, and each has a "
    "softmax of its own.",
)
class CrossAttention(_Cross):
    def mix(self, q, k, v, allowed):
        def joined(a):
            return a.transpose(1, 2).flatten(2)[:, None]

        h = super().mix(joined(q), joined(k), joined(v), allowed)[:, 0]
        return h.unflatten(2, (self.heads, -1)).transpose(1, 2)


@a_cross.misconception(
    "words-mixed-with-heads",
    "You reshape keys and values from (B, L, C) to (B, heads, L, C / heads) at once, which puts "
    "pieces of several words into one row. Part the channels first, (B, L, heads, C / heads), and "
    "then bring the heads before the words by a transpose.",
)
class CrossAttention(_Cross):
    def parts(self, x, context):
        q, _, _ = super().parts(x, context)
        k, v = self.kv(context).chunk(2, dim=-1)
        return q, *(a.reshape(len(x), self.heads, -1, q.shape[-1]) for a in (k, v))


@a_cross.misconception(
    "shortcut-normalised",
    "The shortcut adds the normalised picture. The norm is for the queries only; x itself goes "
    "past it.",
)
class CrossAttention(_Cross):
    def add(self, x, h):
        return super().add(self.norm(x), h)


@a_cross.misconception(
    "no-proj",
    "self.proj is not used: what the heads found is added as it is. It mixes them first.",
)
class CrossAttention(_Cross):
    def add(self, x, h):
        return x + h.transpose(2, 3).reshape(x.shape)


@a_cross.misconception(
    "queries-not-turned",
    "You reshape the queries from (B, C, H, W) to (B, heads, places, C / heads) at once. The "
    "channels stand before the places there: part C into heads first, and then exchange the last "
    "two axes.",
)
class CrossAttention(_Cross):
    def parts(self, x, context):
        q, k, v = super().parts(x, context)
        return self.q(self.norm(x)).reshape(q.shape), k, v


@a_cross.misconception(
    "heads-before-halves",
    "You part the output of self.kv into heads first, and each head into key and value. The halves "
    "come first: all keys, then all values, and each of them has the heads.",
)
class CrossAttention(_Cross):
    def parts(self, x, context):
        q, _, _ = super().parts(x, context)
        kv = self.kv(context).reshape(len(x), -1, self.heads, 2, q.shape[-1])
        return q, *kv.permute(3, 0, 2, 1, 4)


@a_cross.misconception(
    "places-before-channels",
    "You lay the heads side by side as for words, (B, places, C), and reshape that to a picture. "
    "In a picture the channels stand before the places: exchange the two first.",
)
class CrossAttention(_Cross):
    def add(self, x, h):
        return x + self.proj(h.transpose(1, 2).reshape(x.shape))


@a_cross.misconception(
    "mask-added-as-number",
    "Your mask is of numbers. Numbers are added to the scores: 1 for words, 0 for pads, so that "
    "pads are still looked at, a little less. Hand over the mask as bool.",
)
class CrossAttention(_Cross):
    def mix(self, q, k, v, allowed):
        return super().mix(q, k, v, allowed.to(q.dtype))


@a_cross.misconception(
    "empty-means-all-alike",
    "Where no word may be looked at, all your scores are the same large negative number, and the "
    "softmax makes equal shares of them: a prompt without words adds the mean of its pads. It has "
    "to add nothing.",
)
class CrossAttention(_Cross):
    def forward(self, x, context, mask):
        q, k, v = self.parts(x, context)
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~mask[:, None, None, :], -1e9)
        return self.add(x, scores.softmax(3) @ v)


@a_cross.alternative("softmax by hand")
class CrossAttention(_Cross):
    def forward(self, x, context, mask):
        b, c, rows, columns = x.shape
        size = c // self.heads
        q = self.q(self.norm(x)).flatten(2).view(b, self.heads, size, -1)
        k, v = (a.view(b, -1, self.heads, size) for a in self.kv(context).chunk(2, dim=-1))
        scores = torch.einsum("bhdp,blhd->bhpl", q, k) / size**0.5
        scores = scores.masked_fill(~mask[:, None, None, :], -1e30)
        shares = scores.softmax(-1) * mask[:, None, None, :]
        h = torch.einsum("bhpl,blhd->bhdp", shares, v)
        return self.proj(h.reshape(b, c, rows, columns)) + x


@a_cross.alternative("one head at a time")
class CrossAttention(_Cross):
    def forward(self, x, context, mask):
        q, k, v = self.parts(x, context)
        away = torch.where(mask, 0.0, -1e30).to(x.dtype)[:, None, :]
        heads = []
        for i in range(self.heads):
            scores = q[:, i] @ k[:, i].mT / k.shape[-1] ** 0.5 + away
            heads.append((torch.softmax(scores, 2) @ v[:, i]).mT)
        h = torch.cat(heads, dim=1).reshape(x.shape)
        return x + self.proj(h * mask.any(1).to(x.dtype).reshape(-1, 1, 1, 1))


# --- 13.4 ----------------------------------------------------------------------------------

a_drop = Answers("13.4")

FEW, MOST, ONES, START = "few dropped", "most", "500 batches of one", "prompts begin with a sign"


class Seen:
    """What an answer to 13.4 did, for telling mistakes apart that have no single outcome."""

    def __init__(self, got, cases):
        self.of = {c.name: (o, c.args) for o, c in zip(got, cases)}
        seeds = self.of["seeds"][0].value
        self.seeds = seeds if isinstance(seeds, dict) else None

    def whole(self, name):
        """(result, tokens, p, empty) of a case, or None for a result of another kind."""
        outcome, (tokens, p, empty, *_) = self.of[name]
        out = outcome.value
        good = isinstance(out, torch.Tensor) and out.shape == tokens.shape
        return (out, tokens, p, empty) if good and out.dtype == tokens.dtype else None

    def gone(self, name):
        """Which prompts became the empty one; None where another thing came of any."""
        found = self.whole(name)
        if found is None:
            return None
        out, tokens, _, empty = found
        kept, gone = (out == tokens).all(1), (out == empty).all(1)
        return gone if bool((kept | gone).all()) else None

    def share(self, name):
        gone = self.gone(name)
        return math.nan if gone is None else float(gone.double().mean())

    def p(self, name):
        return self.of[name][1][1]

    def right_share(self):
        return all(abs(self.share(name) - self.p(name)) < 0.06 for name in (FEW, MOST))

    def is_block(self, name):
        """Whether those that were dropped stand side by side, with none that was kept between."""
        gone = self.gone(name)
        rows = [] if gone is None else gone.nonzero()[:, 0].tolist()
        return len(rows) > 9 and rows[-1] - rows[0] + 1 == len(rows)

    def becomes(self, name, value):
        """Whether whole rows became ``value`` everywhere, in about the right number."""
        found = self.whole(name)
        if found is None:
            return False
        out, tokens, p, _ = found
        kept, gone = (out == tokens).all(1), (out == value).all(1)
        share = float((gone & ~kept).double().mean())
        return bool((kept | gone).all()) and abs(share - p) < 0.08


@a_drop.reference
def drop_prompts(tokens, p, empty, generator=None):
    draw = torch.rand(len(tokens), generator=generator)
    return torch.where((draw < p)[:, None], empty, tokens)


@a_drop.misconception(
    "words-dropped",
    "You decide for each word, so that prompts lose words here and there and are hardly ever "
    "empty. Guidance needs prompts that are gone as a whole: one decision for each row.",
    detect=lambda got, expected, cases: (
        (found := Seen(got, cases).whole(MOST)) is not None
        and bool(((found[0] == found[1]) | (found[0] == found[3])).all())
        and not bool(((found[0] == found[1]).all(1) | (found[0] == found[3]).all(1)).all())
    ),
)
def drop_prompts(tokens, p, empty, generator=None):
    draw = torch.rand(tokens.shape, generator=generator)
    return torch.where(draw < p, empty, tokens)


@a_drop.misconception(
    "p-swapped",
    "You keep prompts with probability p. p is the share that is dropped: with p = 0.1 nine of ten "
    "stay.",
    detect=lambda got, expected, cases: (
        abs((s := Seen(got, cases)).share(FEW) - 1 + s.p(FEW)) < 0.06
        and abs(s.share(MOST) - 1 + s.p(MOST)) < 0.06
    ),
)
def drop_prompts(tokens, p, empty, generator=None):
    draw = torch.rand(len(tokens), generator=generator)
    return torch.where((draw < p)[:, None], tokens, empty)


@a_drop.misconception(
    "all-or-none",
    "One draw decides for the whole batch. Each prompt is dropped for itself, so that every batch "
    "teaches both tasks.",
    detect=lambda got, expected, cases: (
        (s := Seen(got, cases)).share(FEW) in (0.0, 1.0)
        and s.share(MOST) in (0.0, 1.0)
        and 0.0 < s.share(ONES) < 1.0
    ),
)
def drop_prompts(tokens, p, empty, generator=None):
    if torch.rand(1, generator=generator) < p:
        return empty.expand_as(tokens).clone()
    return tokens.clone()


@a_drop.misconception(
    "zeros-for-empty",
    "Dropped prompts become rows of zeros. What stands for no prompt is `empty`: number 0 is "
    "perhaps a word.",
    detect=lambda got, expected, cases: Seen(got, cases).becomes(FEW, 0),
)
def drop_prompts(tokens, p, empty, generator=None):
    keep = torch.rand(len(tokens), generator=generator) >= p
    return tokens * keep[:, None]


@a_drop.misconception(
    "one-number-for-empty",
    "You fill dropped prompts with one number of `empty`. It is a whole row, and its numbers need "
    "not be the same: take all of it.",
    detect=lambda got, expected, cases: (
        (s := Seen(got, cases)).right_share()
        and any(s.becomes(START, int(value)) for value in s.of[START][1][2].unique())
    ),
)
def drop_prompts(tokens, p, empty, generator=None):
    draw = torch.rand(len(tokens), generator=generator)
    return torch.where((draw < p)[:, None], empty[-1], tokens)


@a_drop.misconception(
    "fixed-share",
    "You drop a fixed number of prompts, p times the size of the batch. In a batch of one this "
    "never drops anything. Decide for each prompt anew.",
    detect=lambda got, expected, cases: (
        (s := Seen(got, cases)).right_share()
        and s.share(ONES) in (0.0, 1.0)
        and s.seeds is not None
        and not torch.equal(s.seeds["first"], s.seeds["later"])
    ),
)
def drop_prompts(tokens, p, empty, generator=None):
    chosen = torch.randperm(len(tokens), generator=generator)[: int(p * len(tokens))]
    out = tokens.clone()
    out[chosen] = empty
    return out


@a_drop.misconception(
    "own-randomness",
    "The draws do not come from `generator`, so that a run cannot be repeated. Hand it to the "
    "function that draws.",
    detect=lambda got, expected, cases: (
        (s := Seen(got, cases)).right_share()
        and s.seeds is not None
        and not torch.equal(s.seeds["first"], s.seeds["again"])
    ),
)
def drop_prompts(tokens, p, empty, generator=None):
    gone = torch.tensor([random.random() < p for _ in tokens])
    return torch.where(gone[:, None], empty, tokens)


@a_drop.misconception(
    "a-block",
    "You drop a block of neighbours, the first ones perhaps, and chance has no part in it. Each "
    "prompt is dropped for itself, by a draw of its own.",
    detect=lambda got, expected, cases: (s := Seen(got, cases)).right_share() and s.is_block(FEW),
)
def drop_prompts(tokens, p, empty, generator=None):
    gone = torch.arange(len(tokens)) < round(p * len(tokens))
    return torch.where(gone[:, None], empty, tokens)


@a_drop.misconception(
    "normal-draws",
    "You compare normal draws with p. Half of them are below 0. A draw that is even between 0 and "
    "1 is below p with probability p: torch.rand, not torch.randn.",
    detect=lambda got, expected, cases: all(
        abs(s.share(name) - (1 + math.erf(s.p(name) / 2**0.5)) / 2) < 0.06
        for s in [Seen(got, cases)]
        for name in (FEW, MOST)
    ),
)
def drop_prompts(tokens, p, empty, generator=None):
    draw = torch.randn(len(tokens), generator=generator)
    return torch.where((draw < p)[:, None], empty, tokens)


@a_drop.misconception(
    "reseeded",
    "The same places are dropped in every call, because the generator is seeded (or made) inside. "
    "Whoever calls you owns the generator; each call goes on where the last one stopped.",
    detect=lambda got, expected, cases: (
        (s := Seen(got, cases)).right_share()
        and s.seeds is not None
        and torch.equal(s.seeds["first"], s.seeds["later"])
        and not s.is_block(FEW)
    ),
)
def drop_prompts(tokens, p, empty, generator=None):
    draw = torch.rand(len(tokens), generator=torch.Generator().manual_seed(0))
    return torch.where((draw < p)[:, None], empty, tokens)


@a_drop.misconception(
    "removed",
    "Dropped prompts are taken out of the batch, which then has fewer rows than pictures. Every "
    "picture keeps a prompt; a dropped one is `empty`.",
    detect=lambda got, expected, cases: all(
        isinstance(o.value, torch.Tensor)
        and o.value.ndim == 2
        and len(o.value) < len(c.args[0])
        and abs(len(o.value) / len(c.args[0]) - 1 + c.args[1]) < 0.08
        for o, c in zip(got, cases)
        if c.name in (FEW, MOST)
    ),
)
def drop_prompts(tokens, p, empty, generator=None):
    return tokens[torch.rand(len(tokens), generator=generator) >= p]


@a_drop.alternative("a loop over the prompts")
def drop_prompts(tokens, p, empty, generator=None):
    rows = [empty if torch.rand((), generator=generator).item() < p else row for row in tokens]
    return torch.stack(rows)


@a_drop.alternative("rows put in by a mask")
def drop_prompts(tokens, p, empty, generator=None):
    chance = torch.full((len(tokens),), float(p))
    gone = torch.bernoulli(chance, generator=generator).bool()
    out = tokens.clone()
    out[gone] = empty
    return out


# --- 13.5 ----------------------------------------------------------------------------------

a_two = Answers("13.5")


@a_two.reference
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return eps_null + scale_a * (eps_a - eps_null) + scale_b * (eps_b - eps_null)


@a_two.misconception(
    "scales-swapped",
    "scale_a goes with eps_b in yours, and scale_b with eps_a.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return eps_null + scale_b * (eps_a - eps_null) + scale_a * (eps_b - eps_null)


@a_two.misconception(
    "null-counted-twice",
    "You add two guided predictions, each of which has eps_null in it already. It is where both "
    "directions start, and stands in the sum once.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    one = eps_null + scale_a * (eps_a - eps_null)
    return one + eps_null + scale_b * (eps_b - eps_null)


@a_two.misconception(
    "b-from-a",
    "Your second direction starts at eps_a. Both start at eps_null: what b adds to no prompt.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return eps_null + scale_a * (eps_a - eps_null) + scale_b * (eps_b - eps_a)


@a_two.misconception(
    "b-subtracted",
    "You go away from b when scale_b is above 0. A negative prompt is what a scale below 0 makes; "
    "the formula itself adds both directions.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return eps_null + scale_a * (eps_a - eps_null) - scale_b * (eps_b - eps_null)


@a_two.misconception(
    "no-null",
    "You add the two predictions times their scales. What guidance goes along is what a prompt "
    "changes: its prediction minus eps_null.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return scale_a * eps_a + scale_b * eps_b


@a_two.misconception(
    "start-missing",
    "You add up the two directions, and forget where they start: at eps_null.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return scale_a * (eps_a - eps_null) + scale_b * (eps_b - eps_null)


@a_two.misconception(
    "one-after-the-other",
    "You guide by a, and then take that result for eps_null when you guide by b: what a added is "
    "scaled down again by 1 - scale_b. Both directions start at the same eps_null.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    one = eps_null + scale_a * (eps_a - eps_null)
    return one + scale_b * (eps_b - one)


@a_two.misconception(
    "b-for-null",
    "You put eps_b where eps_null stood, as some programs do with a negative prompt. Then b and no "
    "prompt cannot be told apart, and scale_b is not used. Here b has a direction and a scale of "
    "its own.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return eps_b + scale_a * (eps_a - eps_b)


@a_two.misconception(
    "scales-averaged",
    "You take half of each direction. The scales alone say how far to go along them.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return eps_null + (scale_a * (eps_a - eps_null) + scale_b * (eps_b - eps_null)) / 2


@a_two.misconception(
    "one-more",
    "You go along each direction by 1 + scale. Some papers write guidance so; in this course a "
    "scale of 1 is the prompt's own prediction, and 0 leaves the prompt out.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    one = eps_null + (1 + scale_a) * (eps_a - eps_null)
    return one + (1 + scale_b) * (eps_b - eps_null)


@a_two.misconception(
    "starts-from-a",
    "You start at eps_a, so that a counts once more than scale_a says. Start at eps_null.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return eps_a + scale_a * (eps_a - eps_null) + scale_b * (eps_b - eps_null)


@a_two.misconception(
    "sign-lost",
    "The sign of scale_b gets lost: below 0 you go towards b all the same. A negative prompt needs "
    "no special case; the formula goes away from b by itself.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return eps_null + scale_a * (eps_a - eps_null) + abs(scale_b) * (eps_b - eps_null)


@a_two.misconception(
    "negative-left-out",
    "A scale_b below 0 changes nothing in yours: b is left out. It should be gone away from.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return eps_null + scale_a * (eps_a - eps_null) + max(scale_b, 0.0) * (eps_b - eps_null)


@a_two.misconception(
    "added-in-place",
    "Your sum is eps_null itself under another name: += changes it, so that the second direction "
    "starts where the first one has led, and the caller's prediction is gone. Make a new tensor.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    out = eps_null
    out += scale_a * (eps_a - eps_null)
    out += scale_b * (eps_b - eps_null)
    return out


@a_two.misconception(
    "from-b-to-a",
    "You go along one direction, from b to a, and scale_b is not used. Here each prompt has a "
    "direction of its own, which starts at eps_null, and a scale of its own.",
)
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return eps_null + scale_a * (eps_a - eps_b)


@a_two.alternative("weights that add up to one")
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    return (1 - scale_a - scale_b) * eps_null + scale_a * eps_a + scale_b * eps_b


@a_two.alternative("stacked")
def guided_by_two(eps_null, eps_a, eps_b, scale_a, scale_b):
    scales = torch.tensor([scale_a, scale_b], dtype=eps_null.dtype)
    directions = torch.stack([eps_a, eps_b]) - eps_null
    return eps_null + torch.tensordot(scales, directions, dims=1)


# --- 13.6 ----------------------------------------------------------------------------------

a_retrieval = Answers("13.6")


@a_retrieval.reference
def retrieval_accuracy(image_features, text_features):
    images = F.normalize(image_features.double(), dim=1)
    texts = F.normalize(text_features.double(), dim=1)
    alike = images @ texts.T
    best = alike >= alike.amax(1, keepdim=True) - 1e-6
    return float((best.diagonal() / best.sum(1)).mean())


def _cosines(a, b):
    return F.normalize(a.double(), dim=1) @ F.normalize(b.double(), dim=1).T


def _share(alike):
    best = alike >= alike.amax(1, keepdim=True) - 1e-6
    return float((best.diagonal() / best.sum(1)).mean())


@a_retrieval.misconception(
    "wrong-direction",
    "You look for the best picture of each text. Asked for is the best text of each picture: the "
    "maximum along the other axis of your table.",
)
def retrieval_accuracy(image_features, text_features):
    return _share(_cosines(text_features, image_features))


@a_retrieval.misconception(
    "first-of-equals",
    "Where several texts are equally near you take the first of them (argmax does). If it is not "
    "the right one by its place in the list, that says nothing about the picture: k equals give "
    "1 / k.",
)
def retrieval_accuracy(image_features, text_features):
    alike = _cosines(image_features, text_features)
    best = (alike >= alike.amax(1, keepdim=True) - 1e-6).double().argmax(1)
    return float((best == torch.arange(len(best))).double().mean())


@a_retrieval.misconception(
    "equals-all-right",
    "A picture counts in full where its text is one of several that are equally near. If all "
    "texts were the same, yours would say that every picture found its own. k equals give 1 / k.",
)
def retrieval_accuracy(image_features, text_features):
    alike = _cosines(image_features, text_features)
    right = alike.diagonal() >= alike.amax(1) - 1e-6
    return float(right.double().mean())


@a_retrieval.misconception(
    "equals-all-wrong",
    "Where several texts are equally near, none of them counts in yours. Drawing one of k at "
    "random would be right in one of k cases: count 1 / k.",
)
def retrieval_accuracy(image_features, text_features):
    alike = _cosines(image_features, text_features)
    best = alike >= alike.amax(1, keepdim=True) - 1e-6
    return float((best.diagonal() & (best.sum(1) == 1)).double().mean())


@a_retrieval.misconception(
    "dot-product",
    "The vectors keep their lengths, so that a long text vector is near to every picture. Divide "
    "each by its length first.",
)
def retrieval_accuracy(image_features, text_features):
    return _share(image_features.double() @ text_features.double().T)


@a_retrieval.misconception(
    "pictures-with-themselves",
    "Your table compares one set with itself: everything finds itself. The rows are pictures, the "
    "columns texts.",
)
def retrieval_accuracy(image_features, text_features):
    return _share(_cosines(image_features, image_features))


@a_retrieval.misconception(
    "distance-without-lengths",
    "You take the nearest vector by distance, with the lengths as they are. Asked for is the "
    "cosine, which is blind to length.",
)
def retrieval_accuracy(image_features, text_features):
    return _share(-torch.cdist(image_features.double(), text_features.double()))


@a_retrieval.misconception(
    "mean-cosine",
    "You return how alike the pairs are on average. What is asked for is a share: of how many "
    "pictures the nearest text is their own.",
)
def retrieval_accuracy(image_features, text_features):
    return float(_cosines(image_features, text_features).diagonal().mean())


@a_retrieval.misconception(
    "normalised-along-the-set",
    "You divide each feature by its size over the whole set (dim=0). A cosine needs each vector "
    "divided by its own length (dim=1).",
)
def retrieval_accuracy(image_features, text_features):
    a, b = (F.normalize(x.double(), dim=0) for x in (image_features, text_features))
    return _share(a @ b.T)


@a_retrieval.misconception(
    "count",
    "You return how many pictures found their text. Divide by the number of pictures.",
)
def retrieval_accuracy(image_features, text_features):
    return _share(_cosines(image_features, text_features)) * len(image_features)


@a_retrieval.misconception(
    "to-the-last-digit",
    "You take the greatest cosine to its last digit, by argmax or by ==. Where texts are alike, "
    "rounding then decides which one is nearest. Cosines within 1e-6 of the greatest count as "
    "equal to it, and k equals give 1 / k.",
)
def retrieval_accuracy(image_features, text_features):
    nearest = _cosines(image_features, text_features).argmax(1)
    return float((nearest == torch.arange(len(nearest))).double().mean())


@a_retrieval.misconception(
    "own-not-asked-for",
    "You count 1 / k for each picture with k texts that are equally near, whether its own is one "
    "of them or not. Without ties yours would always be 1.",
)
def retrieval_accuracy(image_features, text_features):
    alike = _cosines(image_features, text_features)
    best = alike >= alike.amax(1, keepdim=True) - 1e-6
    return float((1 / best.sum(1)).double().mean())


@a_retrieval.misconception(
    "equal-to-the-last-digit",
    "Texts count as equally near where their cosines are equal to the last digit. Rounding makes "
    "equals unequal: those within 1e-6 of the greatest count as equal to it.",
)
def retrieval_accuracy(image_features, text_features):
    alike = _cosines(image_features, text_features)
    best = alike == alike.amax(1, keepdim=True)
    return float((best.diagonal() / best.sum(1)).mean())


@a_retrieval.misconception(
    "pictures-keep-their-lengths",
    "The texts are divided by their lengths, the pictures are not. Which text is nearest stays the "
    "same, but what counts as equal does not: 1e-6 is meant for cosines.",
)
def retrieval_accuracy(image_features, text_features):
    return _share(image_features.double() @ F.normalize(text_features.double(), dim=1).T)


@a_retrieval.alternative("one picture at a time")
def retrieval_accuracy(image_features, text_features):
    total = 0.0
    for i, image in enumerate(image_features.double()):
        alike = F.cosine_similarity(image[None], text_features.double(), dim=1)
        equals = (alike > alike.max() - 1e-6).nonzero().flatten().tolist()
        total += (i in equals) / len(equals)
    return total / len(image_features)


@a_retrieval.alternative("by distance of unit vectors")
def retrieval_accuracy(image_features, text_features):
    a, b = (x.double() / x.double().norm(dim=1, keepdim=True)
            for x in (image_features, text_features))  # fmt: skip
    alike = 1 - (a[:, None] - b[None]).square().sum(2) / 2
    own = torch.diagonal(alike)
    better = (alike > own[:, None] + 1e-6).any(1)
    equals = (alike > own[:, None] - 1e-6).sum(1)
    return torch.where(better, 0.0, 1.0 / equals).double().mean().item()
