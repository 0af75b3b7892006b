"""Words: prompts as numbers, and a small network that reads them.

    vocab = make_vocab(["a cook with dark skin", "a pilot"])
    tokenize(["a cook"], vocab, 6)            (1, 6) int64, padded with PAD

A prompt of no words, all ``PAD``, is what "no condition" means for guidance: the encoder then has
nothing to say, and a network that reads it adds nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from undiffuse._arguments import require_count
from undiffuse.blocks import masked_attention

PAD, UNKNOWN = 0, 1
PAD_WORD, UNKNOWN_WORD = "<pad>", "<unk>"
_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
NEAR = 3  # words offered for an unknown one


def words_of(text: str) -> list[str]:
    """The words of a text in lower case: letters and digits, with - and ' inside a word.

    Everything else parts words and is dropped. Raises TypeError for what is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"a prompt must be a string, got {type(text).__name__}")
    return _WORD.findall(text.lower())


def make_vocab(texts: Iterable[str]) -> dict[str, int]:
    """Word -> number for all words of ``texts``, in the order of the alphabet, from 2 on.

    ``PAD_WORD`` is 0 and ``UNKNOWN_WORD`` is 1.
    """
    found = sorted({word for text in texts for word in words_of(text)})
    return {word: i for i, word in enumerate([PAD_WORD, UNKNOWN_WORD, *found])}


def tokenize(texts: Sequence[str], vocab: Mapping[str, int], length: int) -> torch.Tensor:
    """Prompts as numbers: (B, length) int64.

    A word that ``vocab`` lacks becomes ``vocab["<unk>"]``; what is short is filled up at the end
    with ``vocab["<pad>"]``; words after the first ``length`` are left out. Case does not matter.
    Raises TypeError for a string in place of a list of them, ValueError for length below 1.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a list of strings; for one prompt pass [text]")
    require_count("length", length)
    pad, unknown = vocab[PAD_WORD], vocab[UNKNOWN_WORD]
    tokens = torch.full((len(texts), length), pad, dtype=torch.int64)
    for row, text in zip(tokens, texts):
        found = [vocab.get(word, unknown) for word in words_of(text)[:length]]
        row[: len(found)] = torch.tensor(found, dtype=torch.int64)
    return tokens


@dataclass(frozen=True)
class Reading:
    """How a prompt is understood. known: its words in order; unknown: word -> near words that are
    known; left_out: how many words beyond the length were not read; odd: signs that are no words,
    such as emoji."""

    text: str
    known: tuple[str, ...]
    unknown: Mapping[str, tuple[str, ...]]
    left_out: int = 0
    odd: str = ""

    def said(self) -> list[str]:
        """What a person should be told of it, a sentence each; nothing where all was read."""
        told = []
        if not self.text.strip():
            told.append("the prompt is empty: pictures are drawn without one")
        elif not self.known:
            told.append("no word of the prompt is known: pictures are drawn as if without one")
        for word, near in list(self.unknown.items())[:5]:
            offer = f"; did you mean {' or '.join(near)}?" if near else ""
            told.append(f"{_short(word)!r} is not a word that it knows{offer}")
        if len(self.unknown) > 5:
            told.append(f"and {len(self.unknown) - 5} more words that it does not know")
        if self.odd:
            told.append(f"{self.odd!r} is no word: write what it shows")
        if self.left_out:
            told.append(
                f"the last {self.left_out:,} words are not read: it reads "
                f"{len(words_of(self.text)) - self.left_out}"
            )
        return told


def _short(word: str) -> str:
    return word if len(word) <= 30 else word[:29] + "…"


def read(text: str, vocab: Mapping[str, int], length: int) -> Reading:
    """How ``text`` is understood by a network of this vocabulary and length."""
    found = words_of(text)
    shown = found[:length]
    unknown = dict.fromkeys(word for word in shown if word not in vocab)
    real = [w for w in vocab if w not in (PAD_WORD, UNKNOWN_WORD)]
    near = {
        w: tuple(difflib.get_close_matches(w[:40], real, NEAR, 0.6)) for w in list(unknown)[:20]
    }
    signs = dict.fromkeys(c for c in text[:2000] if ord(c) > 0x2000 and not c.isalnum())
    odd = "".join(c for c in signs if c.isprintable() and c not in "‘’“”–—…‑")
    return Reading(
        text,
        tuple(w for w in shown if w in vocab),
        {w: near.get(w, ()) for w in unknown},
        max(0, len(found) - length),
        odd[:8],
    )


def drop_words(
    tokens: torch.Tensor, p: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """(B, L) int64 with each word left out with probability ``p``; the rest moves together.

    So that a network learns what each word says by itself, and short prompts are nothing new to
    it. Draws ``torch.rand(B, L)`` once. Raises ValueError for p outside [0, 1] or another shape.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must be in [0, 1], got {p}")
    if tokens.ndim != 2:
        raise ValueError(f"tokens must be (B, L), got shape {tuple(tokens.shape)}")
    if p == 0:
        return tokens.clone()
    draw = torch.rand(tokens.shape, generator=generator)
    gone = (draw.to(tokens.device) < p) | (tokens == PAD)
    order = gone.to(torch.uint8).argsort(dim=1, stable=True)
    return torch.where(gone, PAD, tokens).gather(1, order)


class TextBlock(nn.Module):
    """Words look at one another, then each is thought over: a transformer block, norms first.

    Vaswani et al. 2017, section 3.1, with the norm before each part (Xiong et al. 2020).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        b, n, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, width / heads)
        h = masked_attention(q, k, v, mask).transpose(1, 2).reshape(b, n, width)
        x = x + self.proj(h)
        return x + self.mlp(self.norm2(x))


class TextEncoder(nn.Module):
    """Reads a prompt: a vector for each word, and one for the whole.

    words: how many numbers ``tokenize`` may give; length: the longest prompt; width: of the
    vectors; layers, heads: of the transformer.

    forward(tokens (B, L) int64, mask (B, L) bool, True where there is a word) -> (each
    (B, L, width), whole (B, width)). mask None takes ``tokens != PAD``. Pads are not looked at, and
    are zero in ``each``; ``whole`` is the mean over the words alone, zero where there are none.
    Raises ValueError for tokens outside [0, words) or longer than ``length``.
    """

    def __init__(
        self, words: int, length: int = 20, width: int = 64, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be shared by {heads} heads")
        self.words, self.length, self.width = words, length, width
        self.embed = nn.Embedding(words, width)
        self.places = nn.Parameter(torch.zeros(length, width))
        nn.init.normal_(self.embed.weight, std=0.5)
        nn.init.normal_(self.places, std=0.1)
        self.blocks = nn.ModuleList(TextBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if tokens.ndim != 2 or tokens.is_floating_point() or tokens.shape[1] > self.length:
            raise ValueError(
                f"tokens must be int64 (B, L) with L up to {self.length}, got {tokens.dtype} "
                f"{tuple(tokens.shape)}"
            )
        mask = tokens != PAD if mask is None else mask
        x = self.embed(tokens) + self.places[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        each = self.norm(x) * mask[..., None]
        return each, each.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def as_tokens(cond: torch.Tensor, words: int) -> torch.Tensor:
    """``cond`` if it holds tokens (B, L) in [0, words), else a ValueError that says what it is."""
    if cond.ndim != 2 or cond.is_floating_point():
        raise ValueError(
            f"this network reads prompts: tokens int64 (B, L) are wanted, got {cond.dtype} "
            f"{tuple(cond.shape)}"
        )
    if cond.numel() and (int(cond.min()) < 0 or int(cond.max()) >= words):
        raise ValueError(
            f"tokens must be 0 to {words - 1}, got {int(cond.min())} to {int(cond.max())}"
        )
    return cond


__all__ = [
    "PAD",
    "UNKNOWN",
    "Reading",
    "TextBlock",
    "TextEncoder",
    "as_tokens",
    "drop_words",
    "make_vocab",
    "read",
    "tokenize",
    "words_of",
]
