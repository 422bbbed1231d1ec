"""The endpoint that a tutorial writes: Flask, JSON, torch. The baseline of `benchmarks.serving`.

``python -m benchmarks.plain_endpoint data/models/ptbxl/cnn --port 5001`` serves one bundle by Flask's own
server, a thread per connection. Like the tutorial's, it believes what it is sent.
"""

from __future__ import annotations

import argparse

import numpy as np
from flask import Flask, Response, jsonify, request

from beatline import bundle


def application(folder: str) -> Flask:
    app = Flask(__name__)
    model = bundle.load(folder)

    @app.route("/health")
    def health() -> Response:
        return jsonify(status="healthy")

    @app.route("/predict", methods=["POST"])
    def predict() -> Response:
        recording = np.array(request.get_json()["signal"], dtype=np.float32)
        answers = model.predict(recording[np.newaxis])
        values = answers.values[0].tolist()
        return jsonify(
            probabilities=dict(zip(answers.classes, values, strict=True)),
            decisions=dict(
                zip(answers.classes, answers.decisions[0].astype(bool).tolist(), strict=True)
            ),
        )

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, default=5001)
    options = parser.parse_args()
    application(options.folder).run(port=options.port, threaded=True)


if __name__ == "__main__":
    main()
