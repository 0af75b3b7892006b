"""Players and spectrograms: playable, described in words, the same for the same sound."""

import base64
import io
import math
import re
import wave
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from undiffuse import listen, plots

RATE = 8000
T = torch.arange(4000) / RATE
TONE = 0.5 * torch.sin(2 * math.pi * 440 * T) * torch.exp(-6 * T)
NOISE = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(0))


class Page(HTMLParser):
    """The elements of a page, by name, with their attributes; and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def played(source):
    """(samples as int16, rate) of a data URI."""
    kind, data = source["src"].split(",")
    assert kind == "data:audio/wav;base64" and source["type"] == "audio/wav"
    return soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="int16")


@pytest.mark.parametrize("audio", [TONE, TONE[None], TONE.numpy(), TONE.double(), TONE.tolist()])
def test_a_player_holds_the_sound_and_its_words(audio):
    shown = listen.player(audio, RATE, 'A falling <tone> & "more".', label="tone")
    page = Page(shown._repr_html_())
    assert not page.open and "script" not in shown._repr_html_()
    (element,), (source,) = page.all("audio"), page.all("source")
    samples, rate = played(source)
    assert rate == RATE and samples.ndim == 1
    np.testing.assert_allclose(samples, 32767 * TONE.numpy(), atol=0.51)
    assert "controls" in element
    assert element["aria-label"] == 'tone: A falling <tone> & "more".'
    assert 'A falling <tone> & "more".' in page.text and "<tone>" not in shown._repr_html_()
    assert repr(shown) == '[sound] tone: A falling <tone> & "more".'


@given(st.integers(1, 3000), st.integers(1, 48000), st.integers(0, 100))
def test_what_is_played_is_the_sound_to_half_a_step(n, rate, seed):
    if n > listen.LONGEST * rate:
        return
    x = torch.rand(n, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    content = listen.player(x, rate, "noise").cells[0][2]
    with wave.open(io.BytesIO(content)) as file:
        assert file.getparams()[:4] == (1, 2, rate, n)
        samples = np.frombuffer(file.readframes(n), "<i2")
    assert np.abs(samples / 32767 - x.numpy()).max() <= 0.51 / 32767


def test_loud_sound_is_made_quieter_and_told():
    shown = listen.player(4 * TONE, RATE, "Loud.")
    samples, _ = played(Page(shown._repr_html_()).all("source")[0])
    peak = float(TONE.abs().max())
    assert abs(samples).max() == 32767
    np.testing.assert_allclose(samples, 32767 * TONE.numpy() / peak, atol=0.51)
    loud = 20 * math.log10(4 * peak)
    assert f"Loud. Played {loud:.1f} dB quieter, for it passes full scale." in repr(shown)
    assert "quieter" not in repr(listen.player(TONE / peak, RATE, "Just right."))


def test_sounds_in_rows_and_in_a_table():
    rows = listen.sounds(
        {"tone": TONE, "noise": NOISE}, RATE, texts={"noise": "A hiss."}, caption="Two"
    )
    page = Page(rows._repr_html_())
    assert [a["scope"] for a in page.all("th")] == ["row", "row"]
    assert len(page.all("audio")) == 2 and len(page.all("caption")) == 1
    assert repr(rows) == f"Two\n[sound] tone: {listen.describe(TONE, RATE)}\n[sound] noise: A hiss."
    grid = {"kick": {"real": TONE, "model": NOISE}, 7: {"model": NOISE}}
    table = listen.sounds(grid, RATE, texts={"kick": {"real": "A <b>."}, 7: "All."})
    page = Page(table._repr_html_())
    assert [a["scope"] for a in page.all("th")] == ["col", "col", "row", "row"]
    labels = [a["aria-label"] for a in page.all("audio")]
    assert labels[0] == "kick, real: A <b>." and labels[2] == "7, model: All."
    assert labels[1] == f"kick, model: {listen.describe(NOISE, RATE)}"
    assert len(page.all("td")) == 1 + 4
    assert not page.open


# --- words -----------------------------------------------------------------------------------


def test_the_words_are_measured():
    told = listen.describe(TONE, RATE)
    assert told == listen.describe(TONE.double().numpy()[None], RATE)
    # Its peak falls by 40 dB in ln(100) / 6 s, later than the clip's end.
    level = 20 * math.log10(float(TONE.square().mean().sqrt()))
    assert told.startswith(f"0.50 s; level {level:.0f} dBFS, attack 2 ms, power centred on 4")
    assert "pitch 440 Hz (A4)." in told
    short = listen.describe(torch.cat([TONE[:1000], torch.zeros(3000)]), RATE)
    assert short.startswith("0.12 s, in a clip of 0.50 s; level ") or short.startswith("0.13 s")
    sharp = torch.sin(2 * math.pi * 450 * T)
    assert "pitch 450 Hz (A4 plus 39 cents)" in listen.describe(sharp, RATE)
    assert "pitch 1.0 kHz (B5 plus 21 cents)" in listen.describe(
        torch.sin(2 * math.pi * 1000 * T), RATE
    )
    assert "no clear pitch" in listen.describe(NOISE, RATE)
    assert "of samples at full scale" in listen.describe((9 * TONE).clamp(-1, 1), RATE)


def test_silence_and_the_shortest_sound_have_words():
    assert listen.describe(torch.zeros(4000), RATE) == "0.50 s of silence."
    assert "0.00 s" in listen.describe(torch.tensor([0.5]), RATE)
    shown = listen.player(torch.zeros(4000), RATE)
    samples, _ = played(Page(shown._repr_html_()).all("source")[0])
    assert (samples == 0).all() and "silence" in repr(shown)


# --- spectrograms ----------------------------------------------------------------------------


def test_a_spectrogram_shows_levels_of_full_scale():
    ax = Figure().add_subplot()
    image = listen.spectrogram(ax, torch.sin(2 * math.pi * 1000 * T), RATE, n_fft=256)
    level = image.get_array()
    assert level.shape == (129, 1 + 4000 // 32) and image.get_clim() == (-80, 0)
    inside = level[:, 10:-10]
    assert (inside.argmax(0) == 32).all()
    np.testing.assert_allclose(inside.max(0), 0, atol=0.01)
    left, right, bottom, top = image.get_extent()
    assert (bottom, top) == (0, 4) and left < 0 and right == pytest.approx(0.5, abs=0.01)
    silent = listen.spectrogram(ax, torch.zeros(50), RATE).get_array()
    assert np.isfinite(silent).all() and silent.max() < -80


def test_spectrograms_are_a_figure_with_words():
    clips = {"tone": TONE, "noise": NOISE, "silence": torch.zeros(4000)}
    fig = listen.spectrograms(clips, RATE, title="three")
    panels = [ax for ax in fig.axes if ax.images and ax.get_title()]
    assert [ax.get_title() for ax in panels] == ["tone", "noise", "silence"]
    assert fig.get_supxlabel() == "time in seconds" and fig.get_supylabel() == "frequency in kHz"
    png = plots.png(fig)
    assert png == plots.png(listen.spectrograms(clips, RATE, title="three"))
    assert Image.open(io.BytesIO(png)).width <= 800 and len(png) < 120_000
    alt = listen.spectrograms_alt(clips, RATE)
    assert alt.startswith("3 spectrograms") and "silence: 0.50 s of silence." in alt
    assert f"tone: {listen.describe(TONE, RATE)}" in alt
    one = listen.spectrograms_alt({"tone": TONE}, RATE)
    assert one.startswith("A spectrogram")
    plots.png(listen.spectrograms({"tone": TONE}, RATE))


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: listen.player(torch.tensor([0.0, math.nan]), RATE), ValueError, "1 of 2 numbers"),
        (lambda: listen.player(torch.zeros(0), RATE), ValueError, "empty"),
        (lambda: listen.player(torch.zeros(2, 9), RATE), ValueError, r"\(2, 9\): a clip \(L,\)"),
        (
            lambda: listen.player(torch.zeros(9, dtype=torch.int16), RATE),
            TypeError,
            "int16: floats",
        ),
        (lambda: listen.player(TONE, 0), ValueError, "rate is 0"),
        (lambda: listen.player(torch.zeros(9000), 400), ValueError, "lasts 22.5 s: at most 20 s"),
        (lambda: listen.sounds({}, RATE), ValueError, "clips is empty"),
        (lambda: listen.sounds({"a": {}}, RATE), ValueError, r"clips\['a'\] is empty"),
        (lambda: listen.sounds([TONE], RATE), TypeError, "a dict"),
        (lambda: listen.spectrograms({}, RATE), ValueError, "clips is empty"),
        (lambda: listen.describe(torch.zeros(2, 2), RATE), ValueError, r"\(2, 2\)"),
    ],
)
def test_errors_say_what_was_given_and_wanted(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_every_function_is_listed():
    public = {n for n in vars(listen) if not n.startswith("_") and callable(vars(listen)[n])
              and getattr(vars(listen)[n], "__module__", "") == listen.__name__}  # fmt: skip
    assert public - {"Players"} == set(re.findall(r"^    (\w+)\(", listen.__doc__, re.MULTILINE))
