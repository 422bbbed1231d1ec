"""Make the page into which `dvc plots show|diff` puts its drawings, with all inside that draws them.

DVC's own page loads three libraries from a server, and is blank where that cannot be reached.
`make plots-page` makes .dvc/plots/page.html, which .dvc/config names and from which `beatline plots`
takes the libraries too, anew from their published packages (needs npm). The versions are the last of
those major versions that DVC's templates are written for.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from beatline.common.errors import UserError, reporting_mistakes
from beatline.common.files import replacing

PAGE = Path(".dvc/plots/page.html")
LICENCE = Path(".dvc/plots/LICENSE")  # of all three, which are of one project


class Library(NamedTuple):
    """A published package, and the hash that the registry gives for it."""

    name: str
    version: str
    integrity: str

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"


LIBRARIES = (
    Library(
        "vega",
        "5.33.1",
        "sha512-1fArfVDUqVbb5z8n+/nVQb+VNBzx8svY6CrsyTK4Ujm4yrd9I1auoKxBAPXLCavY1LcrbHUskQbGUP8gXOzyQw==",
    ),
    Library(
        "vega-lite",
        "5.23.0",
        "sha512-l4J6+AWE3DIjvovEoHl2LdtCUkfm4zs8Xxx7INwZEAv+XVb6kR6vIN1gt3t2gN2gs/y4DYTs/RPoTeYAuEg6mA==",
    ),
    Library(
        "vega-embed",
        "6.29.0",
        "sha512-PmlshTLtLFLgWtF/b23T1OwX53AugJ9RZ3qPE2c01VFAbgt3/GSNI/etzA/GzdrkceXFma+FDHNXUppKuM0U6Q==",
    ),
)

# What DVC replaces, less the place for its own scripts, which would be fetched.
PLACES = ("{refresh_tag}", "{plot_divs}")
HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
{refresh_tag}
<title>Plots</title>
<style>
body { font-family: sans-serif; margin: 1rem; }
body > div { display: inline-block; margin: 0.5rem; vertical-align: top; }
body > div { max-width: 100%; overflow-x: auto; }
img { max-width: 100%; }
table { border-spacing: 15px; }
</style>
LIBRARIES
</head>
<body>
{plot_divs}
</body>
</html>
"""


def page(scripts: dict[str, str], licence: str) -> str:
    """The page's HTML, from the libraries' scripts by their titles.

    Raises UserError if a script holds what would end it early or what DVC would replace in it.
    """
    for title, script in scripts.items():
        for forbidden in (*PLACES, "{scripts}", "</script", "<!--"):
            if forbidden in script:
                raise UserError(f"{title} contains {forbidden}: it cannot stand inside a page")
    lines = [f"<!--\n{', '.join(scripts)}\n\n{licence.strip()}\n-->"]
    lines += [f"<script>\n{script.strip()}\n</script>" for script in scripts.values()]
    return HTML.replace("LIBRARIES", "\n".join(lines))


def fetch(library: Library, folder: Path) -> str:
    """The minified script of a package, which is downloaded to `folder` and checked.

    Raises UserError if npm is missing or fails, or if the package is not the one that was pinned.
    """
    package = f"{library.name}@{library.version}"
    try:
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError("npm is missing: install it to make the page of the plots anew") from None
    except subprocess.CalledProcessError as error:
        reason = " ".join((error.stderr or error.stdout).split())
        raise UserError(f"npm could not fetch {package}: {reason}") from None
    archive = folder / f"{library.name}-{library.version}.tgz"
    check(archive, library)
    with tarfile.open(archive) as files:
        file = files.extractfile(f"package/build/{library.name}.min.js")
        assert file is not None  # what has the pinned hash has this file
        return re.sub(r"^//# sourceMappingURL=.*$", "", file.read().decode("utf8"), flags=re.M)


def check(archive: Path, library: Library) -> None:
    """Raises UserError if the archive's SHA-512 is not the pinned one."""
    digest = hashlib.sha512(archive.read_bytes()).digest()
    if (found := f"sha512-{base64.b64encode(digest).decode()}") != library.integrity:
        raise UserError(
            f"{library.title} is {found}, not {library.integrity}: do not use it before you know why"
        )


def main() -> None:
    """Write the page. Raises UserError if a library cannot be had, or is another than the pinned one."""
    with tempfile.TemporaryDirectory() as folder:
        fetched = {library.title: fetch(library, Path(folder)) for library in LIBRARIES}
    with replacing(PAGE) as beside:
        beside.write_text(page(fetched, LICENCE.read_text()), encoding="utf8")
    print(f"{PAGE}: {PAGE.stat().st_size / 1e6:.2f} MB, with {', '.join(fetched)}")


if __name__ == "__main__":
    with reporting_mistakes():
        main()
