"""What CI posts: `.ci/comment.py` against a server that keeps comments as GitHub and GitLab do."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from beatline.common.markdown import text
from tests.paths import ROOT

SCRIPT = ROOT / ".ci/comment.py"
spec = importlib.util.spec_from_file_location("comment", SCRIPT)
assert spec and spec.loader
comment = importlib.util.module_from_spec(spec)
spec.loader.exec_module(comment)

FIGURES = "https://git.example/team/project/raw/"
FIGURE = f"![ptbxl/cnn: curves before, main]({FIGURES}0a1b2c3/reports/figures/ptbxl/cnn_curves.png)"
MARKDOWN = MarkdownIt("commonmark").enable("table")
REVISION = "1f" * 20
ACTIVE = [
    "@team",
    "\\@team",
    "&#64;team",
    "&commat;team",
    "team/project#12",
    "closes #12",
    "GH-12",
    "!12 and ~label and %milestone and $3 and &7",
    "team/project@0a1b2c3",
    "[issue:12]",
    "https://git.example/team/project/issues/12",
    "www.git.example/team",
    "/merge",
    "  /assign me",
    "text\r/close",
    "text\u2028/close",
    "<img src=x>",
    "<!-- a comment",
    "<https://git.example>",
    "![picture](https://git.example/x.png)",
    "![picture][x]\n\n[x]: x.png",
    FIGURE.replace("git.example", "elsewhere.example"),
    FIGURE.replace("reports/", "reports/../"),
    f"{FIGURE} @team",
]
REFERENCES = re.compile(
    r"""@\w|\#\w|[!$]\w|[~%][\w"]|GH-\d|&\d|://|www\.|\[\w+:""",
    re.MULTILINE | re.IGNORECASE,
)


def shown(markdown: str) -> tuple[str, list[str]]:
    """What people read, and the kinds of what is more than text in it: as HTML, before a provider looks
    for mentions and references."""
    tokens = [each for token in MARKDOWN.parse(markdown) for each in (token.children or [token])]
    kinds = {token.type for token in tokens} & {"image", "link_open", "html_inline", "html_block"}
    words = [
        token.content
        for token in tokens
        if token.type in ("text", "code_inline", "fence", "code_block")
    ]
    return "\n".join(words), sorted(kinds)


def body(comparison: str) -> str:
    """The comment without its mark, which is HTML."""
    return comment.comment(comparison, FIGURES).removeprefix(comment.MARK)


@pytest.mark.parametrize("line", ACTIVE)
def test_a_strangers_text_is_text(line: str) -> None:
    """A comparison is what the run of a pull request says it is: it may call nobody, touch no issue, obey
    nobody and load no picture. Each of these does, or did in one of the two providers."""
    words, kinds = shown(body(line))
    assert not kinds and not REFERENCES.search(words), words
    assert not re.search(r"^\s*/", body(line), re.MULTILINE) and "\r" not in body(line)


@given(
    st.lists(st.sampled_from([*"@#!~%$&<>[]():/\\`*_|x1 \n\t", "&#64;", "www.", "GH-", "://"])).map(
        "".join
    )
)
@example("`@x`")
@example("&amp;#64;x")
def test_no_combination_makes_more_of_it(comparison: str) -> None:
    """Marks that are harmless alone may make a link, a tag or a mention together."""
    words, kinds = shown(body(comparison))
    assert not kinds and not REFERENCES.search(words), words


@pytest.mark.parametrize(
    "value", ["ptbxl/cnn_lstm <b> [x] #1 | 5 % & @me", "a < b: -0.1 [-0.2, +0.0]"]
)
def test_what_is_shown_stays_as_it_was(value: str) -> None:
    """Nobody sees that a comment was made harmless."""
    assert shown(body(text(value)))[0].replace(comment.BREAK, "") == value


@pytest.mark.parametrize(("label", "posted"), [("main", "main"), ("main@{1}", "main@\u200b{1}")])
def test_figures_of_the_reports_are_shown(label: str, posted: str) -> None:
    """The curves before and after are what a reviewer wants to see, whatever a revision is called."""
    line = FIGURE.replace("main", label)
    assert body(f"## ptbxl/cnn\n\n{line}") == f"\n## ptbxl/cnn\n\n{FIGURE.replace('main', posted)}"
    assert shown(body(line))[1] == ["image"]


def test_a_long_comparison_is_cut_at_a_line_and_says_so() -> None:
    """GitHub refuses more than 65,536 characters, and half a table is not the whole."""
    posted = comment.comment("| ptbxl | @team |\n" * 10_000, FIGURES)
    assert len(posted) < 65_536
    *lines, last = posted.splitlines()
    assert set(lines[1:]) == {f"| ptbxl | @{comment.BREAK}team |"} and "review" in last


def zipped(**files: bytes) -> bytes:
    """An artifact."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in files.items():
            archive.writestr(name.replace("__", "."), each)
    return content.getvalue()


@pytest.mark.parametrize(
    "archive",
    [b"", b"no ZIP", zipped(other=b"text"), zipped(comparison__md=b"text" * 99)[:60]],
    ids=["empty", "no ZIP", "other files", "cut"],
)
def test_an_artifact_without_a_comparison_is_none(archive: bytes) -> None:
    """A run that failed early, or a stranger's artifact, ends in a sentence and not in a traceback."""
    assert comment.unpacked(archive) is None


def test_a_bomb_is_read_no_further_than_a_comment_needs() -> None:
    """A megabyte of ZIP can hold a gigabyte of text."""
    text = comment.unpacked(zipped(comparison__md=b"x" * 50_000_000))
    assert text is not None and len(text) == comment.TEXT_LIMIT


class Provider(ThreadingHTTPServer):
    """The part of a provider that keeps the comments of one request. A path gives JSON, bytes, or a list
    in pages; comments have authors."""

    def __init__(self, token: tuple[str, str], me: Any, comments: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token, self.me, self.comments = token, me, comments
        self.content: dict[str, Any] = {}
        self.written: list[tuple[str, str]] = []
        self.leaked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def kept(self) -> list[dict[str, Any]]:
        return self.content[self.comments]


class _Handler(BaseHTTPRequestHandler):
    @property
    def provider(self) -> Provider:
        assert isinstance(self.server, Provider)
        return self.server

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        content = self.provider.content.get(address.path[1:])
        if address.path == "/elsewhere":  # another host: artifacts lie on one
            self.provider.leaked += [
                name for name in self.headers if name == self.provider.token[0]
            ]
            self._answer(200, content)
        elif self.headers[self.provider.token[0]] != self.provider.token[1]:
            self._answer(401, b"")
        elif content == "elsewhere":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
        elif isinstance(content, list):
            query = parse_qs(address.query)
            size, page = int(query["per_page"][0]), int(query["page"][0])
            self._answer(200, content[size * (page - 1) : size * page])
        else:
            self._answer(200 if content is not None else 404, content)

    def _write(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"]
        self.provider.written.append((self.command, sent))
        if self.command == "POST":
            assert self.path[1:] == self.provider.comments
            number = 1000 + len(self.provider.kept)
            self.provider.kept.append({"id": number, "body": sent, **self.provider.me})
        else:
            number = int(self.path.rsplit("/", 1)[1])
            (own,) = [each for each in self.provider.kept if each["id"] == number]
            own["body"] = sent
        self._answer(200, {"id": number})

    do_POST = do_PUT = do_PATCH = _write

    def _answer(self, status: int, content: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests' output stays readable."""


def _serve(server: Provider) -> Iterator[Provider]:
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def github() -> Iterator[Provider]:
    """A pull request of a fork's, with 150 comments, in one of which a person quotes the mark."""
    me = {"user": {"login": "github-actions[bot]"}}
    server = Provider(
        ("Authorization", "Bearer secret"), me, "repos/team/project/issues/3/comments"
    )
    person = {"user": {"login": "github-actions"}}
    server.content = {
        "repos/team/project/pulls": [{"number": 3, "head": {"sha": REVISION}}],
        "repos/team/project/actions/runs/5/artifacts": {"artifacts": [{"id": 8}, {"id": 9}]},
        "repos/team/project/actions/artifacts/9/zip": "elsewhere",
        "elsewhere": zipped(comparison__md=b"## First"),
        server.comments: [{"id": i, "body": comment.MARK, **person} for i in range(150)],
    }
    yield from _serve(server)


@pytest.fixture
def gitlab() -> Iterator[Provider]:
    """A merge request with 150 notes, in one of which a person quotes the mark."""
    server = Provider(
        ("PRIVATE-TOKEN", "secret"), {"author": {"id": 7}}, "projects/1/merge_requests/3/notes"
    )
    pipelines = [{"id": i, "project_id": 2, "source": "merge_request_event"} for i in (5, 6)]
    pushed = {"id": 9, "project_id": 2, "source": "push"}
    server.content = {
        "user": {"id": 7},
        "projects/1/merge_requests": [{"iid": 2}, {"iid": 3}],
        "projects/1/merge_requests/2/pipelines": [],
        "projects/1/merge_requests/3/pipelines": [pushed, *pipelines],
        "projects/2/pipelines/6/jobs": [{"id": 10, "name": "test"}, {"id": 11, "name": "review"}],
        "projects/2/jobs/11/artifacts/review/comparison.md": b"## First",
        server.comments: [{"id": i, "body": comment.MARK, "author": {"id": 4}} for i in range(150)],
    }
    yield from _serve(server)


def post(server: Provider, provider: str, ok: bool = True, **variables: str) -> str:
    """What the script prints."""
    environment = {
        "PATH": os.environ["PATH"],
        "GITHUB_API_URL": server.url,
        "GITHUB_SERVER_URL": "https://git.example",
        "GITHUB_REPOSITORY": "team/project",
        "GH_TOKEN": "secret",
        "RUN": "5",
        "HEAD_OWNER": "stranger",
        "HEAD_BRANCH": "a&b=#c",
        "HEAD_SHA": REVISION,
        "CI_API_V4_URL": server.url,
        "CI_PROJECT_ID": "1",
        "CI_PROJECT_URL": "https://git.example/team/project",
        **variables,
    }
    command = [sys.executable, str(SCRIPT), provider]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_github_has_one_comment_that_is_updated(github: Provider) -> None:
    """The second run edits what the first one posted, on whichever page it is, and no comment of a
    person's; the token stays with the API when an artifact lies elsewhere."""
    post(github, "github")
    github.content["elsewhere"] = zipped(comparison__md=b"## Second @team")
    post(github, "github")
    assert [method for method, _ in github.written] == ["POST", "PATCH"]
    assert len(github.kept) == 151
    assert github.kept[-1]["body"] == f"{comment.MARK}\n## Second @{comment.BREAK}team"
    assert not github.leaked


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("repos/team/project/pulls", [{"number": 3, "head": {"sha": "0" * 40}}]),
        ("repos/team/project/pulls", [{"number": i, "head": {"sha": REVISION}} for i in (3, 4)]),
        ("repos/team/project/actions/runs/5/artifacts", {"artifacts": []}),
        ("elsewhere", b"no ZIP"),
    ],
    ids=["pushed since", "two bases", "no artifact", "damaged"],
)
def test_github_posts_nothing_where_it_does_not_know(
    github: Provider, path: str, content: Any
) -> None:
    """A comparison with another base, or of another revision, is worse than none."""
    github.content[path] = content
    assert "No comment" in post(github, "github")
    assert not github.written


def test_gitlab_has_one_comment_that_is_updated(gitlab: Provider) -> None:
    """As on GitHub. A schedule that finds nothing new writes nothing, as each update calls people."""
    post(gitlab, "gitlab", REVIEW_TOKEN="secret")
    post(gitlab, "gitlab", REVIEW_TOKEN="secret")
    gitlab.content["projects/2/jobs/11/artifacts/review/comparison.md"] = b"/merge"
    post(gitlab, "gitlab", REVIEW_TOKEN="secret")
    assert [method for method, _ in gitlab.written] == ["POST", "PUT"]
    assert gitlab.kept[-1]["body"] == f"{comment.MARK}\n{comment.BREAK}/merge"


def test_gitlab_goes_on_where_a_fork_shows_nothing(gitlab: Provider) -> None:
    """One private fork does not keep the others from their comments."""
    gitlab.content["projects/1/merge_requests/2/pipelines"] = [
        {"id": 1, "project_id": 99, "source": "merge_request_event"}
    ]
    assert "!2: no comparison" in post(gitlab, "gitlab", REVIEW_TOKEN="secret")
    assert len(gitlab.written) == 1


def test_gitlab_without_a_token_says_what_to_set(gitlab: Provider) -> None:
    """A schedule that posts nothing would look as if all were well."""
    printed = post(gitlab, "gitlab", ok=False)
    assert "REVIEW_TOKEN" in printed and "protected" in printed and "Traceback" not in printed
