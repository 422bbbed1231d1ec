"""The plots of two revisions that differ, by data set and model: tables as charts of both, and pictures.

A table that holds several models (a column `model`) counts as a plot of each.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from dvc.exceptions import DvcException
from dvc.render.converter.vega import VegaConverter
from dvc.utils.serialize import PARSERS
from dvc_render import ImageRenderer, VegaRenderer
from dvc_render.exceptions import DvcRenderError

from beatline.comparing.revisions import Revision

TEMPLATES = ".dvc/plots"
DELIMITERS = {".csv": ",", ".tsv": "\t"}
BEFORE, AFTER = "#8c8c8c", "#1f86d1"  # to be told apart on white and on black
PLACE = "place"  # column of a point's place in its table: Vega would sort panels by name
DASHED, SOLID = [4, 3], [1, 0]
PAGES_OWN = ("$schema", "title", "config", "data", "params")  # of a chart's specification
Points = list[dict[str, Any]]


@dataclass(frozen=True)
class Plot:
    """A plot that differs. `model`: empty for what is of the data set as a whole. `notes`: what it
    lacks. Of the rest, it has a chart in Vega-Lite with the data of both, or the two pictures."""

    dataset: str
    model: str
    path: str
    notes: list[str]
    spec: dict[str, Any] = field(default_factory=dict)
    points: Points = field(default_factory=list)
    pictures: tuple[bytes | None, bytes | None] = (None, None)

    @property
    def shown(self) -> bool:
        return bool(self.spec or any(self.pictures))


@dataclass(frozen=True)
class ChangedPlots:
    """The plots that differ between two revisions, in the order of params.yaml."""

    before: Revision
    after: Revision
    plots: list[Plot]


def collect(before: Revision, after: Revision) -> ChangedPlots:
    """Compare every plot that one of them declares. Raises UserError if a revision is no state of this
    project."""
    pairs = list(dict.fromkeys([*after.trained, *before.trained]))
    plots = [
        plot
        for path in dict.fromkeys([*after.plots, *before.plots])
        for plot in _differing(before, after, path, pairs)
    ]
    datasets = list(dict.fromkeys(dataset for dataset, _ in pairs))
    plots.sort(
        key=lambda plot: (
            _position(plot.dataset, datasets),
            plot.model != "",
            _position((plot.dataset, plot.model), pairs),
            plot.model,
        )
    )
    return ChangedPlots(before, after, plots)


def _position(name: object, names: Sequence[object]) -> int:
    """The place of a name in a list; that after the last one if it is not there."""
    return names.index(name) if name in names else len(names)


def _differing(
    before: Revision, after: Revision, path: str, pairs: list[tuple[str, str]]
) -> Iterator[Plot]:
    """The plots of a file that differ: none, one, or one of each model."""
    suffix = PurePosixPath(path).suffix
    if suffix not in {*VegaRenderer.EXTENSIONS, *ImageRenderer.EXTENSIONS}:
        return  # a report or a card, which DVC is told to keep as it keeps plots
    contents = before.content(path), after.content(path)
    if contents[0] == contents[1] and None not in contents:
        return
    notes = [
        f"{'not at hand' if path in revision.plots else 'not'} in {revision.label}"
        for revision, content in zip((before, after), contents, strict=True)
        if content is None
    ]
    plot = Plot(*_owner(path, pairs), path, notes, pictures=contents)
    if suffix in ImageRenderer.EXTENSIONS:
        yield plot
    else:
        yield from _charts(replace(plot, pictures=(None, None)), before, after, contents)


def _owner(path: str, pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Data set and model that a path names, as in `roc/<data set>.csv` or `<data set>/<model>_roc.png`;
    empty where it names none."""
    *folders, stem = PurePosixPath(path).with_suffix("").parts
    datasets = {dataset for dataset, _ in pairs}
    dataset = next((name for name in (stem, *reversed(folders)) if name in datasets), "")
    models = [
        model for owner, model in pairs if owner == dataset and f"{stem}_".startswith(f"{model}_")
    ]
    return dataset, max(models, key=len, default="")


# ---------------------------------------------------------------- charts


def _charts(
    plot: Plot, before: Revision, after: Revision, contents: tuple[bytes | None, bytes | None]
) -> Iterator[Plot]:
    """A chart of each model whose points differ. What cannot be drawn is a plot with a note on why."""
    sides: list[dict[str, Points]] = []
    properties: dict[str, Any] = {}
    try:
        for revision, content in zip((before, after), contents, strict=True):
            declared = after.plots.get(plot.path, before.plots.get(plot.path, {}))
            points, resolved = _read(plot.path, content, declared, revision)
            properties = resolved or properties
            sides.append(_by_model(points, plot.model))
        for model in dict.fromkeys([*sides[1], *sides[0]]):
            old, new = (side.get(model, []) for side in sides)
            if _without_revision(old) != _without_revision(new):
                absent = [
                    f"not in {revision.label}"
                    for revision, points in ((before, old), (after, new))
                    if not points
                ]
                points = _by_class([*old, *new])
                chart = replace(plot, model=model, notes=plot.notes or absent, points=points)
                labels = [before.label, after.label]
                yield replace(chart, spec=_spec(chart, properties, labels))
    except (DvcRenderError, ValueError) as error:
        yield replace(plot, notes=[*plot.notes, f"cannot be drawn: {' '.join(str(error).split())}"])


def _read(
    path: str, content: bytes | None, properties: dict[str, Any], revision: Revision
) -> tuple[Points, dict[str, Any]]:
    """Points of a table and the properties of its chart, as DVC finds them. Raises ValueError if
    it holds none."""
    if content is None:
        return [], {}
    suffix = PurePosixPath(path).suffix
    try:
        if suffix in DELIMITERS:
            data = _rows(content, DELIMITERS[suffix], header=properties.get("header", True))
        else:
            data = PARSERS[suffix](content.decode(), path)
        if not isinstance(data, dict | list) or not data:
            raise ValueError("it holds no table")
        return VegaConverter(path, {path: data}, properties).flat_datapoints(revision.label)
    except (DvcException, ValueError, csv.Error) as error:
        raise ValueError(f"{path} of {revision.name}: {error}") from None


def _rows(content: bytes, delimiter: str, *, header: bool) -> Points:
    rows = [row for row in csv.reader(io.StringIO(content.decode()), delimiter=delimiter) if row]
    if not rows:
        return []
    names = rows.pop(0) if header else [str(number) for number in range(len(rows[0]))]
    if any(len(row) != len(names) for row in rows):
        raise ValueError(f"a row has not as many cells as there are columns ({len(names)})")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _by_model(points: Points, owner: str) -> dict[str, Points]:
    models: dict[str, Points] = {}
    for point in points:
        models.setdefault(str(point.get("model", owner)), []).append(point)
    return models


def _by_class(points: Points) -> Points:
    """Points of the same class together, so that both revisions of a class stand side by side."""
    classes = list(dict.fromkeys(point.get("class") for point in points))
    return sorted(points, key=lambda point: classes.index(point.get("class")))


def _without_revision(points: Points) -> Points:
    return [{name: value for name, value in point.items() if name != "rev"} for point in points]


def _spec(plot: Plot, properties: dict[str, Any], labels: list[str]) -> dict[str, Any]:
    """The chart that DVC draws with the template, in which the revisions differ as the models do there.
    What the page gives every chart is left out, and zooming, which would keep a phone from scrolling."""
    renderer = VegaRenderer(plot.points, plot.path, **properties, template_dir=TEMPLATES)
    spec = renderer.get_filled_template()
    for encoding in _encodings(spec):
        _tell_apart(encoding, labels)
    if isinstance(facet := spec.get("facet"), dict) and "field" in facet:
        # The section of the page says which model it is.
        label = f"split(replace(datum.label, ', {plot.model}', ''), ', ')"
        order = {"field": PLACE, "op": "min", "order": "ascending"}
        facet |= {"sort": order, "header": {"labelExpr": label}}
    return {key: spec[key] for key in spec if key not in PAGES_OWN}


def _tell_apart(encoding: dict[str, Any], labels: list[str]) -> None:
    """The baseline first, grey and dashed."""
    channels = {"color": [BEFORE, AFTER], "strokeDash": [DASHED, SOLID]}
    for channel, values in channels.items():
        if _field(encoding, channel) in ("rev", "model"):
            scale = {"domain": labels, "range": values}
            encoding[channel] = {"field": "rev", "type": "nominal", "title": None, "scale": scale}
    for channel in ("xOffset", "yOffset"):
        if _field(encoding, channel) == "rev":
            encoding[channel] = {"field": "rev", "sort": labels}


def _field(encoding: dict[str, Any], channel: str) -> Any:
    definition = encoding.get(channel)
    return definition.get("field") if isinstance(definition, dict) else None


def _encodings(spec: Any) -> Iterator[dict[str, Any]]:
    """Every encoding in a chart and in its layers."""
    if isinstance(spec, dict):
        if isinstance(spec.get("encoding"), dict):
            yield spec["encoding"]
        for key in ("spec", "layer", "hconcat", "vconcat", "concat"):
            yield from _encodings(spec.get(key))
    elif isinstance(spec, list):
        for part in spec:
            yield from _encodings(part)
