"""evaluate: one trained model on the test records of its data set, which nothing has seen before."""

from __future__ import annotations

import sys
from pathlib import Path

from beatline import bundle
from beatline.common import params
from beatline.common.errors import reporting_mistakes
from beatline.common.files import replacing, sha256, write_csv, write_json
from beatline.evaluation import estimates
from beatline.lineage import record
from beatline.preprocessing import arrays


def main(model: str, name: str) -> None:
    parameters = params.block(params.load(), "evaluate", estimates.Evaluate)
    trained_in = Path(f"data/models/{name}/{model}")
    tested_on = Path(f"data/normalized/{name}/test")
    identity = record.identity([tested_on], f"evaluate_{model}@{name}")
    trained = bundle.load(trained_in)
    sections = trained.description["dataset"]["sections"]
    labels = [*trained.task.labels(trained.classes), *([sections] if sections else [])]
    test = arrays.load_split(tested_on, labels)

    answers = trained.answer(test.signals)
    found = estimates.estimates(trained, answers, test.table, parameters)
    found["seeds"] = [
        estimates.of_seed(trained, found["overall"]),
        *estimates.of_other_seeds(trained_in, test.signals, test.table, parameters),
    ]
    found["identity"] = {**identity, "model": sha256(trained_in / bundle.WEIGHTS)}

    with replacing(Path(f"data/predictions/{name}/{model}")) as folder:
        folder.mkdir()
        table = estimates.predictions(trained, answers, test.table)
        write_csv(folder / "predictions.csv", table, digits=9)
        write_json(folder / "estimates.json", found)
        about = estimates.about(trained, test.table, parameters, folder / "predictions.csv")
    milliseconds = estimates.time_of_an_answer(trained, test.signals)
    write_json(
        Path(f"data/durations/{name}/{model}/predict.json"),
        {"predict_milliseconds": round(milliseconds, 3)},
    )
    metrics = estimates.metrics_of(trained, found, about)
    write_json(Path(f"reports/metrics/{name}/{model}.json"), metrics, digits=4)
    by_class = estimates.by_class(trained, found)
    write_csv(Path(f"reports/plots/{name}/{model}_classes.csv"), by_class, digits=4)
    for metric, value in found["overall"].items():
        print(f"{metric:18s} {value['value']:.4f}  [{value['low']:.4f}, {value['high']:.4f}]")
    print(f"{milliseconds:.1f} ms for one record alone")


if __name__ == "__main__":
    with reporting_mistakes():
        main(*sys.argv[1:])
