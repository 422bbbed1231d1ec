"""report: data, models, curves and mistakes, for people a page and cards, for `dvc plots` tables."""

from __future__ import annotations

from pathlib import Path

from beatline.common import params
from beatline.common.errors import run_stage
from beatline.common.files import replacing, write_csv
from beatline.reporting.document import CARDS, FIGURES
from beatline.reporting.identity import own_identity
from beatline.reporting.page import page
from beatline.reporting.report import compose
from beatline.reporting.settings import Report

REPORTS = Path("reports")


def main() -> None:
    content = params.load()
    parameters = params.block(content, "report", Report)
    report = compose(content, parameters, Path(), own_identity())

    for kind, tables in report.curves.items():
        with replacing(REPORTS / "plots" / kind) as folder:
            folder.mkdir()
            for name, table in tables.items():
                write_csv(folder / f"{name}.csv", table, digits=4)
    texts = {**report.cards, **report.metadata}
    cards = {path: text.encode() for path, text in texts.items()}
    for name, files in ((FIGURES, report.figures), (CARDS, cards)):
        with replacing(REPORTS / name) as folder:
            for path, content_of_file in files.items():
                target = folder / Path(path).relative_to(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content_of_file)
    with replacing(REPORTS / "report.md") as beside:
        beside.write_text(report.markdown, encoding="utf-8")
    with replacing(REPORTS / "report.html") as beside:
        beside.write_text(page(report), encoding="utf-8")
    print(f"report: {REPORTS / 'report.html'} (and {REPORTS / 'report.md'})")


if __name__ == "__main__":
    run_stage(main)
