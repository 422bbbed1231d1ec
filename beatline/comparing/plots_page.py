"""The plots that differ between two revisions as one HTML file, with all inside that draws them."""

from __future__ import annotations

import base64
import csv
import io
import mimetypes
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from beatline.common.errors import UserError
from beatline.common.words import counted
from beatline.comparing.plots import PLACE, ChangedPlots, Plot, Points

# The report's style, without loading what makes reports.
OF_REPORT = Path(__file__).parents[1] / "reporting/templates"
# Vega, as `dvc plots` loads it too.
LIBRARIES = Path(".dvc/plots/page.html")
OTHER = "other plots"  # of no data set


def page(changed: ChangedPlots) -> str:
    """Return the HTML file. Raises UserError if the project has not the libraries that draw charts."""
    environment = Environment(
        loader=PackageLoader("beatline.comparing"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"title": _title, "inlined": _inlined}
    charts = [plot for plot in changed.plots if plot.spec]
    return environment.get_template("plots.html.j2").render(
        style=(OF_REPORT / "style.css").read_text(),
        contents=(OF_REPORT / "contents.js").read_text(),
        outcome=outcome(changed),
        sections=_sections(changed.plots),
        before=changed.before.label,
        after=changed.after.label,
        charts={_place(plot): _chart(plot) for plot in charts},
        place=_place,
        libraries=_libraries() if charts else "",
    )


def outcome(changed: ChangedPlots) -> str:
    """Say in a sentence without full stop how many plots changed."""
    between = f"between {changed.before.label} and {changed.after.label}"
    if not changed.plots:
        return f"No plot differs {between}"
    models = {(plot.dataset, plot.model) for plot in changed.plots if plot.model}
    of_models = sum(bool(plot.model) for plot in changed.plots)
    counts = {
        counted(len(models), "model"): of_models,
        "no single model": len(changed.plots) - of_models,
    }
    parts = [f"{counted(number, 'plot')} of {whose}" for whose, number in counts.items() if number]
    return f"{' and '.join(parts)} {'differs' if len(changed.plots) == 1 else 'differ'} {between}"


def _sections(plots: list[Plot]) -> dict[str, dict[str, list[Plot]]]:
    """Plots by data set and model, charts before pictures."""
    return {
        dataset or OTHER: {
            model: sorted(own, key=lambda plot: not plot.spec)
            for model, own in groupby(of_dataset, key=lambda plot: plot.model)
        }
        for dataset, of_dataset in groupby(plots, key=lambda plot: plot.dataset)
    }


def _title(plot: Plot) -> str:
    """What a plot shows, by its path less what the section says."""
    path = PurePosixPath(plot.path)
    name = path.parent.name if path.stem == plot.dataset else path.stem
    return name.removeprefix(f"{plot.model}_").replace("_", " ")


def _place(plot: Plot) -> str:
    """The element of a chart in the page."""
    return f"{plot.path}/{plot.model}"


def _chart(plot: Plot) -> dict[str, Any]:
    """A chart with its data as a table, which is a third of the size of Vega's lists."""
    return {"spec": plot.spec, "data": _table(plot.points)}


def _table(points: Points) -> str:
    text = io.StringIO()
    names = list(dict.fromkeys(name for point in points for name in point))
    writer = csv.DictWriter(text, [*names, PLACE], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**point, PLACE: place} for place, point in enumerate(points))
    return text.getvalue()


def _inlined(content: bytes, path: str) -> str:
    kind, _ = mimetypes.guess_type(path)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _libraries() -> str:
    """Vega's scripts with their licence, out of the page into which `dvc plots` draws."""
    try:
        text = LIBRARIES.read_text(encoding="utf-8")
        return text[text.index("<!--") : text.rindex("</script>") + len("</script>")]
    except (FileNotFoundError, ValueError):
        raise UserError(
            f"{LIBRARIES} is missing or has no scripts: bring it back by `git checkout HEAD -- "
            f"{LIBRARIES}`"
        ) from None
