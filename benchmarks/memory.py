"""Whether training grows: the resident memory of train.py and of its workers over steps and epochs.

    python -m benchmarks.memory

The quickstart's model trains on small drawn scenes for many steps and epochs, with validation after each epoch and two
workers that are made anew for each epoch. Memory is read at the end of every epoch, after a warm-up of a quarter of
them; the growth is the slope of a straight line through the readings.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from datamodules.streetscenes import write
from outputs import write_atomically

ROOT = Path(__file__).parents[1]
BATCH = 2

# glibc's allocator keeps freed memory in an arena a thread. With its own settings and two threads a run drifted upward
# by 1.36 MB an epoch; with one arena, given back at once, and one thread by 0.06: so these readings are what is held.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "0"}


def watch(process: subprocess.Popen[str], epoch_steps: int) -> tuple[list[float], list[float]]:
    """Megabytes of train.py at the end of each epoch, and the most that one of its workers had until then."""
    own, workers, peak = [], [], 0.0
    training = psutil.Process(process.pid)
    for line in process.stdout:
        for child in training.children():
            try:
                peak = max(peak, child.memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                continue
        if (step := re.match(r"step (\d+)/", line)) and int(step[1]) % epoch_steps == 0:
            own.append(training.memory_info().rss / 1e6)
            workers.append(peak)
            peak = 0.0
    return own, workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()
    epoch_steps = arguments.steps // arguments.epochs
    with tempfile.TemporaryDirectory() as folder:
        root = write("cityscapes", Path(folder) / "data", train=epoch_steps * BATCH, val=20, size=(96, 192), workers=1)
        overrides = [f"data.root={root}", "data.streetscenes=null", f"output_dir={folder}", "wandb.mode=disabled"]
        overrides += [f"data.batch_size={BATCH}", "data.num_workers=2", f"data.index_dir={folder}/index"]
        overrides += [f"trainer.max_steps={arguments.steps}", "trainer.check_val_every_n_epoch=1"]
        overrides += ["trainer.log_every_n_steps=5", "model.min_size=[96]", "model.max_size=192"]
        overrides += ["condition=body/blur"]
        command = [sys.executable, "-u", "train.py", "--config", "configs/quickstart.yaml", *overrides]
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | ALLOCATOR, stdout=subprocess.PIPE, text=True)
        own, workers = watch(process, epoch_steps)
        if process.wait():
            sys.exit("train.py failed")
    rows = {}
    print(f"{arguments.steps} steps, {len(own)} epochs, {time.monotonic() - start:.0f} s\n")
    print(f"{'MB':24}{'first':>10}{'quarter':>10}{'half':>10}{'last':>10}{'growth':>10}  of an epoch, after a quarter")
    for name, values in (("train.py", own), ("its largest worker", workers)):
        late = values[len(values) // 4 :]
        growth = float(np.polyfit(range(len(late)), late, 1)[0])
        shown = [values[0], late[0], values[len(values) // 2], values[-1]]
        print(f"{name:24}" + "".join(f"{value:10.1f}" for value in shown) + f"{growth:10.2f}")
        rows[name] = {"megabytes": values, "growth_an_epoch": growth}
    if arguments.output:
        write_atomically(arguments.output, json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
