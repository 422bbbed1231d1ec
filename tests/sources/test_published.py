"""Descriptions of published files: what they say is fetched, held to its hash, and refused if wrong."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from beatline.common.errors import UserError
from beatline.sources.published import Published, fetch
from tests.paths import ROOT

CONTENT = b"recordings of hearts"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a server of `published/`, which holds the file FordA.zip."""
    (tmp_path / "published").mkdir()
    (tmp_path / "published/FordA.zip").write_bytes(CONTENT)
    handler = partial(_Quiet, directory=str(tmp_path / "published"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def described(folder: Path, text: str) -> Path:
    path = folder / "mine" / "description.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_of_a_name_that_is_filled_in(address: str, tmp_path: Path) -> None:
    """The second mirror is asked where the first has nothing, and the hash of params.yaml counts."""
    text = (
        f"files: {{'{{name}}.zip': {{urls: ['{address}/no/{{name}}', '{address}/{{name}}.zip']}}}}"
    )
    path = described(tmp_path, text)
    assert fetch(path, tmp_path / "w", {"name": "FordA"}, SHA256).read_bytes() == CONTENT
    with pytest.raises(UserError, match=r"SHA-256 .*correct `sha256:`"):
        fetch(path, tmp_path / "x", {"name": "FordA"}, "0" * 64)
    assert not (tmp_path / "x/FordA.zip").exists()


def test_without_a_hash_it_is_said_which_one_to_write(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever writes it into the description has what was fetched held to it; a file that was fetched
    from another address is not taken for this one's."""
    text = f"files: {{data.zip: {{urls: ['{address}/FordA.zip']}}}}"
    path = described(tmp_path, text)
    fetch(path, tmp_path / "w", {}, None)
    assert f"`sha256: {SHA256}`" in capsys.readouterr().out
    fetch(path, tmp_path / "w", {}, None)
    assert not capsys.readouterr().out
    (tmp_path / "published/other.zip").write_bytes(b"other")
    path.write_text(text.replace("FordA", "other"))
    assert fetch(path, tmp_path / "w", {}, None).read_bytes() == b"other"
    path.write_text(text.replace("]}", f"], sha256: {SHA256}}}"))
    assert fetch(path, tmp_path / "w", {}, None).read_bytes() == CONTENT


def test_several_files_come_as_a_folder(address: str, tmp_path: Path) -> None:
    """Each with a hash of its own, so that one for all is refused."""
    (tmp_path / "published/second.zip").write_bytes(b"second")
    file = f"{{urls: ['{address}/FordA.zip'], sha256: {SHA256}}}"
    other = f"{{urls: ['{address}/second.zip'], sha256: {hashlib.sha256(b'second').hexdigest()}}}"
    path = described(tmp_path, f"files: {{first: {file}, second: {other}}}")
    folder = fetch(path, tmp_path / "w", {}, None)
    assert sorted(file.name for file in folder.iterdir()) == ["first", "second"]
    with pytest.raises(UserError, match=r"download\.sha256"):
        fetch(path, tmp_path / "w", {}, SHA256)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "describes no published files"),
        ("files: {}", "must name a package and its sha256, or a folder or files"),
        ("package: a==1", "must name a package and its sha256, or a folder or files"),
        ("package: a\nsha256: " + SHA256, "package"),
        ("files: {a.zip: {urls: []}}", "files.a.zip.urls"),
        ("files: {a.zip: {url: x}}", "files.a.zip.url"),
        ("files: {a.zip: {urls: [x], sha256: '12'}}", "files.a.zip.sha256"),
        ("files: {a.zip: {urls: ['http://x/{machine}']}}", "{machine}"),
        ("files: {../a.zip: {urls: ['http://x']}}", "files.../a.zip"),
        ("files: {a.zip: {urls: ['ftp://x']}}", "ftp://x is no http"),
        ("files: [", "is not valid YAML"),
    ],
)
def test_a_wrong_description_is_one_sentence(tmp_path: Path, text: str, named: str) -> None:
    """The file, and what is wrong in it."""
    path = described(tmp_path, text)
    with pytest.raises(UserError) as error:
        fetch(path, tmp_path / "w", {"name": "FordA"}, None)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_the_descriptions_of_the_project_are_valid() -> None:
    """Each one that a package of a data set holds, and each file of one by HTTPS."""
    paths = [path for path in ROOT.glob("beatline/datasets/*/*.yaml") if path.name != "card.yaml"]
    assert len(paths) >= 6
    for path in paths:
        content = Published.model_validate(yaml.safe_load(path.read_text()))
        for urls in (content.folder, *content.files.values()):
            assert not urls or all(url.startswith("https://") for url in urls.urls)
