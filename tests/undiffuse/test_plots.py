"""Figures: they come out with labels, refuse what cannot be drawn, and change nothing global."""

import io
import subprocess
import sys
import types

import IPython.display
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from undiffuse import palette, plots
from undiffuse.plots import base, slider

G = torch.Generator().manual_seed(0)
IMAGES = torch.rand(6, 1, 28, 28, generator=G) * 2 - 1
ALPHA_BAR = torch.linspace(0.999, 0.001, 100)
POINTS = torch.randn(50, 2, generator=G)
CLIP = torch.randn(800, generator=G)
NAN = torch.tensor([[0.0, float("nan")]])


def pull(x):
    return -x


FIGURES = {
    "image_grid": lambda: plots.image_grid(IMAGES, range(6), title="six"),
    "compare_images": lambda: plots.compare_images(IMAGES, IMAGES * 0.9),
    "forward_strip": lambda: plots.forward_strip(torch.stack([IMAGES[:2]] * 3), [0, 1, 2.5]),
    "forward_strip of sound": lambda: plots.forward_strip(
        [CLIP.reshape(2, 1, 400)] * 3, [0, 1, 2], row_labels=["kick", "snare"]
    ),
    "curves": lambda: plots.curves(
        {"a": [1, 2, 4], "b": [[1, 2, 3], [3, 4, 5]]},
        [1, 10, 100],
        xlabel="n",
        ylabel="y",
        log_x=True,
        log_y=True,
        floor=1.0,
    ),
    "schedule_curves": lambda: plots.schedule_curves({"x": ALPHA_BAR, "y": ALPHA_BAR[::7] ** 2}),
    "log_snr_curves": lambda: plots.log_snr_curves({"x": torch.logit(ALPHA_BAR)}),
    "loss_curves": lambda: plots.loss_curves(
        {"eps": CLIP[:150].reshape(3, 50)}, every=10, floor=0.1
    ),
    "bar_with_spread": lambda: plots.bar_with_spread(
        {"cosine": [1, 2, 3], "linear": [2.0]}, ylabel="FD", xlabel="schedule", floor=[0.4, 0.5]
    ),
    "histogram": lambda: plots.histogram(
        {"data": CLIP}, density={"exact": lambda v: np.exp(-v * v / 2) / np.sqrt(2 * np.pi)}
    ),
    "points2d": lambda: plots.points2d({"data": POINTS, "noise": POINTS * 2}),
    "points2d in panels": lambda: plots.points2d({"t = 0": POINTS, "t = 1": POINTS}, panels=True),
    "trajectories2d": lambda: plots.trajectories2d(torch.stack([POINTS, POINTS / 2]), data=POINTS),
    "vector_field2d": lambda: plots.vector_field2d(pull, points=POINTS),
    "waveforms": lambda: plots.waveforms({"data": CLIP, "model": CLIP[None]}, 8000),
    "spectra": lambda: plots.spectra({"data": CLIP, "model": CLIP[None]}, 8000),
}
WITHOUT_AXES = {"image_grid", "compare_images"}  # pictures: nothing is measured along their sides


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_with_labels_and_changes_nothing(name):
    settings, open_figures = dict(matplotlib.rcParams), plt.get_fignums()
    fig = FIGURES[name]()
    png = plots.png(fig)
    assert dict(matplotlib.rcParams) == settings
    assert plt.get_fignums() == open_figures
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG" and 150 < picture.width <= 800 and 90 < picture.height <= 800
    assert len(png) < 80_000
    assert picture.convert("L").getextrema()[1] - picture.convert("L").getextrema()[0] > 100
    if name not in WITHOUT_AXES:
        along = [ax.get_xlabel() for ax in fig.axes] + [fig.get_supxlabel()]
        beside = [ax.get_ylabel() for ax in fig.axes] + [fig.get_supylabel()]
        assert any(along) and any(beside)


@pytest.mark.parametrize("name", ["forward_strip", "curves", "vector_field2d"])
def test_the_same_figure_gives_the_same_bytes(name):
    assert plots.png(FIGURES[name]()) == plots.png(FIGURES[name]())


def test_every_figure_is_tested_and_listed():
    drawn = {name.split()[0] for name in FIGURES} | {"show", "png", "schedule_slider", "prompt_box"}
    assert drawn == set(plots.__all__)
    for name in set(plots.__all__) - {"png"}:
        assert f"    {name}(" in plots.__doc__


@pytest.mark.parametrize(
    ("draw", "error", "says"),
    [
        (lambda: plots.image_grid(NAN.reshape(1, 1, 2)), ValueError, "images: 1 of 2 numbers are"),
        (lambda: plots.image_grid(torch.zeros(0, 28, 28)), ValueError, "images is empty"),
        (lambda: plots.image_grid(torch.zeros(28)), ValueError, r"shape \(28,\).*is wanted"),
        (lambda: plots.image_grid(torch.zeros(2, 5, 4, 4)), ValueError, r"\(2, 5, 4, 4\)"),
        (lambda: plots.image_grid(IMAGES, [1]), ValueError, "1 labels for 6 images"),
        (lambda: plots.image_grid(IMAGES, columns=0), ValueError, "columns is 0"),
        (lambda: plots.image_grid(["a"]), TypeError, "real numbers are wanted"),
        (lambda: plots.image_grid([[1, 2], [3]]), ValueError, "rows differ in length"),
        (lambda: plots.compare_images(IMAGES, IMAGES[:2]), ValueError, "shapes must agree"),
        (lambda: plots.forward_strip(IMAGES[0, 0], [0]), ValueError, "levels has shape"),
        (lambda: plots.forward_strip(IMAGES[None], [0, 1]), ValueError, "2 level labels for 1"),
        (
            lambda: plots.forward_strip(IMAGES[None], [0], row_labels=["a"]),
            ValueError,
            "1 row labels for 6",
        ),
        (lambda: plots.schedule_curves({}), ValueError, "alpha_bars is empty"),
        (lambda: plots.schedule_curves(ALPHA_BAR), TypeError, "a dict, name -> values"),
        (lambda: plots.schedule_curves({"x": [[[1.0]]]}), ValueError, r"x has shape \(1, 1, 1\)"),
        (lambda: plots.log_snr_curves({"x": [float("nan")]}), ValueError, "none of its 1 numbers"),
        (
            lambda: plots.curves({"a": [1, 2]}, [1], xlabel="x", ylabel="y"),
            ValueError,
            r"a has 2 values and x has shape \(1,\)",
        ),
        (lambda: plots.bar_with_spread({"a": NAN}, ylabel="y"), ValueError, "a: 1 of 2"),
        (lambda: plots.histogram({"a": []}), ValueError, "a is empty"),
        (lambda: plots.points2d({"a": CLIP}), ValueError, r"\(N, 2\) is wanted"),
        (
            lambda: plots.points2d({"a": POINTS}, roles={"a": "dta"}),
            ValueError,
            "no role is called",
        ),
        (lambda: plots.trajectories2d(POINTS), ValueError, r"\(steps, B, 2\)"),
        (lambda: plots.vector_field2d(lambda x: x[:, :1]), ValueError, r"shape \(441, 1\)"),
        (lambda: plots.vector_field2d(lambda x: x / 0), ValueError, "NaN or infinite"),
        (lambda: plots.vector_field2d(pull, n=1), ValueError, "n is 1"),
        (lambda: plots.waveforms({"a": POINTS}, 8000), ValueError, r"a clip \(L,\)"),
        (lambda: plots.spectra({"a": CLIP}, 0), ValueError, "rate is 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, error, says):
    with pytest.raises(error, match=says):
        draw()


def test_images_of_any_kind_look_the_same():
    bytes_ = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    floats = bytes_.float() / 127.5 - 1
    grey = [plots.png(plots.image_grid(x)) for x in (bytes_, floats, floats[:, None])]
    assert grey[0] == grey[1] == grey[2]
    assert plots.png(plots.image_grid(floats.double().numpy())) == grey[0]
    half = plots.image_grid(floats[:, None].bfloat16().requires_grad_())
    assert plots.png(half)
    red = torch.tensor([1.0, -1, -1])[:, None, None].expand(1, 3, 8, 8)
    picture = Image.open(io.BytesIO(plots.png(plots.image_grid(red)))).convert("RGB")
    assert picture.getpixel((picture.width // 2, picture.height // 2)) == (255, 0, 0)


def test_values_beyond_the_range_are_drawn_as_its_ends():
    x = torch.tensor([[[-9.0, 9.0]]])
    assert plots.png(plots.image_grid(x)) == plots.png(plots.image_grid(x.clamp(-1, 1)))


@pytest.mark.parametrize("columns", [3, 6, 12])
def test_words_below_images_do_not_run_into_each_other(columns):
    words = ["a woman firefighter", "blue square right", "firefighter", "9", "", "of noto's style"]
    fig = plots.image_grid(torch.zeros(24, 1, 12, 12), words * 4, columns=columns)
    renderer = FigureCanvasAgg(fig).get_renderer()
    boxes = [t.get_window_extent(renderer) for t in fig.axes[0].texts if t.get_text()]
    assert len(boxes) >= 20
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= fig.bbox.x1
    shown = " ".join(t.get_text() for t in fig.axes[0].texts)
    assert shown.split() == " ".join(words * 4).split()  # by lines, no word is cut


def test_infinite_values_of_a_curve_are_counted_in_the_legend():
    fig = plots.log_snr_curves({"zero at the end": [2.0, 0.0, -float("inf")]})
    words = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert "zero at the end (1 not finite)" in words


def test_several_runs_get_their_median_and_a_band():
    runs = np.array([[1.0, 2.0], [2.0, 9.0], [30.0, 4.0]])
    ax = plots.loss_curves({"a": runs}).axes[0]
    assert ax.lines[0].get_ydata().tolist() == [2.0, 4.0]
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == 1 and band.max() == 30


def test_show_wants_alternative_text_and_a_figure():
    fig = FIGURES["curves"]()
    for alt in ("", "  ", None):
        with pytest.raises(ValueError, match="alt is empty"):
            plots.show(fig, alt)
    with pytest.raises(TypeError, match="matplotlib Figure, got str"):
        plots.show("figure", "text")


def test_show_prints_where_there_is_no_notebook(capsys):
    plots.show(FIGURES["curves"](), "two lines", "see how they rise")
    out = capsys.readouterr().out
    assert "[figure] two lines" in out and "see how they rise" in out


@pytest.fixture
def notebook(monkeypatch):
    """As in a kernel: ``displayed`` has what was displayed, ``_allow_stdin`` whether somebody sits
    in front of it."""
    kernel = types.SimpleNamespace(_allow_stdin=False, displayed=[])
    for module in (base, slider):
        monkeypatch.setattr(module, "notebook_kernel", lambda: kernel)
    monkeypatch.setattr(IPython.display, "display", kernel.displayed.append)
    monkeypatch.delenv("UNDIFFUSE_STATIC", raising=False)
    return kernel


def test_show_displays_a_png_with_its_text(notebook):
    plots.show(FIGURES["curves"](), 'two "lines"', "see $x$")
    image, caption = notebook.displayed
    assert image.data[:8] == b"\x89PNG\r\n\x1a\n" and image.alt == 'two "lines"'
    assert caption.data == "see $x$"


def test_show_closes_figures_made_with_pyplot():
    fig, _ = plt.subplots()
    assert fig.number in plt.get_fignums()
    plots.show(fig, "an empty figure")
    assert fig.number not in plt.get_fignums()


def noisy(name, t):
    return IMAGES[:2] * (1 - t / 9)


def test_the_slider_is_a_strip_where_nobody_moves_it(notebook, monkeypatch):
    def draw():
        notebook.displayed.clear()
        plots.schedule_slider(noisy, 10, names=["a", "b"], alt="digits that fade", caption="see")
        return [type(shown).__name__ for shown in notebook.displayed]

    assert draw() == ["Image", "Markdown"]
    assert notebook.displayed[0].alt == "digits that fade"
    notebook._allow_stdin = True
    assert draw() == ["VBox", "Markdown"]
    monkeypatch.setenv("UNDIFFUSE_STATIC", "1")
    assert draw() == ["Image", "Markdown"]
    monkeypatch.delenv("UNDIFFUSE_STATIC")
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert draw() == ["Image", "Markdown"]


def test_the_slider_moves_in_a_notebook(notebook):
    notebook._allow_stdin = True
    asked = []

    def make(name, t):
        asked.append((name, t))
        return noisy(name, t)

    plots.schedule_slider(make, 10, names=["a", "b"], alt="digits <that> fade", caption="see")
    box, caption = notebook.displayed
    control, image, rows = box.children
    assert (control.min, control.max, control.value) == (0, 9, 5) and asked[-1] == ("b", 5)
    before = image.value
    control.value = 9
    assert asked[-2:] == [("a", 9), ("b", 9)] and image.value != before
    assert 'alt="digits &lt;that&gt; fade' in image.value and "t = 9" in image.value
    assert "row 2: b" in rows.value and caption.data == "see"


@pytest.mark.parametrize(
    ("more", "says"),
    [({"alt": ""}, "alt is empty"), ({"steps": 1}, "steps is 1"), ({"start": 10}, "start is 10")],
)
def test_the_slider_refuses_nonsense(more, says):
    with pytest.raises(ValueError, match=says):
        plots.schedule_slider(noisy, **{"steps": 10, "alt": "x", **more})


def test_roles_keep_their_colours():
    ax = plots.curves({"x": [1, 2], "yours": [2, 3]}, xlabel="x", ylabel="y").axes[0]
    assert ax.lines[1].get_color() == palette.role("model").color
    ax = plots.curves({"x": [1, 2]}, xlabel="x", ylabel="y", roles={"x": "data"}).axes[0]
    assert ax.lines[0].get_color() == palette.role("data").color
    with pytest.raises(ValueError, match="no role is called 'dat'"):
        palette.role("dat")


def test_styles_differ_without_colour():
    drawn = [*palette.ROLES.values(), *palette.SERIES]
    assert len({style.linestyle for style in drawn[:5]}) == 5
    assert len({style.linestyle for style in drawn[5:]}) == len(palette.SERIES)
    assert len({style.marker for style in drawn}) == len(drawn)
    names = [str(i) for i in range(9)]
    assert palette.styles(names)[7] == palette.styles(names)[0]


def test_import_is_light():
    code = (
        "import undiffuse.plots, sys;"
        "print([m for m in ('matplotlib', 'torch', 'IPython', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
