"""Drawings: an ECG is true to scale, an image, a table's row and a spectrogram show what they hold."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from beatline import drawings
from beatline.common.errors import UserError
from beatline.drawings import Shown, features, figures, images, series, spectrograms, twelve_leads

RATE = 100
ECG = {"drawing": "twelve_leads", "channels": list(twelve_leads.LEADS), "sampling_rate": RATE}
TRACE = {"drawing": "trace", "channels": ["x"], "sampling_rate": None, "unit": "V"}
IMAGE = {"drawing": "image", "channels": ["a", "b", "c"], "sampling_rate": None, "unit": "1"}
FEATURES = {
    "drawing": "features",
    "channels": [f"feature_{number}" for number in range(30)],
    "sampling_rate": None,
    "unit": "as given",
    "normalization": {"mean": [10.0] * 30, "standard_deviation": [2.0] * 30},
}
HERTZ = np.linspace(50, 8000, 40)  # of the bands
SOUND = {
    "drawing": "spectrogram",
    "channels": [f"mel band {n} ({hertz:.0f} Hz)" for n, hertz in enumerate(HERTZ, 1)],
    "sampling_rate": 25.0,
    "unit": "dB",
}
BLUE = "#0072B2"


def _ecg(seconds: float = 10) -> np.ndarray:
    """Twelve leads, of which number k is at k / 10 mV throughout."""
    return np.tile(np.arange(12) / 10, (round(seconds * RATE), 1)).astype(np.float32)


CASES = {
    "twelve_leads": (ECG, np.tile(np.arange(12) / 10, (1000, 1))),
    "trace": (TRACE, np.ones((50, 1))),
    "image": (IMAGE, np.random.default_rng(0).random((4, 3))),
    "features": (FEATURES, np.random.default_rng(0).random((1, 30))),
    "spectrogram": (SOUND, np.random.default_rng(0).random((50, 40))),
}


def _lines(figure: Figure, name: str) -> list[Line2D]:
    return [line for line in figure.axes[0].lines if line.get_gid() == name]


def _xy(line: Line2D) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def test_one_second_is_25_mm_and_one_millivolt_10_mm_on_the_page() -> None:
    """A reader may lay a ruler on the printed page."""
    recording = _ecg()
    recording[:, 1] = 0
    recording[100:200, 1] = 1  # lead II: 1 mV from second 1 to second 2
    figure = twelve_leads.sheet(recording, RATE, "x")
    rhythm = _lines(figure, "lead II")[-1]
    x, y = _xy(rhythm)
    pixels = figure.axes[0].transData.transform(np.column_stack([x, y]))
    in_mm = pixels / figure.dpi * twelve_leads.MM_PER_INCH
    assert in_mm[200, 0] - in_mm[100, 0] == pytest.approx(25)
    assert in_mm[150, 1] - in_mm[50, 1] == pytest.approx(10)
    assert in_mm[999, 0] - in_mm[0, 0] == pytest.approx(250, abs=0.3)


def test_the_paper_is_ruled_at_1_and_5_mm() -> None:
    figure = twelve_leads.sheet(_ecg(), RATE, "x")
    fine, bold = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    for collection, step in ((fine, 1), (bold, 5)):
        segments = [np.asarray(segment) for segment in collection.get_segments()]
        upright = sorted({float(s[0, 0]) for s in segments if s[0, 0] == s[1, 0]})
        level = sorted({float(s[0, 1]) for s in segments if s[0, 1] == s[1, 1]})
        assert set(np.diff(upright)) == set(np.diff(level)) == {step}
    assert np.allclose(fine.get_edgecolor(), to_rgba(twelve_leads.MINOR))
    assert np.allclose(bold.get_edgecolor(), to_rgba(twelve_leads.MAJOR))


def test_the_calibration_pulse_is_one_millivolt_for_a_fifth_of_a_second() -> None:
    pulses = _lines(twelve_leads.sheet(_ecg(), RATE, "x"), "calibration")
    assert len(pulses) == 4
    for pulse in pulses:
        x, y = _xy(pulse)
        assert np.ptp(y) == twelve_leads.MM_PER_MV
        assert np.ptp(x[y == y.max()]) == twelve_leads.MM_PER_SECOND * 0.2


def test_leads_stand_where_cardiologists_look_for_them() -> None:
    """Three rows of four leads, 2.5 s each, of one and the same ten seconds; lead II below."""
    recording = np.random.default_rng(0).normal(size=(1000, 12)).astype(np.float32)
    figure = twelve_leads.sheet(recording, RATE, "x")
    lefts, tops = {}, {}
    for row in twelve_leads.LAYOUT:
        for column, name in enumerate(row):
            x, y = _xy(_lines(figure, f"lead {name}")[0])
            sample = round(column * 2.5 * RATE)
            lefts[name], tops[name] = x[0], y[0] - 10 * recording[sample, _at(name)]
            assert x[0] == pytest.approx(twelve_leads.SIGNAL_LEFT + column * 62.5)
            np.testing.assert_allclose(
                np.diff(y[:250]), 10 * np.diff(recording[sample:, _at(name)][:250]), atol=1e-4
            )
    assert lefts["I"] == lefts["II"] == lefts["III"] < lefts["aVR"] < lefts["V1"] < lefts["V4"]
    assert tops["V1"] > tops["V2"] > tops["V3"]
    rhythm = _xy(_lines(figure, "lead II")[1])[1]
    assert len(rhythm) == 1000
    assert rhythm.mean() < tops["III"]


def _at(name: str) -> int:
    return twelve_leads.LEADS.index(name)


def test_leads_are_found_by_name_in_any_order_and_spelling() -> None:
    turned = [name.upper() for name in reversed(twelve_leads.LEADS)]
    recording = np.random.default_rng(0).normal(size=(1000, 12))
    straight = twelve_leads.sheet(recording, RATE, "x")
    assert figures.png(straight) == figures.png(
        twelve_leads.sheet(recording[:, ::-1], RATE, "x", turned)
    )


def test_short_and_long_recordings() -> None:
    """A short one leaves paper blank, of a long one ten seconds are drawn."""
    short = twelve_leads.sheet(_ecg(4), RATE, "x")
    assert len(_xy(_lines(short, "lead V1")[0])[0]) == 0
    assert len(_xy(_lines(short, "lead II")[1])[0]) == 400
    long = twelve_leads.sheet(_ecg(12), RATE, "x")
    assert len(_xy(_lines(long, "lead II")[1])[0]) == 1001


def test_what_is_no_twelve_lead_ecg_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[T, 12\]"):
        twelve_leads.sheet(np.zeros((100, 3)), RATE, "x")
    with pytest.raises(ValueError, match="no lead V6"):
        twelve_leads.sheet(np.zeros((100, 12)), RATE, "x", [*twelve_leads.LEADS[:-1], "other"])
    with pytest.raises(ValueError, match=r"\[T, C\]"):
        series.sheet(np.zeros(100), "x")
    with pytest.raises(
        UserError, match=r"drawing 'spectrum'.*twelve_leads, trace, image, features, spectrogram"
    ):
        drawings.drawing_of({"drawing": "spectrum"})


def test_channels_of_a_series_stand_below_each_other() -> None:
    """To one scale, apart by the largest range of any, and of many the first ones."""
    recording = np.random.default_rng(1).standard_normal((50, 20))
    (axes,) = series.sheet(recording, "x").axes
    drawn = np.array([line.get_ydata() for line in axes.lines]).T
    assert drawn.shape == (50, series.MOST)
    apart = np.ptp(recording[:, : series.MOST], axis=0).max()
    expected = recording[:, : series.MOST] - apart * np.arange(series.MOST)
    np.testing.assert_allclose(drawn, expected)


@pytest.mark.parametrize("kind", drawings.DRAWINGS)
def test_every_drawing_has_a_sheet_and_strips(kind: str) -> None:
    """Also of an autoencoder, whose errors stand below or beside the recordings."""
    dataset, recording = CASES[kind]
    sheet = drawings.drawing_of(dataset).sheet([Shown("title", recording)], dataset)
    assert figures.png(sheet)[:4] == b"\x89PNG"
    plain = [Shown("plain", recording)] * 7
    copied = [Shown("reconstructed", recording, recording / 2, np.abs(recording))] * 3
    for items in (plain, copied):
        drawn = drawings.strips(items, dataset, BLUE)
        assert [text.get_text() for text in drawn.texts] == [item.title for item in items]
        errors = items is copied and len(recording) > 1
        assert len(drawn.axes) == len(items) * (2 if errors else 1)
        left, bottom, right, top = _outline(drawn)
        assert left >= 0 and bottom >= 0 and right <= 1 and top <= 1


def _outline(figure: Figure) -> tuple[float, float, float, float]:
    boxes = [axes.get_position() for axes in figure.axes]
    return (
        min(box.x0 for box in boxes),
        min(box.y0 for box in boxes),
        max(box.x1 for box in boxes),
        max(box.y1 for box in boxes),
    )


def test_a_trace_is_drawn_against_seconds_or_samples() -> None:
    recording = np.arange(50.0)[:, None]
    x, y = _xy(series.sheet(recording, "x", 25, "V").axes[0].lines[0])
    assert x[-1] == pytest.approx(49 / 25)
    np.testing.assert_array_equal(y, recording[:, 0])
    in_samples = series.sheet(recording, "x").axes[0]
    assert _xy(in_samples.lines[0])[0][-1] == 49
    assert in_samples.get_xlabel() == "sample"


# ---------------------------------------------------------------- images


def test_images_are_drawn_as_they_are_and_all_on_one_sheet() -> None:
    """Ten digits make one figure of two rows of five; 0 is black and 1 white whatever they hold."""
    drawn = np.random.default_rng(0).random((10, 4, 3)) / 2
    figure = images.sheet([Shown(str(number), one) for number, one in enumerate(drawn)])
    assert [axes.get_title("left") for axes in figure.axes] == [str(n) for n in range(10)]
    for axes, recording in zip(figure.axes, drawn, strict=True):
        (image,) = axes.images
        np.testing.assert_array_equal(np.asarray(image.get_array()), recording)
        assert image.get_clim() == (0, 1)
    assert len({round(axes.get_position().x0, 6) for axes in figure.axes}) == 5


def test_mistakes_on_images_stand_six_in_a_row() -> None:
    recording = np.zeros((4, 3))
    figure = drawings.strips([Shown("7 (0.98) instead of 1", recording)] * 12, IMAGE, BLUE)
    assert len({round(axes.get_position().x0, 6) for axes in figure.axes}) == 6


# ---------------------------------------------------------------- features


def test_the_features_farthest_from_the_training_mean_are_drawn() -> None:
    """In standard deviations, the farthest at the top, each beside its value in its own unit."""
    row = np.full((1, 30), 10.0)
    row[0, 17], row[0, 4] = 2.0, 14.5  # 4 deviations below, 2.25 above
    axes = features.sheet([Shown("x", row)], FEATURES).axes[0]
    widths = [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]
    assert widths == [-4, 2.25, *[0] * 18]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:3] == ["feature_17  2", "feature_4  14.5", "feature_0  10"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first is at the top


def test_few_features_stand_in_their_order_with_what_was_reconstructed() -> None:
    dataset = {
        **FEATURES,
        "channels": ["a", "b"],
        "normalization": {"mean": [0.0, 1.0], "standard_deviation": [1.0, 2.0]},
    }
    shown = Shown("x", np.array([[1.0, 5.0]]), np.array([[3.0, 1.0]]), np.zeros((1, 2)))
    axes = drawings.strips([shown], dataset, BLUE).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a  1", "b  5"]
    dots = next(line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(_xy(dots), [[3.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match=r"\[1, F\]"):
        features.sheet([Shown("x", np.zeros((2, 2)))], dataset)


# ---------------------------------------------------------------- spectrograms


def _sound(seed: int = 0, frames: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, len(HERTZ)))


def test_time_runs_to_the_right_and_frequency_upwards() -> None:
    recording = _sound()
    (image,) = spectrograms.sheet([Shown("x", recording)], SOUND).axes[0].images
    np.testing.assert_allclose(np.asarray(image.get_array()), recording.T)
    assert image.origin == "lower"
    assert image.get_extent()[:2] == [0, 50 / 25]


def test_frequencies_stand_at_their_bands() -> None:
    """Bands without a frequency in their names show their numbers."""
    axes = spectrograms.sheet([Shown("x", _sound())], SOUND).axes[0]
    found = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    places = {label.get_text(): place for place, label in found}
    assert {"1000", "4000"} <= set(places)
    for label, place in places.items():
        assert np.interp(place, np.arange(40), HERTZ) == pytest.approx(float(label), abs=1)
    unnamed = {**SOUND, "channels": [f"b{number}" for number in range(40)]}
    axes = spectrograms.sheet([Shown("x", _sound())], unnamed).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "11", "21", "31"]


def test_spectrograms_of_a_sheet_share_their_colours_and_have_a_bar() -> None:
    """A loud recording looks louder than a quiet one."""
    figure = spectrograms.sheet([Shown("a", _sound()), Shown("b", _sound(1) + 30)], SOUND)
    limits = {axes.images[0].get_clim() for axes in figure.axes[:2]}
    assert len(limits) == 1
    assert figure.axes[2].get_ylabel() == "dB"


def test_a_recording_its_reconstruction_and_its_error_stand_side_by_side() -> None:
    """Errors of both rows in the same shades, which are other colours than levels."""
    rows = [
        Shown(name, _sound(), _sound(1), _sound(2) ** 2 * k) for k, name in ((1, "a"), (9, "b"))
    ]
    figure = spectrograms.reconstructions(rows, SOUND, BLUE)
    pictures = [axes.images[0] for axes in figure.axes if axes.images and axes.get_title("left")]
    assert len(pictures) == 6
    for first, second in zip(pictures[:3], pictures[3:], strict=True):
        assert first.get_clim() == second.get_clim()
    assert pictures[0].get_clim() == pictures[1].get_clim() != pictures[2].get_clim()
    assert pictures[0].get_cmap() != pictures[2].get_cmap()
    np.testing.assert_allclose(np.asarray(pictures[5].get_array()), _sound(2).T ** 2 * 9)


@given(st.integers(1, 500), st.integers(1, 90))
def test_averaging_keeps_every_cell_and_leaves_out_what_is_missing(frames: int, bands: int) -> None:
    """The mean of blocks of neighbours, computed the slow way; NaN only where a whole block is."""
    values = np.random.default_rng(frames).normal(size=(frames, bands))
    values[:: bands + 1] = np.nan
    found = spectrograms.averaged(values, (60, 30))
    down, across = -(-frames // 60), -(-bands // 30)
    blocks = values[:down, :across]
    assert found.shape == (-(-frames // down), -(-bands // across))
    inside = blocks[np.isfinite(blocks)]
    expected = inside.mean() if len(inside) else np.nan
    assert found[0, 0] == pytest.approx(expected, nan_ok=True)


def test_a_spectrogram_keeps_its_colours_in_a_png() -> None:
    """A palette that is too small shows bands where there are none."""
    figure = spectrograms.sheet([Shown("x", _sound(frames=180))], SOUND)
    kept = _colours(figures.png(figure, drawings.drawing_of(SOUND).colours))
    levels = (spectrograms.LEVELS(np.linspace(0, 1, 48))[:, :3] * 255).round().astype(int)
    assert {tuple(level) for level in levels.tolist()} <= kept


def _colours(png: bytes) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    return {tuple(pixel) for pixel in np.unique(pixels, axis=0).tolist()}
