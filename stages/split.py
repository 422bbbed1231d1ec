"""split: who is in train, validation and test, and whether anyone is in two of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from beatline.common import params, sums
from beatline.common.errors import concerning, run_stage
from beatline.common.files import read_csv, read_json, write_csv, write_json
from beatline.preprocessing import splitting


def main(name: str) -> None:
    content = params.load()
    parameters = params.block(content, f"datasets.{name}.split", splitting.Split)
    description = read_json(sums.verified(Path(f"data/labels/{name}/dataset.json")))
    classes = description["classes"]
    sections = description["sections"]
    columns = ("record", "group", "fold", *classes, *([sections] if sections else []))
    table = read_csv(sums.verified(Path(f"data/labels/{name}/labels.csv")), columns, sections)

    with concerning(f"datasets.{name}"):
        split = splitting.assign(table, classes, parameters, sections=sections)
        if description["task"] != "anomaly":  # whose anomalies nothing learns
            splitting.check_classes(table, classes, split)
    counts = splitting.class_counts(table, classes, split)
    shared = splitting.shared_groups(table.loc[:, "group"], split)

    output = Path(f"data/splits/{name}.csv")
    write_csv(output, pd.DataFrame({"record": table["record"], "split": split}))
    sums.seal(output)
    write_csv(Path(f"reports/plots/{name}/class_counts.csv"), counts)
    write_json(
        Path(f"reports/metrics/{name}/split.json"),
        {"simulated": description["simulated"], "leak": shared},
    )
    print(counts.pivot(index="class", columns="split", values="records").to_string())
    print(f"patients in more than one split: {shared}")


if __name__ == "__main__":
    run_stage(main)
