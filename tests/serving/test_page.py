"""The page in headless Chromium, in front of the real server with small bundles."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")

import wfdb
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from beatline.common import sums
from beatline.serving import registry, tokens
from beatline.serving.answers import SHOWN
from beatline.serving.app import create_app
from tests.formats.ecg_files import STORED, dicom, digital, mfer, muse, scp
from tests.serving import project
from tests.serving.browser import PHONE, WIDE, answered, chromium, drop, sign_in, told, visit

LEADS = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
RATE, SECONDS = 100, 10
R_PEAK, R_TIMES = 1.5, np.arange(0.5, SECONDS)  # mV, s: 60 beats per minute
TONE, BANDS = 2000, project.BANDS  # Hz; mel bands
DATASETS: dict[str, dict[str, Any]] = {
    "ptbxl": {
        **project.DATASETS["ptbxl"],
        "channels": LEADS,
        "sampling_rate": RATE,
        "length": RATE * SECONDS,
    },
    **project.MORE_DATASETS,
    "machine_features": project.DATASETS["ecg_features"],
}
CNN, DETECTOR = "ptbxl/cnn", "ptbxl/autoencoder"
SERIES, DIGITS, NOISE = "ecg5000/autoencoder", "mnist/cnn", "machine_sound/autoencoder"
TABLE, TABLE_DETECTOR = "ecg_features/mlp", "machine_features/mahalanobis"
TRAINED = [CNN, DETECTOR, SERIES, DIGITS, NOISE, TABLE, TABLE_DETECTOR]
EXAMPLE = {
    "name": "1",
    "record": "00000/00001",
    "labels": ["MI"],
    "sampling_rate": RATE,
    "unit": "mV",
}
TOKEN = "a-token-of-some-length"
ROW = {"heart_rate": 71.5, "pr_interval": None, "qrs_duration": -0.25}


# ---------------------------------------------------------------- server, browser, files


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, about in DATASETS.items():
            patch.setitem(project.DATASETS, name, about)
        folder = tmp_path_factory.mktemp("page")
        for key in TRAINED:
            project.save(folder / registry.FOLDER / key, key)
            project.evaluate(folder, key)
        leave_undefined(folder, DIGITS, "pauc")
        examples = folder / "data/examples/ptbxl"
        examples.mkdir(parents=True)
        np.save(examples / "1.npy", project.raw_recordings("ptbxl")[0])
        (examples / "examples.json").write_text(json.dumps({"examples": [EXAMPLE]}))
        sums.seal(examples)
        wanted = [*TRAINED, project.MISSING]
        with project.serving(create_app(project.limits(poll_seconds=60), folder, wanted)) as found:
            yield found


def leave_undefined(folder: Path, key: str, metric: str) -> None:
    """A metric without a value, as evaluate writes it where there are too few records for it."""
    path = folder / registry.PREDICTIONS / key / "estimates.json"
    content = json.loads(path.read_text())
    content["overall"][metric] = {"value": None, "low": None, "high": None}
    path.write_text(json.dumps(content))
    sums.seal(path.parent)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A WFDB record whose beats are known."""
    return beats(tmp_path_factory.mktemp("record"), SECONDS)


def beats(folder: Path, seconds: int) -> dict[str, bytes]:
    """The files of a record: a flat line, and in all leads R peaks of R_PEAK mV, one per second."""
    samples = np.zeros((RATE * seconds, len(LEADS)))
    samples[np.round(np.arange(0.5, seconds) * RATE).astype(int)] = R_PEAK
    units, formats = ["mV"] * len(LEADS), ["16"] * len(LEADS)
    gains, zeros = [1000.0] * len(LEADS), [0] * len(LEADS)
    wfdb.wrsamp(
        "beats", RATE, units, LEADS, samples, fmt=formats, adc_gain=gains, baseline=zeros,
        write_dir=str(folder),
    )  # fmt: skip
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir(), reverse=True)}


def series() -> bytes:
    """A CSV file of a sine, with a jump from sample 20 to 24."""
    samples = np.sin(np.arange(40) / 4)
    samples[20:24] += 30
    return "\n".join(["channel 1", *(f"{value:.5f}" for value in samples)]).encode()


def tone() -> bytes:
    """A WAV file of a tone whose spectrogram is as long as the model wants."""
    samples = 0.5 * np.sin(2 * np.pi * TONE * np.arange(512 * 63) / 16000)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def digit() -> tuple[bytes, np.ndarray]:
    """A PNG file, and its grey levels `[28, 28]`."""
    levels = np.zeros((28, 28), np.uint8)
    levels[4:24, 13:15] = 255
    levels[13:15, 5:22] = 128
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue(), levels


# ---------------------------------------------------------------- what is drawn


def numbers(path: str | None) -> np.ndarray:
    """The points `[N, 2]` of a path of M and L."""
    found = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path or "")
    return np.array(found, dtype=float)


def large_square(page: Page) -> float:
    """The distance of the bold lines of the paper, in pixels."""
    path = page.locator(".paper .major").get_attribute("d") or ""
    places = np.array(re.findall(r"M([\d.]+) 0V", path), dtype=float)
    assert np.ptp(np.diff(places)) == 0
    return float(places[1] - places[0])


def lead_points(page: Page, name: str, which: int = 0) -> np.ndarray:
    return numbers(page.locator(f".paper .lead[data-lead={name}]").nth(which).get_attribute("d"))


def pixels(page: Page, which: int = 0) -> np.ndarray:
    """Return the pixels of a canvas, `[height, width, 4]`."""
    found = (
        page.locator(".layers canvas")
        .nth(which)
        .evaluate(
            "c => [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        )
    )
    return np.array(found[2:]).reshape(found[0], found[1], 4)


def test_a_dropped_record_is_drawn_on_paper_true_to_scale(
    browser: Browser, url: str, record: dict[str, bytes]
) -> None:
    """A cardiologist measures on this paper: 25 mm per second and 10 mm per mV, in the usual layout."""
    with visit(browser, url, CNN) as page:
        drop(page, record)
        answered(page)
        assert page.locator(".paper .lead").count() == len(LEADS) + 1  # lead II twice
        names = page.locator(".paper .lead-name").all_text_contents()
        assert names == ["I", "II", "III", "aVR", "aVL", "aVF", *LEADS[6:], "II"]
        millimetre = large_square(page) / 5
        rhythm = lead_points(page, "II", 1)
        zero = float(np.median(rhythm[:, 1]))
        peaks = rhythm[rhythm[:, 1] < zero - millimetre]
        assert np.diff(peaks[:, 0]) == pytest.approx(25 * millimetre, abs=0.03)
        assert zero - peaks[:, 1] == pytest.approx(10 * R_PEAK * millimetre, abs=0.03)
        assert len(peaks) == len(R_TIMES)
        width, height = (
            float(page.locator(".paper").get_attribute(side) or 0) for side in ("width", "height")
        )
        for lead in page.locator(".paper .lead").all():
            points = numbers(lead.get_attribute("d"))
            assert ((points >= 0) & (points <= [width, height])).all()
        pulse = page.locator(".calibration").first.evaluate("one => one.getBBox().height")
        assert pulse == pytest.approx(10 * millimetre)


def test_each_lead_is_shown_for_its_own_quarter(
    browser: Browser, url: str, record: dict[str, bytes]
) -> None:
    """Columns show 2.5 s each, one after the other, so that the rhythm strip fits what is above it."""
    with visit(browser, url, CNN) as page:
        drop(page, record)
        answered(page)
        second = 5 * large_square(page)
        left = lead_points(page, "I")[0, 0]
        for column, name in enumerate(["I", "aVR", "V1", "V4"]):
            points = lead_points(page, name)
            assert points[0, 0] == pytest.approx(left + 2.5 * column * second, abs=0.03)
            assert np.ptp(points[:, 0]) <= 2.5 * second + 0.03
        page.get_by_role("radio", name="12 leads below each other").check()
        for name in ("I", "V6"):
            assert np.ptp(lead_points(page, name)[:, 0]) == pytest.approx(9.99 * second, abs=0.03)


@pytest.mark.parametrize("name", ["ecg.xml", "ecg.scp", "ecg.dcm", "ecg.mwf"])
def test_files_of_electrocardiographs_are_drawn(browser: Browser, url: str, name: str) -> None:
    """Dropped as devices write them; where eight leads are stored, the page says that four follow."""
    write = {"xml": muse, "scp": scp, "dcm": dicom, "mwf": mfer}[name[-3:]]
    stored = write in (muse, scp)
    with visit(browser, url, CNN) as page:
        expect(page.locator("#formats")).to_contain_text("DICOM")
        drop(page, {name: write(digital(STORED if stored else tuple(LEADS), 5000))})
        answered(page)
        assert all(len(lead_points(page, lead)) for lead in ("III", "aVF", "V6"))
        notes = page.get_by_text("III, AVR, AVL, AVF")
        expect(notes).to_have_count(1 if stored else 0)


def test_a_long_recording_says_what_the_paper_leaves_out(
    browser: Browser, url: str, tmp_path: Path
) -> None:
    """Nobody takes the first 10 s for all of it: eyes and screen readers are told, and a choice shows
    the rest."""
    long = 30
    with visit(browser, url, CNN) as page:
        drop(page, beats(tmp_path, long))
        answered(page)
        figure = page.get_by_role("img", name=f"only the first 10 s of {long} s are shown")
        caption = page.get_by_text(f"Only the first 10 s of {long} s are shown")
        expect(figure).to_be_visible()
        expect(caption).to_contain_text("choose “12 leads below each other”")
        page.get_by_role("radio", name="12 leads below each other").check()
        expect(figure).to_have_count(0)
        expect(caption).to_have_count(0)
        second = 5 * large_square(page)
        for name in ("I", "V6"):
            points = lead_points(page, name)
            assert np.ptp(points[:, 0]) == pytest.approx((long - 1 / RATE) * second, abs=0.03)
            assert np.sum(points[:, 1] < np.median(points[:, 1]) - second / 5) == long
        scroll = page.get_by_role("region", name="to be scrolled")
        assert scroll.evaluate("one => one.scrollWidth - one.clientWidth") > 10 * second
        scroll.focus()
        page.keyboard.press("ArrowRight")
        project.wait_until(lambda: scroll.evaluate("one => one.scrollLeft > 0"))


def test_the_decision_stands_in_words_and_in_a_table(
    browser: Browser, url: str, record: dict[str, bytes]
) -> None:
    """Who cannot see the bars reads the same: probability, threshold and decision of each class."""
    with visit(browser, url, CNN) as page:
        with page.expect_response("**/predict?*") as response:
            drop(page, record)
        answer = response.value.json()
        answered(page)
        rows = page.get_by_role("table", name="Probabilities").get_by_role("row").all()[1:]
        for row, (name, value) in zip(rows, answer["probabilities"].items(), strict=True):
            assert row.get_by_role("rowheader").inner_text().split("\n")[0] == name
            cells = row.get_by_role("cell").all_inner_texts()
            assert cells[0] == percent(value)
            assert cells[-2:] == [percent(1 / 3), "yes" if answer["decisions"][name] else "no"]
        verdict = page.locator(".verdict").inner_text()
        for name, decided in answer["decisions"].items():
            assert (name in verdict) == decided
        body = page.locator("#answer").inner_text()
        assert "No medical device" in body and "simulated data" in body


def percent(value: float) -> str:
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


@pytest.mark.parametrize("sign", [1, -1])
def test_what_moved_the_decision_is_marked_and_said(
    browser: Browser, url: str, record: dict[str, bytes], sign: int
) -> None:
    """The outlined part, the sentence and the API's explanation tell of the same lead and time, whether
    that part speaks for the class or against it."""
    importance = np.random.default_rng(1).uniform(-0.1, 0.1, (4, len(LEADS)))
    importance[2, 7] = sign * 0.2  # V2, from 5 to 7.5 s

    def explain(route: Route) -> None:
        answer = route.fetch().json()
        answer["explanation"] |= {
            "start": [0, 2.5, 5, 7.5],
            "end": [2.5, 5, 7.5, 10],
            "channels": [[name] for name in LEADS],
            "importance": dict.fromkeys(answer["probabilities"], importance.tolist()),
        }
        route.fulfill(json=answer)

    with visit(browser, url, CNN) as page:
        page.route("**/predict?*", explain)
        drop(page, record)
        answered(page)
        page.get_by_label("Mark on it").select_option("for MI")
        first = page.locator(".sentences p").first.inner_text()
        side, moves = ("for", "falls") if sign > 0 else ("against", "rises")
        assert f"speaks most {side} MI: lead V2, 5.00 to 7.50 s" in first
        assert f"{moves} by 20 percentage points" in first and "outlined" in first
        assert page.locator(f".paper .{side}-mark[fill-opacity='0.620']").count() == 1
        box = page.locator(".paper .strongest")
        second, zero = 5 * large_square(page), lead_points(page, "I")[0, 0]
        assert float(box.get_attribute("x") or 0) == pytest.approx(zero + 5 * second, abs=0.03)
        assert float(box.get_attribute("width") or 0) == pytest.approx(2.5 * second, abs=0.03)
        page.get_by_label("Mark on it").select_option("nothing")
        assert page.locator(".paper .strongest, .paper .for-mark").count() == 0


def test_another_model_is_asked_about_the_same_recording(
    browser: Browser, url: str, record: dict[str, bytes]
) -> None:
    """Models are compared without looking for the file again; a detector shows where its error lies."""
    with visit(browser, url, CNN) as page:
        drop(page, record)
        answered(page)
        page.get_by_label("Data set and model").select_option(DETECTOR)
        expect(page.get_by_role("table", name="Anomaly score")).to_be_visible()
        answered(page)
        assert page.url.endswith(f"#{DETECTOR}")
        assert page.locator(".paper .error-mark").count() > 4
        assert page.locator(".paper .copy").count() == len(LEADS) + 1
        assert "The error is highest in lead" in page.locator(".sentences").inner_text()
        page.get_by_label("Data set and model").select_option(SERIES)
        expect(page.locator("#answer")).to_be_hidden()  # of another data set


def test_a_series_shows_where_its_error_lies(browser: Browser, url: str) -> None:
    """The line of a series, what the model makes of it, and the error at the jump."""
    with visit(browser, url, SERIES) as page:
        drop(page, {"beat.csv": series()})
        answered(page)
        line = numbers(page.locator(".plot .trace").get_attribute("d"))
        assert len(line) == 40
        jump = np.flatnonzero(line[:, 1] < line[:, 1].min() + 20)
        assert jump.tolist() == [20, 21, 22, 23]
        assert len(numbers(page.locator(".plot .copy").get_attribute("d"))) == 40
        box = page.locator(".plot .strongest")
        left = float(box.get_attribute("x") or 0)
        assert line[19, 0] < left < line[24, 0]
        said = re.search(r"highest in samples? (\d+)", page.locator(".sentences").inner_text())
        assert said and 21 <= int(said[1]) <= 24  # counted from 1


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e9])
def test_a_series_fills_its_plot_in_any_unit(browser: Browser, url: str, unit: float) -> None:
    """A recording in tesla is drawn as high as one in picotesla."""

    def scale(route: Route) -> None:
        answer = route.fetch().json()
        rows = (np.sin(np.arange(40) / 4)[:, None] * unit).tolist()
        answer["recording"] |= {"samples": rows, "reconstruction": rows}
        route.fulfill(json=answer)

    with visit(browser, url, SERIES, first={"**/predict?*": scale}) as page:
        drop(page, {"beat.csv": series()})
        answered(page)
        line = numbers(page.locator(".plot .trace").get_attribute("d"))
        box = page.locator(".plot .ground").bounding_box()
        assert box and np.ptp(line[:, 1]) == pytest.approx(box["height"] / 1.1, abs=1.5)


def test_as_many_samples_as_the_server_gives_back_are_drawn(browser: Browser, url: str) -> None:
    """The longest series of an answer and its copy, more numbers than a call takes arguments."""
    samples = np.sin(np.arange(SHOWN) / 5000)
    samples[[SHOWN // 4, SHOWN // 2]] = [3, -2]

    def lengthen(route: Route) -> None:
        answer = route.fetch().json()
        rows = samples.round(4)[:, None].tolist()
        answer["recording"] |= {"samples": rows, "reconstruction": rows}
        route.fulfill(json=answer)

    with visit(browser, url, SERIES, first={"**/predict?*": lengthen}) as page:
        drop(page, {"beat.csv": series()})
        answered(page)
        line = numbers(page.locator(".plot .trace").get_attribute("d"))
        assert len(line) == SHOWN
        highest, lowest = line[:, 1].argmin(), line[:, 1].argmax()
        assert (highest, lowest) == (SHOWN // 4, SHOWN // 2)
        box = page.locator(".plot .ground").bounding_box()
        plot = page.locator(".plot").bounding_box()
        assert box and plot
        top = box["y"] - plot["y"]
        assert line[:, 1].min() == pytest.approx(top + 0.05 / 1.1 * box["height"], abs=1.5)


def test_sound_is_drawn_as_a_spectrogram(browser: Browser, url: str) -> None:
    """A tone is a bright line at its frequency: time to the right, frequency upwards."""
    with visit(browser, url, NOISE) as page:
        drop(page, {"tone.wav": tone()})
        answered(page)
        drawn = pixels(page)
        assert drawn.shape[:2] == (BANDS, 64)
        light = drawn[:, :, :3].sum(axis=2).mean(axis=1)
        band = BANDS - 1 - int(light.argmax())
        assert band == pytest.approx(expected_band(), abs=1)
        assert light.max() > 2 * np.median(light)
        axis = page.locator(".plot").first.text_content() or ""
        assert "time (s)" in axis and "mel band (Hz)" in axis
        assert "level (dB)" in page.locator(".canvas").inner_text()
        assert pixels(page, 1).shape == drawn.shape  # what the model makes of it
        page.get_by_label("Mark on it").select_option("for score")
        grey = pixels(page)[:, :, :3]
        assert (np.ptp(grey, axis=2) == 0).all()  # so that colour means one thing


def test_the_bands_of_the_highest_error_are_outlined(browser: Browser, url: str) -> None:
    """Neighbours in one box, others in boxes of their own, from the lowest band on; a detector that
    names no band gets the whole height."""
    bands = DATASETS["machine_sound"]["channels"]
    highest = {"start": 0.5, "end": 1.0}

    def change(channels: list[str]) -> Callable[[Route], None]:
        def fulfil(route: Route) -> None:
            answer = route.fetch().json()
            answer["error"]["highest"] = {**highest, "channels": channels}
            route.fulfill(json=answer)

        return fulfil

    with visit(browser, url, NOISE) as page:
        for named, boxes, words in (
            (
                [bands[0], bands[1], bands[9]],
                2,
                "mel bands 1 to 2 and 10 (60 to 600 Hz), 0.50 to 1.00 s",
            ),
            ([], 1, "highest from 0.50 to 1.00 s"),
        ):
            page.route("**/predict?*", change(named), times=1)
            drop(page, {"tone.wav": tone()})
            expect(page.locator(".sentences")).to_contain_text(words)
            assert page.locator(".plot .strongest").count() == boxes
        box = page.locator(".plot .strongest").bounding_box()
        canvas = page.locator(".layers canvas").first.bounding_box()
        assert box and canvas and box["height"] == pytest.approx(canvas["height"], abs=3)


def expected_band() -> float:
    """The place of TONE among the bands from 0 to 8 kHz, on Slaney's scale (Auditory Toolbox, 1998):
    linear up to 1 kHz, logarithmic above."""
    end, place = 15 + 27 * np.log([8, TONE / 1000]) / np.log(6.4)
    return place / end * (BANDS + 1) - 1


def test_a_digit_is_drawn_pixel_by_pixel(browser: Browser, url: str) -> None:
    """The page draws the values that the model saw, not a smoothed copy."""
    content, levels = digit()
    with visit(browser, url, DIGITS) as page:
        drop(page, {"digit.png": content})
        answered(page)
        assert pixels(page)[:, :, 0] == pytest.approx(levels, abs=1)
        style = page.locator(".layers canvas").first.evaluate(
            "c => getComputedStyle(c).imageRendering"
        )
        assert style == "pixelated"
        assert "trained on simulated" not in page.locator("main").inner_text()


def test_a_row_of_features_is_typed_with_the_keyboard(browser: Browser, url: str) -> None:
    """A row is pasted, sent and read without a mouse; what is missing is called so."""
    with visit(browser, url, TABLE) as page:
        page.get_by_label("row of features").focus()
        page.keyboard.insert_text(json.dumps(ROW))
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        answered(page)
        table = page.get_by_role("table", name="features").first
        cells = {
            row.get_by_role("rowheader").inner_text(): row.get_by_role("cell").first.inner_text()
            for row in table.get_by_role("row").all()[1:]
        }
        assert cells["heart_rate"] == "71.5" and cells["qrs_duration"] == "\N{MINUS SIGN}0.25"
        assert "Most probable:" in page.locator(".verdict").inner_text()
        assert "pr_interval" in page.locator(".cautions").inner_text()


def test_a_detector_judges_a_row_of_features(browser: Browser, url: str) -> None:
    """Score, threshold and values are shown, and what moved the score; where in a row it is high
    cannot be told."""
    with visit(browser, url, TABLE_DETECTOR) as page:
        page.get_by_label("row of features").fill(json.dumps(ROW))
        page.get_by_role("button", name="Ask about this row").click()
        answered(page)
        assert re.search("score .* threshold", page.locator(".verdict").inner_text())
        assert "71.5" in page.get_by_role("table", name="features").first.inner_text()
        marks = (
            page.get_by_label("Mark on it")
            .locator("option")
            .evaluate_all("o => o.map(e => e.value)")
        )
        assert marks == ["for score", "nothing"]
        assert not page.locator("#problem").is_visible()


def test_warnings_are_said_whatever_they_are_about(browser: Browser, url: str) -> None:
    """A warning of a code or a grade that the page has never heard of is shown as it is written, and no
    less loud than a caution; only notes are quiet."""
    leads = "lead III is not lead II less lead I: were leads mixed up?"
    warnings = [
        {"grade": "caution", "code": "leads", "message": leads},
        {"grade": "new", "code": "new", "message": "something <b>else</b>"},
        {"grade": "note", "code": "resampled", "message": "resampled from 500 Hz to 100 Hz"},
    ]

    def warn(route: Route) -> None:
        route.fulfill(json=route.fetch().json() | {"warnings": warnings})

    with visit(browser, url, SERIES, first={"**/predict?*": warn}) as page:
        drop(page, {"beat.csv": series()})
        answered(page)
        kinds = [".cautions", ".notes"]
        said = [page.locator(f"{kind} li").all_inner_texts() for kind in kinds]
        assert said == [[w["message"] for w in warnings[:2]], [warnings[2]["message"]]]
        size = "one => Number.parseFloat(getComputedStyle(one).fontSize)"
        ground = "one => getComputedStyle(one).backgroundColor"
        loud, quiet = (page.locator(kind) for kind in kinds)
        assert loud.evaluate(size) > quiet.evaluate(size)
        assert loud.evaluate(ground) != quiet.evaluate(ground) == "rgba(0, 0, 0, 0)"
        assert (loud.bounding_box() or {})["y"] < (quiet.bounding_box() or {})["y"]


# ---------------------------------------------------------------- what a model says of itself


def test_a_metric_that_is_not_defined_is_called_so(browser: Browser, url: str) -> None:
    """One null among the metrics costs neither the others nor the rest of the page."""
    with visit(browser, url, DIGITS) as page:
        page.get_by_text("How good it is").click()
        rows = page.get_by_role("table", name="Measured on test records").get_by_role("row").all()
        cells = [row.get_by_role("cell").all_inner_texts() for row in rows[1:]]
        assert cells == [["0.750", "0.500 to 0.875"], ["not defined", "not defined"]]
        drop(page, {"digit.png": digit()[0]})
        answered(page)


def test_a_model_that_is_not_the_newest_says_so(browser: Browser, url: str) -> None:
    """Whoever trained anew learns why the answers are still the old ones."""
    reason = "data/models/mnist/cnn/model.onnx is not what model.json says"

    def outdate(route: Route) -> None:
        content = route.fetch().json()
        for model in content["models"]:
            model["outdated"] = reason if keyed(model) == DIGITS else None
        route.fulfill(json=content)

    with visit(browser, url, DIGITS, first={"**/models": outdate}) as page:
        expect(page.locator("#description .note")).to_contain_text(reason)
        page.get_by_label("Data set and model").select_option(SERIES)
        expect(page.get_by_text(reason)).to_have_count(0)


def keyed(model: dict[str, Any]) -> str:
    return f"{model['dataset']}/{model['name']}"


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("visited", [DIGITS, SERIES])
def test_no_mistake_of_the_page_is_silent(browser: Browser, url: str, visited: str) -> None:
    """Whatever breaks while a model is chosen, at the start or by the address, is told in words."""

    def spoil(route: Route) -> None:
        content = route.fetch().json()
        for model in content["models"]:
            if keyed(model) == DIGITS:
                model["input"] = None
        route.fulfill(json=content)

    with visit(browser, url, visited, first={"**/models": spoil}, mistake="TypeError") as page:
        if visited != DIGITS:
            assert not page.get_by_role("alert").inner_text()
            page.evaluate("key => { location.hash = key; }", DIGITS)
        said = told(page)
        assert "Something went wrong" in said and "This page made a mistake" in said
        page.get_by_label("Data set and model").select_option(CNN)
        expect(page.get_by_role("button", name="Example 1")).to_be_visible()
        assert not page.get_by_role("alert").inner_text()


def test_a_broken_file_is_told_in_the_words_of_the_server(browser: Browser, url: str) -> None:
    """The problem with a file stands on the page, as an alert, and no old answer beside it."""
    with visit(browser, url, SERIES) as page:
        drop(page, {"beat.csv": series()})
        answered(page)
        with page.expect_response("**/predict?*") as response:
            drop(page, {"beat.npy": b"\x93NUMPY no array"})
        assert 400 <= response.value.status < 500
        assert response.value.json()["detail"] in told(page)
        expect(page.locator("#answer")).to_be_hidden()


def test_half_a_record_is_noticed_before_it_is_sent(
    browser: Browser, url: str, record: dict[str, bytes]
) -> None:
    """WFDB records are two files: who chooses one learns which one is missing, at once."""
    with visit(browser, url, CNN) as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        drop(page, {"beats.hea": record["beats.hea"]})
        assert "beats.dat" in told(page)
        page.get_by_label("Choose a recording").set_input_files(
            [{"name": "beats.dat", "mimeType": "", "buffer": record["beats.dat"]}]
        )
        expect(page.get_by_role("alert")).to_contain_text("beats.hea, which was not chosen")
        drop(page, {"a.csv": b"1", "b.csv": b"2"})
        expect(page.get_by_role("alert")).to_contain_text("one recording at a time")
        assert "POST" not in sent


def test_what_the_file_does_not_say_is_sent_along(browser: Browser, url: str) -> None:
    """Sampling rate and unit go into headers, in letters that headers can hold."""
    with visit(browser, url, CNN) as page:
        page.get_by_text("What the file does not say").click()
        page.get_by_label("Sampling rate").fill("500")
        page.get_by_label("Unit").fill("µV")
        buffer = io.BytesIO()
        np.save(buffer, np.zeros((5000, 12)))
        with page.expect_request("**/predict?*") as request:
            drop(page, {"beats.npy": buffer.getvalue()})
        headers = request.value.headers
        assert (headers["x-sampling-rate"], headers["x-unit"]) == ("500", "uV")
        assert headers["content-type"] == "application/x-npy"
        answered(page)
        page.get_by_label("Sampling rate").fill("fast")
        drop(page, {"beats.npy": buffer.getvalue()})
        assert "fast" in told(page)


def test_a_sampling_rate_that_is_missing_is_asked_for(browser: Browser, url: str) -> None:
    """A refusal about the sampling rate leads to its field, and Enter there or a button sends the same
    file again, without it being chosen anew."""
    detail = "5000 samples are not 1000: say the sampling rate"
    problem = {"title": "Unprocessable Content", "status": 422, "detail": detail}

    def refuse(route: Route) -> None:
        route.fulfill(status=422, body=json.dumps(problem), content_type="application/problem+json")

    buffer = io.BytesIO()
    np.save(buffer, np.zeros((5000, 12)))
    with visit(browser, url, CNN, first={"**/predict?*": refuse}) as page:
        field = page.get_by_label("Sampling rate")
        assert not field.is_visible()
        drop(page, {"beats.npy": buffer.getvalue()})
        assert detail in told(page)
        expect(field).to_be_focused()
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(
            re.compile("fill in or check the sampling rate")
        )
        page.keyboard.type("500")
        for send in (lambda: page.keyboard.press("Enter"), again(page, "beats.npy")):
            with page.expect_request("**/predict?*") as request:
                send()
            assert request.value.headers["x-sampling-rate"] == "500"
            answered(page)
            assert not page.get_by_role("alert").inner_text()
            expect(field).not_to_have_attribute("aria-invalid", "true")
        page.get_by_role("button", name="Example 1").click()
        expect(page.get_by_role("button", name="Send beats.npy again")).to_have_count(0)


def again(page: Page, name: str) -> Callable[[], None]:
    return page.get_by_role("button", name=f"Send {name} again").click


def test_examples_that_cannot_be_listed_say_why(browser: Browser, url: str) -> None:
    """A busy server is not taken for one without examples; the keyboard stays where they appear."""
    busy = {"title": "Service Unavailable", "status": 503, "detail": "all threads are at work"}

    def refuse(route: Route) -> None:
        route.fulfill(status=503, body=json.dumps(busy))

    with visit(browser, url, CNN, first={"**/examples": refuse}) as page:
        problem = page.locator("#examples-problem")
        expect(problem).to_contain_text("all threads are at work")
        page.route("**/examples", refuse, times=1)
        page.get_by_role("button", name="Look for examples again").press("Enter")
        expect(page.get_by_role("button", name="Look for examples again")).to_be_focused()
        page.get_by_role("button", name="Look for examples again").press("Enter")
        expect(page.get_by_role("button", name="Example 1")).to_be_focused()
        assert not problem.inner_text()
        page.route("**/examples", refuse, times=1)
        page.get_by_label("Data set and model").select_option(SERIES)
        expect(problem).to_contain_text("all threads are at work")
        page.get_by_label("Data set and model").select_option(CNN)
        expect(page.get_by_role("button", name="Example 1")).to_be_visible()
        assert not problem.inner_text()


def test_a_server_that_is_gone_or_busy_can_be_asked_again(browser: Browser, url: str) -> None:
    """A dropped connection and a 503 are told in words, and one button asks again."""
    busy = {"title": "Service Unavailable", "status": 503, "detail": "all threads are at work"}
    with visit(browser, url, SERIES) as page:
        page.route("**/predict?*", lambda route: route.abort(), times=1)
        drop(page, {"beat.csv": series()})
        assert "cannot be reached" in told(page)
        page.route(
            "**/predict?*",
            lambda route: route.fulfill(status=503, body=json.dumps(busy)),
            times=1,
        )
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("alert")).to_contain_text("all threads are at work")
        page.get_by_role("button", name="Try again").click()
        answered(page)
        assert not page.get_by_role("alert").inner_text()


def test_a_model_that_is_not_there_says_why(browser: Browser, url: str) -> None:
    """It stands in the list, cannot be chosen, and a link to it is answered with the reason."""
    with visit(browser, url, project.MISSING) as page:
        assert project.MISSING in told(page)
        option = page.locator(f"option[value='{project.MISSING}']")
        assert option.is_disabled() and "not available" in option.inner_text()
        assert page.get_by_label("Data set and model").input_value() == TRAINED[0]


# ---------------------------------------------------------------- for everybody


def test_the_keyboard_alone_leads_from_a_model_to_an_answer(
    browser: Browser, url: str, tmp_path: Path
) -> None:
    """Model, example and file are reached with Tab, and the focus then is at the answer."""
    (tmp_path / "beat.csv").write_bytes(series())
    with visit(browser, url, DIGITS) as page:
        # Long before it is needed: the browser takes its time until it hands choosers over.
        page.on("filechooser", lambda chooser: chooser.set_files(tmp_path / "beat.csv"))
        page.get_by_label("Data set and model").focus()
        page.keyboard.type("ptbxl / c")
        expect(page.get_by_role("button", name="Example 1")).to_be_visible()
        for _ in range(5):
            page.keyboard.press("Tab")
            if page.get_by_role("button", name="Example 1").evaluate(
                "one => one === document.activeElement"
            ):
                break
        page.keyboard.press("Enter")
        answered(page)
        assert page.evaluate("document.activeElement.textContent") == "Answer"
        page.get_by_label("Data set and model").select_option(SERIES)
        page.get_by_label("Data set and model").focus()
        page.keyboard.press("Tab")  # how good it is
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        answered(page)
        assert page.evaluate("document.activeElement.textContent") == "Answer"


def everything_asked(page: Page, record: dict[str, bytes]) -> Iterator[str]:
    """Each drawing on the page, one after the other."""
    files = {
        CNN: record,
        DETECTOR: record,
        SERIES: {"beat.csv": series()},
        DIGITS: {"digit.png": digit()[0]},
        NOISE: {"tone.wav": tone()},
        TABLE: {"row.json": json.dumps([[71.5, 0.2, 0.1]]).encode()},
    }
    for details in page.locator("details").all():
        details.evaluate("one => { one.open = true }")
    for model, content in files.items():
        page.get_by_label("Data set and model").select_option(model)
        drop(page, content)
        page.locator(f"#words:has-text('{model.replace('/', ' / ')}')").wait_for()
        answered(page)
        yield model


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_sideways_scrolling(
    browser: Browser, url: str, record: dict[str, bytes], scheme: str
) -> None:
    """At 360 pixels the page is as wide as the screen (only the paper scrolls, on its own), and all
    text stands out from its ground by WCAG's 4.5 to 1, by day and by night."""
    with visit(browser, url, CNN, viewport=PHONE, color_scheme=scheme) as page:
        for model in everything_asked(page, record):
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], model
            assert not page.evaluate(CONTRAST), model
            if model == CNN:
                assert page.get_by_role("radio", name="12 leads below each other").is_checked()
                scroll = page.locator(".scroll")
                assert scroll.evaluate("one => one.scrollWidth > one.clientWidth")
        paper = page.locator(".paper-ground")
        page.get_by_label("Data set and model").select_option(CNN)
        drop(page, record)
        answered(page)
        assert paper.first.evaluate("one => getComputedStyle(one).fill") == "rgb(255, 255, 255)"
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


# Texts of HTML that stand out too little from the next ground below them, as `text: ratio`.
CONTRAST = r"""() => {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => channels(colour).slice(0, 3)
    .map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.querySelectorAll("body *:not(svg *):not(option)")) {
    const own = [...element.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (!own || !element.checkVisibility() || element.closest(":disabled")) continue;
    const sorted = [luminance(getComputedStyle(element).color), luminance(ground(element))].sort();
    const ratio = (sorted[1] + 0.05) / (sorted[0] + 0.05);
    if (ratio < 4.5) found.push(`${element.textContent}: ${ratio}`);
  }
  return found.length ? found : null;
}"""
INTERACTIVE = {
    "button", "checkbox", "combobox", "image", "img", "link", "radio", "region", "table", "textbox",
    "SvgRoot", "group",
}  # fmt: skip


def test_a_screen_reader_is_told_what_everything_is(
    browser: Browser, url: str, record: dict[str, bytes]
) -> None:
    """Every control, picture, table and region has a name; landmarks and headings are in order."""
    with visit(browser, url, CNN) as page:
        session = page.context.new_cdp_session(page)
        for model in everything_asked(page, record):
            nodes = session.send("Accessibility.getFullAXTree")["nodes"]
            shown = [node for node in nodes if not node["ignored"]]
            roles = [(node["role"]["value"], node.get("name", {}).get("value")) for node in shown]
            assert {"banner", "main", "contentinfo"} <= {role for role, _ in roles}
            assert not [
                role for role, name in roles if role in INTERACTIVE - {"group"} and not name
            ], model
            levels = page.locator("h1, h2, h3, h4").evaluate_all(
                "all => all.filter((one) => one.checkVisibility()).map((one) => Number(one.tagName[1]))"
            )
            assert levels[0] == 1 and levels.count(1) == 1
            assert max(np.diff(levels)) <= 1, model
            assert page.get_by_role("status").inner_text().startswith("Answered.")
            assert page.evaluate("document.documentElement.scrollWidth") <= WIDE["width"], model
        assert page.locator("html").get_attribute("lang") == "en"
        assert page.get_by_role("alert").count() == 1


# ---------------------------------------------------------------- words, and what is taken along


@pytest.mark.parametrize(("model", "times"), [(SERIES, 2), (DIGITS, 0)])
def test_what_is_no_medicine_does_not_speak_of_it(
    browser: Browser, url: str, model: str, times: int
) -> None:
    """The reservation stands where a recording may be a person's, in the head and in the answer."""
    with visit(browser, url, model) as page:
        drop(page, {"digit.png": digit()[0]} if model == DIGITS else {"a.csv": series()})
        answered(page)
        assert page.locator("body").inner_text().count("No medical device") == times
        page.get_by_label("Data set and model").select_option(CNN)
        expect(page.locator("#device")).to_be_visible()


def test_classes_of_ecgs_are_spelled_out(
    browser: Browser, url: str, record: dict[str, bytes]
) -> None:
    """Where the choice of the model is explained, and beside each probability."""
    with visit(browser, url, CNN) as page:
        assert "MI (myocardial infarction)" in page.locator("#description").inner_text()
        drop(page, record)
        answered(page)
        heads = page.locator("#numbers tbody th").all_inner_texts()
        assert [head.split("\n")[0].strip() for head in heads] == project.CLASSES
        assert "conduction disturbance" in heads[2]


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
@pytest.mark.parametrize("sent", ["record", "example", "row", "odd name"])
def test_the_command_of_an_answer_gives_that_answer(
    browser: Browser, url: str, record: dict[str, bytes], sent: str, tmp_path: Path
) -> None:
    """What is copied can be pasted where the files lie, whatever they are called, and the downloaded
    answer is the one that the server gives then."""
    model = TABLE if sent == "row" else CNN
    with visit(browser, url, model, permissions=["clipboard-read", "clipboard-write"]) as page:
        if sent == "example":
            page.locator("#examples button").first.click()
        elif sent == "row":
            page.locator("#values").fill(json.dumps(ROW))
            page.get_by_role("button", name="Ask about this row").click()
        else:
            files = record
            if sent == "odd name":
                samples = np.zeros((RATE * SECONDS, len(LEADS)))
                samples[::50] = 1.0
                file = io.BytesIO()
                np.save(file, samples)
                files = {'o\'clock $x "1".npy': file.getvalue()}
            for name, content in files.items():
                (tmp_path / name).write_bytes(content)
            drop(page, files)
        answered(page)
        page.get_by_role("button", name="Copy as curl").click()
        expect(page.locator(".command")).to_be_visible()
        command = page.evaluate("navigator.clipboard.readText()")
        assert command == page.locator(".command").inner_text()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download the answer").click()
        answer = json.loads(download.value.path().read_text())
    done = subprocess.run(["bash", "-euc", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["probabilities"] == answer["probabilities"] and again["model"] == answer["model"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_documentation_is_as_dark_as_the_page(browser: Browser, url: str, scheme: str) -> None:
    """And asks this server, under whatever address it was found."""
    context = browser.new_context(viewport=WIDE, color_scheme=scheme)  # pyright: ignore
    page = context.new_page()
    page.goto(f"{url}/docs")
    page.wait_for_selector(".opblock")
    shade = "getComputedStyle(document.querySelector('.swagger-ui .info p')).color"
    light_text = sum(map(int, re.findall(r"\d+", page.evaluate(shade))[:3])) > 3 * 128
    assert light_text == (scheme == "dark")
    page.locator(".opblock", has_text="/health").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".request-url")).to_contain_text(f"{url}/health")
    expect(page.locator(".live-responses-table .response-col_status").last).to_have_text("200")
    context.close()


def test_the_documented_question_can_be_tried_as_it_stands(browser: Browser, url: str) -> None:
    """Data set, model and body are filled in, and what they ask is answered."""
    page = browser.new_page(viewport=WIDE)  # pyright: ignore
    page.goto(f"{url}/docs")
    page.locator(".opblock-summary", has_text="{model}/predict").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response-col_status").last).to_have_text("200")
    page.close()


@pytest.mark.parametrize("asks", ["costly", "everything"])
def test_a_token_is_asked_for_where_one_is_needed(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: str
) -> None:
    """And kept for the tab alone: in no address, and in no command that may be passed on."""
    monkeypatch.setenv(tokens.VARIABLE, TOKEN)
    application = project.app(project.make(tmp_path), token=asks)
    with project.serving(application) as url:
        context = browser.new_context(reduced_motion="reduce")
        page = context.new_page()
        page.set_default_timeout(10_000)
        project.wait_until(lambda: httpx.get(f"{url}/health").is_success)
        page.goto(f"{url}/#ptbxl/cnn")
        if asks == "costly":
            page.get_by_role("button", name="Example 1").click()
        sign_in(page, TOKEN, "#examples li")
        if asks == "everything":
            page.get_by_role("button", name="Example 1").click()
        answered(page)
        page.get_by_role("button", name="Copy as curl").click()
        command = page.locator(".command").inner_text()
        assert "Bearer $BEATLINE_TOKEN" in command
        assert TOKEN not in page.url + command + page.content()
        assert page.evaluate("localStorage.length") == 0
        page.goto(f"{url}/docs")
        page.wait_for_selector(".opblock")
        context.close()
