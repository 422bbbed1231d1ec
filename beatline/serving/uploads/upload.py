"""A request's body as the formats see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from beatline.common.errors import shown


@dataclass(frozen=True)
class File:
    """`name`: as the client calls it, "" for a plain body."""

    name: str
    content: bytes

    @property
    def base_name(self) -> str:
        """The name without folders, which nobody here looks at."""
        return PurePosixPath(self.name.replace("\\", "/")).name

    @property
    def where(self) -> str:
        """The file's name in messages."""
        return shown(self.base_name) or "the body"


@dataclass(frozen=True)
class Upload:
    """`content_type`: without parameters, in lower case, "" if there is none. `headers`: the
    request's. `files`: one with the name "" for a plain body, several of a multipart form."""

    content_type: str
    headers: Mapping[str, str]
    files: list[File]
