"""Sounds in a notebook: players with a description in words, and spectrograms.

    player(audio, rate, text="", *, label="sound")       one sound
    sounds(clips, rate, *, texts=None, caption="")       several, named; in rows, or in a table
    describe(audio, rate)                                a sentence of what can be measured
    spectrogram(ax, audio, rate)                         into axes of yours
    spectrograms(clips, rate, *, columns=2, title="")    a Figure for ``plots.show``
    spectrograms_alt(clips, rate)                        the alternative text for it

A clip is (L,) or (1, L), a tensor or an array, with full scale 1.0. Players hold 16-bit WAV in
the page itself: nothing is loaded from elsewhere. Whoever cannot hear or play it (a screen reader,
a page without its outputs' scripts, paper) has the text. TypeError or ValueError for what is no
sound: wrong shape, nothing in it, NaN.
"""

from __future__ import annotations

import base64
import html
import io
import wave
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from undiffuse import sound_metrics
from undiffuse.plots.base import WIDTH, Array, as_word, dress, finite, named, new_figure, numbers
from undiffuse.sound import SILENT, rms_dbfs
from undiffuse.transforms import stft_magnitude

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

LONGEST = 20.0  # seconds: at 16 kHz 850 kB of page
QUIETEST = -80.0  # dB of full scale, where a spectrogram's colours begin
NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


class Players:
    """Sounds with their words, as ``display`` or the last line of a cell shows them.

    ``cells`` holds (row, column, WAV bytes, text) of each; ``column`` is "" outside a table.
    """

    def __init__(self, cells: list[tuple[str, str, bytes, str]], caption: str = "") -> None:
        self.cells, self.caption = cells, caption

    def __repr__(self) -> str:
        lines = [f"[sound] {_name(row, column)}: {text}" for row, column, _, text in self.cells]
        return "\n".join([self.caption, *lines] if self.caption else lines)

    def _repr_html_(self) -> str:
        columns = list(dict.fromkeys(column for _, column, _, _ in self.cells))
        rows = list(dict.fromkeys(row for row, _, _, _ in self.cells))
        at = {(row, column): (wav, text) for row, column, wav, text in self.cells}
        out = ['<table style="text-align:left">']
        if self.caption:
            out.append(f"<caption>{html.escape(self.caption)}</caption>")
        if columns != [""]:
            heads = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in columns)
            out.append(f"<tr><td></td>{heads}</tr>")
        for row in rows:
            out.append(f'<tr><th scope="row">{html.escape(row)}</th>')
            for column in columns:
                found = at.get((row, column))
                inside = "" if found is None else _audio(_name(row, column), *found)
                out.append(f'<td style="text-align:left">{inside}</td>')
            out.append("</tr>")
        return "".join([*out, "</table>"])


def player(audio: Array, rate: int, text: str = "", *, label: str = "sound") -> Players:
    """A sound to play, with ``text`` below it: by default what ``describe`` measures.

    Sound that passes full scale is played with its peak at full scale, and the text says so.
    ValueError for more than ``LONGEST`` seconds.
    """
    return sounds({label: audio}, rate, texts={label: text})


def sounds(
    clips: Mapping[str, Array | Mapping[str, Array]],
    rate: int,
    *,
    texts: Mapping[str, str | Mapping[str, str]] | None = None,
    caption: str = "",
) -> Players:
    """Players one below the other, or as a table.

    clips: name -> clip, or row -> {column -> clip}, where a row may lack a column. texts: of the
    same shape; what is left out or empty is described by ``describe``.
    """
    cells = []
    for row, inside in named(clips, "clips").items():
        own = (texts or {}).get(row) or ""
        if isinstance(inside, Mapping):
            for column, clip in named(inside, f"clips[{row!r}]").items():
                text = own.get(column, "") if isinstance(own, Mapping) else own
                cells.append(_cell(as_word(row), as_word(column), clip, rate, text))
        else:
            cells.append(_cell(as_word(row), "", inside, rate, own))
    return Players(cells, caption)


def describe(audio: Array, rate: int) -> str:
    """What can be measured on a sound, in a sentence; the same sound gives the same words.

    Length, and how much of it sounds (until it stays 40 dB under its peak); level as RMS in dBFS;
    attack; centre of its power over frequency, which is what makes it bright or dull; pitch with
    the nearest note, where it has one; how much of it is clipped, if any.
    """
    return _describe(_clip(audio, "audio", rate), rate)


def spectrogram(ax: Axes, audio: Array, rate: int, *, n_fft: int | None = None) -> AxesImage:
    """Draws how strong each frequency is at each time into ``ax``; returns the image.

    Colour is the level in dB of full scale (a full-scale sine has 0), from ``QUIETEST`` to 0 in
    every picture, so that pictures can be compared, in steps of 2 dB. n_fft: about 32 ms if None,
    a power of two.
    """
    from matplotlib import colormaps

    v = _clip(audio, "audio", rate)
    n_fft = n_fft or 2 ** round(np.log2(0.032 * rate))
    hop = max(1, n_fft // 8)
    x = torch.from_numpy(np.pad(v, (0, max(0, n_fft - len(v)))))
    level = 20 * torch.log10((stft_magnitude(x, n_fft, hop) * (4 / n_fft)).clamp(min=1e-6))
    half = hop / 2 / rate
    return ax.imshow(
        level.numpy(),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(-half, (level.shape[1] - 1) * hop / rate + half, 0, rate / 2000),
        vmin=QUIETEST,
        vmax=0.0,
        cmap=colormaps["magma"].resampled(round(-QUIETEST / 2)),
    )


def spectrograms(
    clips: Mapping[str, Array], rate: int, *, columns: int = 2, title: str = ""
) -> Figure:
    """Spectrograms side by side, under one scale of colours. clips: name -> (L,) or (1, L)."""
    named(clips, "clips")
    columns = max(1, min(columns, len(clips)))
    rows = -(-len(clips) // columns)
    fig = new_figure(WIDTH, 0.6 + 1.7 * rows)
    grid = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax, (name, clip) in zip(grid.flat, clips.items()):
        image = spectrogram(ax, clip, rate)
        dress(ax, "", "", as_word(name)).grid(False)
    for spare in grid.flat[len(clips) :]:
        spare.set_axis_off()
    for ax in grid[-2, len(clips) - columns * rows :] if len(clips) % columns else ():
        ax.tick_params(labelbottom=True)  # nothing is below it
    fig.supxlabel("time in seconds", fontsize=10)
    fig.supylabel("frequency in kHz", fontsize=10)
    fig.colorbar(image, ax=grid, label="level in dB of full scale", pad=0.02, aspect=30)
    if title:
        fig.suptitle(title, fontsize=11)
    return fig


def spectrograms_alt(clips: Mapping[str, Array], rate: int) -> str:
    """Alternative text for ``spectrograms``: how many, and each described by ``describe``."""
    told = " ".join(f"{as_word(k)}: {describe(v, rate)}" for k, v in named(clips, "clips").items())
    count = f"{len(clips)} spectrograms" if len(clips) > 1 else "A spectrogram"
    return f"{count}, frequency over time, brighter where louder. {told}"


def _describe(v: np.ndarray, rate: int) -> str:
    x = torch.from_numpy(v)
    long = len(v) / rate
    level = float(rms_dbfs(x))
    if level <= SILENT:
        return f"{long:.2f} s of silence."
    heard = float(sound_metrics.sounding_seconds(x, rate))
    length = f"{long:.2f} s" if heard > 0.95 * long else f"{heard:.2f} s, in a clip of {long:.2f} s"
    facts = [f"level {level:.0f} dBFS"]
    attack = 1000 * float(sound_metrics.attack_seconds(x, rate))
    facts.append(f"attack {max(2, attack):.0f} ms")
    facts.append(f"power centred on {_hz(float(sound_metrics.spectral_centroid(x, rate)))}")
    pitch = float(sound_metrics.estimate_pitch(x, rate)) if len(v) >= 16 else float("nan")
    facts.append("no clear pitch" if np.isnan(pitch) else f"pitch {_hz(pitch)} ({_note(pitch)})")
    clipped = float(sound_metrics.clipping_share(x))
    if clipped > 0.001:
        facts.append(f"{clipped:.1%} of samples at full scale")
    return f"{length}; " + ", ".join(facts) + "."


def _hz(hz: float) -> str:
    return f"{hz:.0f} Hz" if round(hz) < 1000 else f"{hz / 1000:.1f} kHz"


def _note(hz: float) -> str:
    """ "A4", "A4 less 12 cents"."""
    midi = float(sound_metrics.hz_to_midi(torch.tensor(hz, dtype=torch.float64)))
    nearest = round(midi)
    cents = round(100 * (midi - nearest))
    name = f"{NOTES[nearest % 12]}{nearest // 12 - 1}"
    if not cents:
        return name
    word = "cent" if abs(cents) == 1 else "cents"
    return f"{name} {'plus' if cents > 0 else 'less'} {abs(cents)} {word}"


def _cell(row: str, column: str, audio: Array, rate: int, text: str):
    v = _clip(audio, _name(row, column), rate)
    if len(v) > LONGEST * rate:
        raise ValueError(
            f"{_name(row, column)} lasts {len(v) / rate:.1f} s: at most {LONGEST:.0f} s are put "
            "into a page"
        )
    text = text.strip() or _describe(v, rate)
    peak = float(np.abs(v).max())
    if peak > 1:
        text += f" Played {20 * np.log10(peak):.1f} dB quieter, for it passes full scale."
    return row, column, _wav(v / max(1.0, peak), rate), text


def _clip(audio: Array, name: str, rate: int) -> np.ndarray:
    """(L,) float64."""
    if not rate > 0:
        raise ValueError(f"rate is {rate}: the samples per second are wanted")
    v = finite(numbers(audio, name), name)
    if v.dtype.kind != "f":
        raise TypeError(f"{name} holds {v.dtype}: floats with full scale 1 are wanted")
    v = v[0] if v.ndim == 2 and v.shape[0] == 1 else v
    if v.ndim != 1:
        raise ValueError(f"{name} has shape {v.shape}: a clip (L,) is wanted")
    return v.astype(np.float64)


def _wav(v: np.ndarray, rate: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(int(rate))
        file.writeframes(np.round(v * 32767).astype("<i2").tobytes())
    return out.getvalue()


def _audio(name: str, wav: bytes, text: str) -> str:
    label = html.escape(f"{name}: {text}", quote=True)
    data = base64.b64encode(wav).decode()
    return (
        f'<audio controls="controls" preload="metadata" aria-label="{label}">'
        f'<source src="data:audio/wav;base64,{data}" type="audio/wav"></audio>'
        f'<div style="max-width:30em;font-size:90%">{html.escape(text)}</div>'
    )


def _name(row: str, column: str) -> str:
    return f"{row}, {column}" if column else row
