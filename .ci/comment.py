"""Post the comparison of a pull request or merge request as one comment, which later runs update.

    python3 .ci/comment.py github    called by .github/workflows/comment.yml after a run
    python3 .ci/comment.py gitlab    called by a scheduled pipeline of GitLab's default branch

The token may write, so this is the code of the default branch, and the standard library alone. A stranger
may have made all that it fetches: it reads at most so many bytes of one text and unpacks nothing to disk.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

MARK = "<!-- comparison with the base branch -->"
TEXT_LIMIT = 1_000_000  # bytes of a comparison that are looked at
ARCHIVE_LIMIT = 50_000_000  # bytes of an artifact, all in memory
COMMENT_LIMIT = 60_000  # characters; GitHub takes 65,536
PAGE = 100
SECONDS = 60
BREAK = "\u200b"  # zero width: the text looks as before
# Where a mention, a reference, an entity, a tag, a link or an address would begin. A backslash or an
# entity in place of the character does not help: GitHub looks for mentions when Markdown is HTML already.
ACTIVE = re.compile(
    r"@|\#(?=[^\#\s])|[!$~%&<\[](?=\S)|\](?=[(\[:])|:(?=[\\/])|www|GH(?=[\\-])", re.IGNORECASE
)
FIGURE = (
    r"!\[((?:[^\[\]\\]|\\.)*)\]"
    r"(\({}[0-9a-f]{{7,64}}/reports/figures/(?:\w[\w.-]*/)*\w[\w.-]*\.png\))"
)


def comment(comparison: str, figures: str) -> str:
    """Return the comment: the comparison as text that calls nobody, refers to nothing, and shows no
    pictures but those of `reports/figures/` at the URL `figures`, which a commit follows."""
    figure = re.compile(FIGURE.format(re.escape(figures)))
    lines, length = [MARK], len(MARK)
    for line in comparison.splitlines():
        shown = figure.fullmatch(line)
        safe = f"![{passive(shown[1])}]{shown[2]}" if shown else passive(line)
        length += 1 + len(safe)
        if length > COMMENT_LIMIT:
            lines.append("… The rest is in the artifact `review`.")
            break
        lines.append(safe)
    return "\n".join(lines)


def passive(line: str) -> str:
    """Return a line of Markdown in which nothing is a mention, a reference, a link, HTML or a command."""
    printable = "".join(letter if letter.isprintable() else " " for letter in line)
    # GitLab obeys lines that begin with a slash, in the name of who posts them.
    return re.sub(r"^(\s*)/", rf"\1{BREAK}/", ACTIVE.sub(rf"\g<0>{BREAK}", printable))


class Api:
    """The provider's API, with a token that goes to no other host that it sends us to."""

    def __init__(self, url: str, header: str, token: str) -> None:
        self.url, self.header, self.token = url, header, token

    def open(self, path: str, method: str = "GET", content: Any = None) -> IO[bytes]:
        body = None if content is None else json.dumps(content).encode()
        request = Request(f"{self.url}/{path}", body, method=method)
        request.add_header("Content-Type", "application/json")
        request.add_unredirected_header(self.header, self.token)
        return urlopen(request, timeout=SECONDS)

    def read(self, path: str, limit: int) -> bytes:
        """Return at most so many bytes of what is at a path."""
        with self.open(path) as response:
            return response.read(limit)

    def get(self, path: str) -> Any:
        with self.open(path) as response:
            return json.load(response)

    def pages(self, path: str) -> Iterator[Any]:
        """Yield the items of a list, however many pages it has."""
        number = 1
        while items := self.get(
            f"{path}{'&' if '?' in path else '?'}per_page={PAGE}&page={number}"
        ):
            yield from items
            number += 1

    def send(self, method: str, path: str, body: str) -> None:
        self.open(path, method, {"body": body}).close()


def github() -> None:
    """Post what a finished run of pull-request.yml has left. Owner, branch and revision come from GitHub,
    not from the artifact, which a fork could have forged."""
    variables, repository = os.environ, f"repos/{os.environ['GITHUB_REPOSITORY']}"
    api = Api(variables["GITHUB_API_URL"], "Authorization", f"Bearer {variables['GH_TOKEN']}")
    head = quote(f"{variables['HEAD_OWNER']}:{variables['HEAD_BRANCH']}", safe="")
    numbers = [
        request["number"]
        for request in api.pages(f"{repository}/pulls?state=open&head={head}")
        if request["head"]["sha"] == variables["HEAD_SHA"]
    ]
    if len(numbers) != 1:  # with several bases, nobody can tell with which one it was compared
        print(
            f"No comment: {len(numbers)} open pull requests are at {variables['HEAD_SHA']}, not one."
        )
        return
    artifacts = api.get(f"{repository}/actions/runs/{variables['RUN']}/artifacts?name=review")[
        "artifacts"
    ]
    if not artifacts:
        print("No comment: the run ended before it had compared anything.")
        return
    newest = max(artifacts, key=lambda each: each["id"])
    text = unpacked(api.read(f"{repository}/actions/artifacts/{newest['id']}/zip", ARCHIVE_LIMIT))
    if text is None:
        print("No comment: the artifact `review` is too large, or has no comparison.md.")
        return
    figures = f"{variables['GITHUB_SERVER_URL']}/{variables['GITHUB_REPOSITORY']}/raw/"
    comments = f"{repository}/issues/{numbers[0]}/comments"
    for each in api.pages(comments):
        if each["user"]["login"] == "github-actions[bot]" and each["body"].startswith(MARK):
            api.send("PATCH", f"{repository}/issues/comments/{each['id']}", comment(text, figures))
            return
    api.send("POST", comments, comment(text, figures))


def unpacked(archive: bytes) -> str | None:
    """Return the comparison in an artifact, if there is one. Only this file is read, as bytes: a link in
    its place, a name that leads out of a folder or a bomb beside it do nothing."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as members, members.open("comparison.md") as file:
            return file.read(TEXT_LIMIT).decode(errors="replace")
    except (KeyError, zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, zlib.error):
        return None


def gitlab() -> None:
    """Post for every open merge request what its newest pipeline has left."""
    if "REVIEW_TOKEN" not in os.environ:
        sys.exit(
            "error: REVIEW_TOKEN is not set: make it a protected variable of the project, and run this on"
            " the default branch, which is protected (docs/security.md)"
        )
    project = f"projects/{os.environ['CI_PROJECT_ID']}"
    api = Api(os.environ["CI_API_V4_URL"], "PRIVATE-TOKEN", os.environ["REVIEW_TOKEN"])
    me = api.get("user")["id"]
    for request in api.pages(f"{project}/merge_requests?state=opened"):
        path = f"{project}/merge_requests/{request['iid']}"
        text = _left_by_newest_pipeline(api, path)
        if text is None:
            print(f"!{request['iid']}: no comparison")
            continue
        body = comment(text, f"{os.environ['CI_PROJECT_URL']}/-/raw/")
        notes = api.pages(f"{path}/notes?sort=asc")
        own = [
            each for each in notes if each["author"]["id"] == me and each["body"].startswith(MARK)
        ]
        if not own:
            api.send("POST", f"{path}/notes", body)
        elif own[0]["body"] != body:
            api.send("PUT", f"{path}/notes/{own[0]['id']}", body)
        print(f"!{request['iid']}: posted")


def _left_by_newest_pipeline(api: Api, request: str) -> str | None:
    """Return the comparison of a merge request, or None if there is none (yet), or none that the token's
    user may read: a fork's pipeline belongs to the fork."""
    pipelines = [
        each
        for each in api.pages(f"{request}/pipelines")
        if each["source"] == "merge_request_event"
    ]
    try:
        newest = max(pipelines, key=lambda each: each["id"])
        project = f"projects/{newest['project_id']}"
        jobs = api.pages(f"{project}/pipelines/{newest['id']}/jobs")
        job = next(each for each in jobs if each["name"] == "review")
        path = f"{project}/jobs/{job['id']}/artifacts/review/comparison.md"
        return api.read(path, TEXT_LIMIT).decode(errors="replace")
    except (ValueError, StopIteration):
        return None
    except HTTPError as error:
        if error.code in (401, 403, 404):
            return None
        raise


if __name__ == "__main__":
    {"github": github, "gitlab": gitlab}[sys.argv[1]]()
