"""Pictures from words: a prompt in, pictures and what was understood out.

found = ask(checkpoints.load("portraits"), "a pilot with dark skin", count=4)
found.samples                     (4, 3, 32, 32) in [-1, 1]
found.said                        what a person should be told of the prompt, if anything
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from undiffuse.checkpoints import Checkpoint
from undiffuse.draw import draw
from undiffuse.text import Reading, read, tokenize, words_of

AWAY, TOWARDS = 1.5, 2.0  # scales of a negative and of a further prompt, where none is given


@dataclass(frozen=True)
class Asked:
    """samples (count, C, H, W) in [-1, 1]; tokens (count, L); said: remarks, a sentence each."""

    samples: torch.Tensor
    tokens: torch.Tensor
    said: tuple[str, ...] = ()


def length_of(checkpoint: Checkpoint) -> int:
    """How many words of a prompt its network reads. ValueError for one that reads none."""
    if not checkpoint.recipe.told:
        raise ValueError(
            f"{checkpoint.name} reads no prompts: take a checkpoint that does, such as portraits"
        )
    return checkpoint.model.encoder.length


def understand(checkpoint: Checkpoint, prompt: str) -> Reading:
    """How a checkpoint's network reads ``prompt``."""
    return read(prompt, checkpoint.vocab, length_of(checkpoint))


def ask(
    checkpoint: Checkpoint,
    prompt: str | Sequence[str],
    count: int | None = None,
    *,
    negative: str = "",
    also: str = "",
    second_scale: float | None = None,
    **options: Any,
) -> Asked:
    """Draws pictures for a prompt, or one for each of several.

    prompt: words; an empty one draws without a condition. count: how many of one prompt (1), or in
    all, prompts in turn (one each). negative: what is not wanted; also: a second prompt that is
    wanted as well; not both. second_scale: of either, by its size. options: those of
    ``draw.draw``. Unknown words are left out and noted in ``said``, with the nearest that are
    known. Raises TypeError for prompts that are no strings, ValueError for a checkpoint that reads
    none, or negative and also together.
    """
    length, vocab = length_of(checkpoint), checkpoint.vocab
    several = [prompt] if isinstance(prompt, str) else list(prompt)
    if not several:
        raise ValueError("there is no prompt: give one, or a list of them")
    if negative and also:
        raise ValueError("give negative or also, a prompt to avoid or one to add; not both")
    readings = [read(text, vocab, length) for text in several]
    other = negative or also
    if other:
        readings.append(read(other, vocab, length))
    count = len(several) if count is None else count
    tokens = known_tokens(several, vocab, length)
    tokens = tokens.repeat(-(-count // len(tokens)), 1)[:count]
    if other:
        usual = AWAY if negative else TOWARDS
        size = usual if second_scale is None else abs(second_scale)
        further = known_tokens([other], vocab, length).repeat(count, 1)
        options["second"] = (further, -size if negative else size)
    samples, _ = draw(checkpoint, count, labels=tokens, **options)
    said = dict.fromkeys(line for reading in readings for line in reading.said())
    return Asked(samples, tokens, tuple(said))


def known_tokens(texts: Sequence[str], vocab: dict[str, int], length: int) -> torch.Tensor:
    """(B, length) int64 of the first ``length`` words; those that are not known are left out.

    Training never showed an unknown word, so that its number means nothing.
    """
    kept = [" ".join(w for w in words_of(text)[:length] if w in vocab) for text in texts]
    return tokenize(kept, vocab, length)


def words_from(tokens: torch.Tensor, vocab: dict[str, int]) -> list[str]:
    """The prompts that tokens (B, L) stand for, as words with spaces between."""
    words = list(vocab)
    return [" ".join(words[i] for i in row if i) for row in tokens.tolist()]


__all__ = [
    "AWAY",
    "TOWARDS",
    "Asked",
    "ask",
    "known_tokens",
    "length_of",
    "understand",
    "words_from",
]
