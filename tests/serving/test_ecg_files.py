"""Files of electrocardiographs, EDF and MAT, sent over HTTP: the answer to what they hold, or why there
is none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy.io import savemat

from beatline.formats import recordings
from beatline.formats.leads import DERIVABLE, LEADS
from beatline.serving import registry
from beatline.serving.app import create_app
from tests.formats import ecg_files
from tests.formats.ecg_files import MADE, STORED, digital
from tests.formats.test_edf import written
from tests.formats.test_vendors import REAL, Files, real
from tests.serving import project
from tests.serving.uploads import packed

CNN = "ptbxl/cnn"
ADDRESS = f"/models/{CNN}/predict"
TYPES = {"dicom": "application/dicom", "muse": "text/xml", "aecg": "application/xml"}
PHILIPS = ["philips_1_03.xml", "philips_1_04.xml"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    about = {"channels": list(LEADS), "sampling_rate": 100, "length": 1000}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(project.DATASETS, "ptbxl", {**project.DATASETS["ptbxl"], **about})
        folder = tmp_path_factory.mktemp("project")
        project.save(folder / registry.FOLDER / CNN, CNN)
        project.evaluate(folder, CNN)
        limits = project.limits(features=None, max_values=1_000_000, max_megabytes=4.0)
        with (
            project.serving(create_app(limits, folder, [CNN])) as url,
            httpx.Client(base_url=url, timeout=60) as client,
        ):
            yield client


def sent(form: str) -> bytes:
    write, names, *_ = MADE[form]
    return write(digital(names, 5000))


def answers(client: httpx.Client, content: bytes, form: str) -> list[dict[str, Any]]:
    """Those to the same file as a body, in a form, and in an archive."""
    headers = {"Content-Type": TYPES.get(form, "application/octet-stream")}
    bodies: list[dict[str, Any]] = [
        {"content": content, "headers": headers},
        {"files": {"files": ("ecg.file", content)}},
        {"content": packed(("ecg.file", content)), "headers": {"Content-Type": "application/zip"}},
    ]
    return [client.post(ADDRESS, **body, params={"recording": True}).json() for body in bodies]


def as_array(client: httpx.Client, content: bytes) -> dict[str, Any]:
    """The answer to the samples that the pipeline reads of a file, all leads made by hand."""
    recording = recordings.read(Files({"x": content}), "x")
    by_name = dict(zip(recording.channels or [], recording.samples.T.astype(float), strict=True))
    one, two = by_name["I"], by_name["II"]
    follow = two - one, -(one + two) / 2, one - two / 2, two - one / 2
    follows = dict(zip(DERIVABLE, follow, strict=True))
    signal = {name: (follows | by_name)[name].tolist() for name in LEADS}
    body = {"signal": signal, "sampling_rate": recording.sampling_rate, "unit": "mV"}
    return client.post(ADDRESS, json=body).json()


def check(client: httpx.Client, content: bytes, form: str) -> list[str]:
    """Whatever way a file is sent, the answer is that to its samples. Returns the codes of warnings."""
    expected = list(as_array(client, content)["probabilities"].values())
    codes = set()
    for answer in answers(client, content, form):
        np.testing.assert_allclose(list(answer["probabilities"].values()), expected, atol=1e-4)
        assert answer["recording"]["channels"] == list(LEADS) and answer["recording"]["samples"]
        codes.add(tuple(warning["code"] for warning in answer["warnings"]))
    (same,) = codes
    return list(same)


@pytest.mark.parametrize("form", [form for form in MADE if form != "kardia"])
def test_every_format_is_answered(client: httpx.Client, form: str) -> None:
    """By content type or first bytes; the leads that a file leaves out follow, with a note."""
    eight = MADE[form][1] == STORED
    assert ("derived" in check(client, sent(form), form.split()[0])) == eight


@real
@pytest.mark.parametrize("name", [*PHILIPS, "hl7_aecg.xml", "dicom_12_lead.dcm"])
def test_real_files_are_answered(client: httpx.Client, name: str) -> None:
    """As devices wrote them."""
    assert "derived" not in check(client, (REAL / name).read_bytes(), "aecg")


def test_edf_and_mat_are_answered(client: httpx.Client, tmp_path: Path) -> None:
    """A matrix of MATLAB says neither rate nor leads: headers do."""
    written(tmp_path / "x", LEADS, ("mV",) * 12, (250,) * 12)
    check(client, (tmp_path / "x").read_bytes(), "edf")
    file, values = io.BytesIO(), np.random.default_rng(1).normal(size=(12, 1000))
    savemat(file, {"val": values})
    headers = {"X-Unit": "mV", "X-Sampling-Rate": "100", "X-Channels": ",".join(LEADS)}
    mat = client.post(ADDRESS, content=file.getvalue(), headers=headers).json()
    signal = {"signal": values.T.tolist(), "unit": "mV", "sampling_rate": 100}
    array = client.post(ADDRESS, json=signal).json()
    assert mat["probabilities"] == pytest.approx(array["probabilities"], abs=1e-6)


def test_a_column_of_no_lead_is_never_made(client: httpx.Client) -> None:
    """Leads of the chest do not follow from anything; nor do leads of the limbs in two units."""
    problem = client.post(ADDRESS, content=sent("kardia"))
    assert problem.status_code == 422 and "V1" in problem.json()["detail"]
    assert "AVR" not in problem.json()["detail"].partition("among")[0]
    counts = digital(STORED, 1000)
    signal = {name: samples.tolist() for name, samples in counts.items() if name != "I"}
    problem = client.post(ADDRESS, json={"signal": signal, "sampling_rate": 100})
    assert problem.status_code == 422 and "III, AVR" in problem.json()["detail"]


REFUSED = {
    "a bad checksum": (sent("scp")[:-1] + b"\x77", 400),
    "no waveform": (ecg_files.dicom({}, waveform=False), 400),
    "entities": (b'<!DOCTYPE RestingECG [<!ENTITY a "b">]><RestingECG>&a;</RestingECG>', 400),
    "too long": (ecg_files.mfer(digital(LEADS, 90_000)), 413),
    "no unit": (ecg_files.muse(digital(STORED), unit="FURLONGS"), 422),
    "other XML": (b"<?xml version='1.0'?><svg></svg>", 415),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said(client: httpx.Client, case: str) -> None:
    """In a problem document with the status that tells whose fault it is."""
    content, status = REFUSED[case]
    answer = client.post(ADDRESS, content=content, headers={"Content-Type": "application/xml"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
