"""evaluate: one trained model on the test records of its data set, which nothing has seen before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from beatline import models
from beatline.bundle import WEIGHTS_SHA256, Bundle
from beatline.bundle import model as bundle  # now, since identity sums what is loaded
from beatline.common import params, sums
from beatline.common.errors import run_stage, warn
from beatline.common.files import replacing, write_csv, write_json
from beatline.evaluation import estimates, predictions, reconstructions
from beatline.evaluation.estimates import FEWEST_GROUPS, FEWEST_OF_A_KIND, Evaluate
from beatline.evaluation.predictions import Predictions
from beatline.lineage import record
from beatline.preprocessing import arrays
from beatline.preprocessing.arrays import SplitArrays


def main(model: str, name: str) -> None:
    parameters = params.block(params.load(), "evaluate", Evaluate)
    trained_in = Path(f"data/models/{name}/{model}")
    tested_on = Path(f"data/normalized/{name}/test")
    identity = record.identity([tested_on], f"evaluate_{model}@{name}")
    trained = bundle.load(trained_in)
    dataset = trained.description["dataset"]
    labels = trained.task.labels(trained.classes)
    test = arrays.load_split(tested_on, labels, dataset["sections"])

    predicted = predict(trained, test)
    estimated = estimates.estimates(predicted, test.table, parameters)
    overall = {metric: estimate["value"] for metric, estimate in estimated["overall"].items()}
    others = other_seeds(trained_in, test, parameters)
    if trained.description.get("members"):
        estimated |= {"seeds": [], "members": others}
    else:
        own = {"seed": trained.description["training"]["seed"], **overall}
        estimated["seeds"] = [own, *others]
    if uncalibrated := trained.uncalibrated():
        before = estimates.measured(predict(uncalibrated, test), parameters)["overall"]
        estimated["uncalibrated"] = {
            metric: before[metric] for metric in estimates.OF_PROBABILITIES
        }
    estimated["identity"] = {**identity, "model": trained.description[WEIGHTS_SHA256]}

    with replacing(Path(f"data/predictions/{name}/{model}")) as folder:
        folder.mkdir()
        predictions.write(folder, predicted)
        write_json(folder / "estimates.json", estimated)
        sums.seal(folder)  # which is read below
        if trained.task.name == "reconstruction":
            # Of the predictions as they were written, so that the report chooses the same records.
            written = predictions.read(folder, trained.description)
            reconstructions.write(folder, written, test.signals, trained.reconstruct)
            sums.seal(folder)
        network_parameters = models.count_parameters(trained.network)
        file = folder / predictions.FILE
        about = estimates.about(predicted, parameters, network_parameters, file)
    milliseconds = estimates.time_of_a_prediction(trained.answer, test.signals)
    durations = Path(f"data/durations/{name}/{model}/predict.json")
    sums.write_sealed_json(durations, {"predict_milliseconds": round(milliseconds, 3)})
    metrics = estimates.metrics_of(predicted, estimated, about, dataset["simulated"])
    write_json(Path(f"reports/metrics/{name}/{model}.json"), metrics, digits=4)
    by_class = estimates.by_class(predicted, estimated)
    write_csv(Path(f"reports/plots/{name}/{model}_classes.csv"), by_class, digits=4)
    for metric, value in estimated["overall"].items():
        interval = f"  [{value['low']:.4f}, {value['high']:.4f}]" if value["low"] > -1 else ""
        print(f"{metric:18s} {value['value']:.4f}{interval}")
    print(f"{milliseconds:.1f} ms for one record alone")
    warn_of_few(predicted)
    warn_of_undecided(predicted)
    if not trained.task.learns_normal_only:
        warn_of_undefined(estimated)


def warn_of_few(predicted: Predictions) -> None:
    """Tell whether the test records are of so few patients, or of a class, that intervals fail."""
    cure = "test on more (datasets: split), or use recordings of more patients"
    if (number := len(set(predicted.table["group"]))) < FEWEST_GROUPS:
        warn(
            f"the test records are of {number} patient{'s' * (number > 1)}: there is no interval of "
            f"fewer than {FEWEST_GROUPS}, and what is measured may be chance; {cure}"
        )
        return
    cases = estimates.cases_of(predicted)
    few = [name for name, each in cases.items() if 0 < each["rarer"] < FEWEST_OF_A_KIND]
    if few:
        warn(
            f"test records with or without {', '.join(few)} are of fewer than {FEWEST_OF_A_KIND} "
            f"patients: their intervals are too narrow; {cure}"
        )


def warn_of_undecided(predicted: Predictions) -> None:
    """Name the classes, or machines, that have positives and no decisions for them."""
    cases = estimates.cases_of(predicted)
    undecided = [name for name, each in cases.items() if each["positives"] and not each["decided"]]
    if undecided:
        warn(
            f"no test record was decided to be {', '.join(undecided)}: there is no precision of no "
            f"decisions, and a mean of precisions is over the others; look at the thresholds, or use "
            f"more records"
        )


def warn_of_undefined(estimated: dict[str, Any]) -> None:
    """Name the classes without test records, and the means without an interval."""
    absent = [name for name, part in estimated["parts"].items() if not part["positives"]]
    if absent:
        warn(
            f"no test record of {', '.join(absent)}: what is not defined without one is in no mean"
        )
    overall = estimated["overall"].items()
    unsure = [
        metric
        for metric, value in overall
        if np.isfinite(value["value"]) > np.isfinite(value["low"])
    ]
    # Of few patients there is none at all, for another reason.
    if unsure and any(np.isfinite(value["low"]) for _, value in overall):
        warn(
            f"no interval of {', '.join(unsure)}: no resample of the test records holds every class; "
            f"raise aggregate_labels.min_records, or use more records"
        )


def predict(trained: Bundle, test: SplitArrays) -> Predictions:
    """The model's predictions on the test records."""
    predicted = trained.answer(test.signals)
    return predictions.made(trained.description, predicted.values, predicted.decisions, test.table)


def other_seeds(folder: Path, test: SplitArrays, parameters: Evaluate) -> list[dict[str, Any]]:
    """Seed and overall metrics of each bundle that the bundle in `folder` holds, in the order of the
    seeds."""
    # A value needs no resample; one is the fewest there can be.
    once = parameters.model_copy(update={"resamples": 1})
    rows = []
    for path in bundle.other_seeds(folder):
        trained = bundle.load(path)
        overall = estimates.measured(predict(trained, test), once)["overall"]
        values = {metric: estimate["value"] for metric, estimate in overall.items()}
        rows.append({"seed": trained.description["training"]["seed"], **values})
    return rows


if __name__ == "__main__":
    run_stage(main)
