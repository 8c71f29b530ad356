"""Whether a keypoint detector that has learnt from generated bodies finds the joints of such.

`python -m docs.joints > docs/study/joints.md`, after `make study`, whose checkpoints it evaluates.
"""

import contextlib
import json
import sys
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from anonymize import DatasetJob, anonymize_dataset
from configs import load_config
from evaluate import evaluate

RUNS = "outputs/streetscenes_keypoints/streetscenes_keypoints-body-realistic-seed*"
METRICS = {"val/bbox/AP": "box AP", "val/keypoints/AP": "keypoint AP", "val/keypoints/AP50": "keypoint AP50"}


def table() -> str:
    """Evaluate every run on validation images with generated people, beside its results on the original ones."""
    values: dict[str, list[dict[str, float]]] = {"original": [], "generated": []}
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        copy = str(Path(folder) / "val")
        for run in sorted(Path().glob(RUNS)):
            config, checkpoint = (
                load_config(run / "config.yaml", ["anonymization.copy=null"]),
                run / "checkpoints/last.ckpt",
            )
            anonymize_dataset(config, DatasetJob(copy, split="val"))  # once, as the seed is the study's
            values["original"].append(json.loads((run / "results.json").read_text())["metrics"])
            there = load_config(run / "config.yaml", [f"data.root={copy}", "data.streetscenes=null"])
            values["generated"].append(evaluate(there, checkpoint, None))
    lines = [f"| validation people | runs | {' | '.join(METRICS.values())} |", "| --- | --- | ---: | ---: | ---: |"]
    for people, of_runs in values.items():
        means = [f"{fmean(of_run[metric] for of_run in of_runs):.1f}" for metric in METRICS]
        lines.append(f"| {people} | {len(of_runs)} | {' | '.join(means)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(
        "# Joints of generated bodies",
        "The keypoint detectors that were trained on generated bodies, evaluated on the original validation images and "
        "on the same with generated people in their places. Made by `python -m docs.joints`.",
        table(),
        sep="\n\n",
    )
