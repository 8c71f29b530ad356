"""How long the commands take to start: every ``--help``, and train.py from its call to its first step.

    python -m benchmarks.startup

train.py runs on small drawn street scenes that are there already, twice: with and without the index of their
annotations. Its imports are timed by themselves. Times are medians, in seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from outputs import write_atomically

ROOT = Path(__file__).parents[1]
SCRIPTS = ("train", "evaluate", "sweep", "report", "annotate", "anonymize", "audit")
IMPORTS = "import torch, torchvision, pytorch_lightning, torchmetrics, albumentations, wandb, faster_coco_eval"
TRAIN = ("train.py", "--config", "configs/quickstart.yaml", "trainer.log_every_n_steps=1", "wandb.mode=disabled")


def seconds_of(*arguments: str) -> float:
    """Wall-clock seconds of a Python process to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - start


def seconds_to_first_step(*arguments: str) -> float:
    """Wall-clock seconds until train.py prints its first step; it is ended then."""
    start = time.perf_counter()
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, *TRAIN, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("step 1/"):
            break
    else:
        raise RuntimeError("train.py ended before its first step")
    elapsed = time.perf_counter() - start
    process.kill()
    process.wait()
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {f"{name}.py --help": [] for name in SCRIPTS}
    times |= {"imports of train.py": [], "train.py to its first step": [], "the same, annotations not indexed": []}
    with tempfile.TemporaryDirectory() as folder:
        data = f"data.root={folder}/streetscenes"
        seconds_to_first_step(data, f"output_dir={folder}/first", f"data.index_dir={folder}/index")  # draws
        for place in range(arguments.rounds):
            for name in SCRIPTS:
                times[f"{name}.py --help"].append(seconds_of(f"{name}.py", "--help"))
            times["imports of train.py"].append(seconds_of("-c", IMPORTS))
            index = f"data.index_dir={folder}/index"
            own = f"output_dir={folder}/{place}"
            times["train.py to its first step"].append(seconds_to_first_step(data, index, own))
            unread = f"data.index_dir={folder}/index{place}"
            times["the same, annotations not indexed"].append(seconds_to_first_step(data, unread, f"{own}unread"))
    medians = {name: statistics.median(values) for name, values in times.items()}
    table = Table("", box=None)
    table.add_column("s", justify="right")
    for name, value in medians.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
    if arguments.output:
        write_atomically(arguments.output, json.dumps({"seconds": medians}, indent=2) + "\n")


if __name__ == "__main__":
    main()
