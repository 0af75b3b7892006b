"""What a recipe's ``data`` means: which set, read how, of what kind, and at what rate.

    source("drums").take("train", 64)       audio (64, 1, 8192) and labels (64,)

One table, so that training, sampling and judging agree about a set. A label is one whole number;
where it says two things, as a note's family and key, ``note_labels`` and ``note_parts`` pack and
unpack it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from undiffuse import data, downloads

LOWEST_KEY, KEYS = 24, 85  # the notes lie from C1 to C8
FAMILIES = 13
# Of L // hop + 1 frames the last one, which is centred where a clip ends, is left out.
MEL = {"rate": 8000, "n_mels": 64, "n_fft": 256, "hop": 64}

Take = Callable[..., tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Source:
    """A set that models can be trained on.

    take(split, n) gives samples float32 (N, C, ...) in [-1, 1] and labels int64 (N,), or tokens
    int64 (N, L) where samples have prompts (``told``). kind: "image", "sound" (waveforms (N, 1,
    L)), "mel" (log-mel spectrograms (N, 1, n_mels, frames)) or "vocoder" (what lets mels be heard:
    flat sounds (N, 1, L) with the mel of each, (N, n_mels, frames), for a label, or what smooth
    spectra lack, with these: ``spectral_vocoder``). classes: how many labels there are; factors:
    the sizes of what a label is packed from, if it is. rate: of the sound, Hz. judge: which
    classifier judges it, "" for none. stored: its name in ``data.sets()``, "" for one that does not
    come with the course; then fetched is its name in ``downloads.SETS``.
    """

    name: str
    take: Take
    kind: str
    classes: int
    rate: int | None = None
    judge: str = ""
    stored: str = ""
    factors: tuple[int, ...] | None = None
    fetched: str = ""
    told: bool = False

    @property
    def vocab(self) -> dict[str, int]:
        """Word -> number, of a set with prompts. ValueError for one without."""
        if not self.told:
            raise ValueError(f"{self.name} has no prompts")
        return data.vocab(self.stored)

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes are called; of notes, the families."""
        if not self.stored:
            return downloads.SETS[self.fetched].classes
        if self.told:
            return ()
        return tuple(data.manifest()["sets"][self.stored]["classes"])

    def judged(self, labels: torch.Tensor) -> torch.Tensor:
        """The class that the judge tells apart, of each label: of a note its family."""
        return note_parts(labels)[0] if self.factors else labels


def note_labels(family: torch.Tensor, midi: torch.Tensor) -> torch.Tensor:
    """(N,) int64 labels that say both: family * 85 + (midi - 24). Undone by ``note_parts``.

    family: (N,) int64 in 0..12; midi: (N,) int64 in 24..108. ValueError for others.
    """
    if family.numel() and not (int(family.min()) >= 0 and int(family.max()) < FAMILIES):
        raise ValueError(f"families are 0 to {FAMILIES - 1}, got {family.tolist()}")
    key = midi - LOWEST_KEY
    if key.numel() and not (int(key.min()) >= 0 and int(key.max()) < KEYS):
        raise ValueError(
            f"keys are {LOWEST_KEY} to {LOWEST_KEY + KEYS - 1}, got {int(midi.min())} to "
            f"{int(midi.max())}"
        )
    return family * KEYS + key


def note_parts(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(family, midi), both (N,) int64, of labels (N,) made by ``note_labels``."""
    return labels // KEYS, labels % KEYS + LOWEST_KEY


def with_transposed(
    x: torch.Tensor, labels: torch.Tensor, semitones: Sequence[int], rate: int = 8000
) -> tuple[torch.Tensor, torch.Tensor]:
    """Notes (N, 1, L) with labels (N,), and after them the same played at other keys.

    For each of ``semitones``, all notes that stay within the keys of the set are resampled so that
    they sound so much higher (and shorter: silence follows), or lower (and are cut at L), and
    labelled accordingly. Within 1 cent.
    """
    from undiffuse.resampling import played_faster

    family, midi = note_parts(labels)
    all_x, all_labels = [x], [labels]
    for k in semitones:
        fits = (midi + k >= LOWEST_KEY) & (midi + k < LOWEST_KEY + KEYS)
        all_x.append(played_faster(x[fits], rate, round(rate * 2 ** (-k / 12))))
        all_labels.append(note_labels(family[fits], midi[fits] + k))
    return torch.cat(all_x).clamp(-1, 1), torch.cat(all_labels)


def training_data(
    of: Source, n: int | None = None, semitones: Sequence[int] = ()
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a model of ``of`` trains on: ``n`` of its training samples, and those transposed.

    semitones: see ``with_transposed``; spectrograms are made of what has been transposed.
    """
    if not semitones:
        return of.take("train", n)
    sounds = of if of.kind == "sound" else SOURCES[of.judge]
    x, labels = with_transposed(*sounds.take("train", n), semitones, of.rate)
    return (log_mels(x) if of.kind == "mel" else x), labels


def parse_label(text: str, source: Source) -> int:
    """The label that a word means: "3", a class's name ("kick"), or for notes "reed:69".

    ValueError says what there is.
    """
    names = source.names

    def one(word: str, size: int, names: tuple[str, ...] = (), first: int = 0) -> int:
        if word.lstrip("-").isdigit() and first <= int(word) < first + size:
            return int(word) - first
        if word in names:
            return names.index(word)
        known = f"{first} to {first + size - 1}"
        if names and names[0] != "0":
            known += f" or {', '.join(names)}"
        raise ValueError(f"label {text!r}: {word!r} is not one of {known}")

    if not source.factors or ":" not in text:
        return one(text, source.classes, () if source.factors else names)
    family, _, key = text.partition(":")
    return one(family, FAMILIES, names) * KEYS + one(key, KEYS, first=LOWEST_KEY)


def log_mels(audio: torch.Tensor, mel: Mapping[str, int] = MEL) -> torch.Tensor:
    """Log-mel spectrograms (N, 1, n_mels, L // hop) in about [-1, 1] of clips (N, 1, L).

    mel: rate, n_mels, n_fft and hop; as it is, clips of 8192 samples at 8 kHz get (N, 1, 64, 128),
    a frame every 64 samples. ``sounds_of`` goes back.
    """
    from undiffuse.transforms import log_mel, log_mel_to_model_range

    found = torch.cat([log_mel(x, **mel) for x in audio.split(100)])
    return log_mel_to_model_range(found)[..., : audio.shape[-1] // mel["hop"]].clamp(-1, 1)


def sounds_of(
    mels: torch.Tensor,
    generator: torch.Generator | None = None,
    iterations: int = 60,
    *,
    mel: Mapping[str, int] = MEL,
) -> torch.Tensor:
    """Clips (N, 1, frames * hop) in [-1, 1] whose ``log_mels`` are about these, by Griffin-Lim."""
    from undiffuse import transforms

    last = torch.full_like(mels[..., :1], -1.0)
    log = transforms.log_mel_from_model_range(torch.cat([mels, last], -1))
    silent = log <= transforms.LOW
    linear = log.exp().masked_fill(silent, 0.0)
    filters = transforms.mel_filterbank(mel["n_mels"], mel["n_fft"], mel["rate"]).to(linear)
    parts = []
    for some in linear.split(50):
        magnitude = transforms.mel_to_magnitude(some, filters)
        parts.append(
            transforms.griffin_lim(
                magnitude, iterations, generator, mel["n_fft"], mel["hop"], momentum=0.9
            )
        )
    x = torch.cat(parts)
    return x / x.abs().amax(-1, keepdim=True).clamp(min=1.0)


def _notes(split: str = "train", n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    x, family, midi = data.notes(split, n)
    return x, note_labels(family, midi)


def _notes_mel(split: str = "train", n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    x, labels = _notes(split, n)
    return log_mels(x), labels


def _fsdd_mel(split: str = "train", n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    x, digit = downloads.fsdd(split, n)
    return log_mels(x), digit


def _fsdd_vocoder(split: str = "train", n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    from undiffuse.vocoder import MelLevels, pieces

    x, _ = downloads.fsdd(split, n)
    return pieces(x[:, 0], MelLevels(**MEL))


def _fsdd_spectra(split: str = "train", n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    from undiffuse.spectral_vocoder import spectral_pieces

    x, _ = downloads.fsdd(split, n)
    return spectral_pieces(x[:, 0], **MEL)


SOURCES = {
    s.name: s
    for s in (
        Source("digits", data.digits, "image", 10, None, "digits", "mnist10k"),
        Source("fashion", data.fashion, "image", 10, None, "fashion", "fashion10k"),
        Source("drums", data.drums, "sound", 8, 16000, "drums", "drums16k"),
        Source(
            "notes", _notes, "sound", FAMILIES * KEYS, 8000, "notes", "notes8k", (FAMILIES, KEYS)
        ),
        Source(
            "notes-mel",
            _notes_mel,
            "mel",
            FAMILIES * KEYS,
            8000,
            "notes",
            "notes8k",
            (FAMILIES, KEYS),
        ),
        Source(
            "portraits", data.portraits, "image", 0, None, "portraits", "portraits32", told=True
        ),
        Source("emoji", data.emoji, "image", 0, None, "emoji", "emoji32", told=True),
        Source("fsdd", downloads.fsdd, "sound", 10, 8000, "fsdd", fetched="fsdd"),
        Source("fsdd-vocoder", _fsdd_vocoder, "vocoder", 0, 8000, fetched="fsdd"),
        Source("fsdd-spectra", _fsdd_spectra, "vocoder", 0, 8000, fetched="fsdd"),
        Source("fsdd-mel", _fsdd_mel, "mel", 10, 8000, "fsdd", fetched="fsdd"),
        Source("cifar10", downloads.cifar10, "image", 10, fetched="cifar10"),
    )
}


def source(name: str) -> Source:
    """The source called ``name``; ValueError with the nearest for one that is not there."""
    if name not in SOURCES:
        near = difflib.get_close_matches(str(name), SOURCES, 1)
        raise ValueError(
            f"data must be one of {', '.join(SOURCES)}, got {name!r}"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    return SOURCES[name]
