"""Whether a keypoint detector that has learnt from generated bodies finds the joints of such.

`python -m docs.joints > docs/study/joints.md`, after `make study`, whose checkpoints it evaluates.
"""

import contextlib
import json
import sys
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory

from anonymize import DatasetJob, anonymize_dataset
from configs import load_config
from evaluate import evaluate

RUNS = "outputs/streetscenes_keypoints/streetscenes_keypoints-{}-seed*"
METRICS = {"val/bbox/AP": "box AP", "val/keypoints/AP": "keypoint AP", "val/keypoints/AP50": "keypoint AP50"}


def table() -> str:
    """Evaluate every run on validation images with generated people, beside its results on the original ones."""
    values: dict[tuple[str, str], list[dict[str, float]]] = {}
    for trained, condition in (("original", "original"), ("generated", "body-realistic")):
        for run in sorted(Path().glob(RUNS.format(condition))):
            results = json.loads((run / "results.json").read_text())
            values.setdefault((trained, "original"), []).append(results["metrics"])
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        copy = str(Path(folder) / "val")
        for run in sorted(Path().glob(RUNS.format("body-realistic"))):
            config = load_config(run / "config.yaml", ["anonymization.copy=null"])
            anonymize_dataset(config, DatasetJob(copy, split="val"))  # once, as the seed is the study's
            there = load_config(run / "config.yaml", [f"data.root={copy}", "data.streetscenes=null"])
            metrics = evaluate(there, run / "checkpoints/last.ckpt", None)
            values.setdefault(("generated", "generated"), []).append(metrics)
    lines = [
        f"| training people | validation people | runs | {' | '.join(METRICS.values())} |",
        f"| --- | --- | ---: |{' ---: |' * len(METRICS)}",
    ]
    for (trained, shown), of_runs in values.items():
        columns = [[of_run[metric] for of_run in of_runs] for metric in METRICS]
        cells = [f"{fmean(column):.1f} ± {stdev(column) / len(column) ** 0.5:.1f}" for column in columns]
        lines.append(f"| {trained} | {shown} | {len(of_runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(
        "# Joints of generated bodies",
        "The keypoint detectors that were trained on generated bodies, evaluated on the original validation images and "
        "on the same with generated people in their places, and those that were trained on originals: mean ± standard "
        "error over seeds. Made by `python -m docs.joints`.",
        table(),
        sep="\n\n",
    )
