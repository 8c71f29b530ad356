"""Whether anything is lost when a job is killed: SIGKILL at random moments, and what the restarts end with.

    python -m benchmarks.endurance --kills 30 --seed 0

Training, a sweep of two cells, an anonymized copy, face annotation and the drawing of StreetScenes each run undisturbed
once. Then they are killed between their first written file and the time they took until their end, and started again,
some several times, until they end: with the same numbers, weights and files, bit for bit. All the while a thread reads
what they write and must never find half a file. Nothing that a killed job has started may stay behind, and training
has to go on from at most an epoch before the last step that it printed. Exit code: 0 if all of this holds, else 1.
"""

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
import yaml
from PIL import Image
from safetensors import safe_open

from datamodules.streetscenes import write
from outputs import write_atomically

ROOT = Path(__file__).parents[1]
EPOCH = 3  # steps
PATIENCE = 30  # seconds for what a killed job has started to end
LIMIT = 600  # seconds for a job
TRAINING = [
    "data.streetscenes=null",
    "data.batch_size=2",
    "data.num_workers=0",
    "model.weights=null",
    "model.min_size=[64]",
    "model.max_size=128",
    "trainer.max_steps=15",
    f"trainer.limit_train_batches={EPOCH}",
    "trainer.limit_val_batches=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=true",
    "wandb.mode=disabled",
    "condition=body/blur",
]


def load_image(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def load_arrays(path: Path) -> None:
    with np.load(path) as arrays:
        for name in arrays:
            _ = arrays[name]


def load_tensors(path: Path) -> None:
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118, it is no mapping
            file.get_tensor(name)


def load_yaml(path: Path) -> None:
    if not yaml.safe_load(path.read_text()):
        raise ValueError("is empty")


READERS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: json.loads(path.read_bytes()),
    ".png": load_image,
    ".ckpt": lambda path: torch.load(path, weights_only=True),
    ".npz": load_arrays,
    ".safetensors": load_tensors,
    ".yaml": load_yaml,
}


class Reader(threading.Thread):
    """Reads every file of a folder whenever it has changed; names that begin with a dot are nobody's to read.

    Attributes:
        broken: the files that could not be read, and why.
        read: how many times one could.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.broken: list[str] = []
        self.read = 0
        self._seen: dict[Path, tuple[int, int, int]] = {}
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.01):
            self.look()

    def stop(self) -> None:
        """Look for the last time, at what is left."""
        self._end.set()
        self.join()
        self.look()

    def look(self) -> None:
        for path in files(self.folder):
            try:
                status = path.stat()
                stamp = status.st_ino, status.st_mtime_ns, status.st_size
                if path.suffix not in READERS or self._seen.get(path) == stamp:
                    continue
                READERS[path.suffix](path)
            except FileNotFoundError:  # of this moment
                continue
            except Exception as error:  # whatever a reader of the format says
                self.broken.append(f"{path}: {error!r}")
            else:
                self.read += 1
            self._seen[path] = stamp


def files(folder: Path) -> list[Path]:
    """The files of a folder that others may read."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        found += [path for path in paths if not path.is_symlink()]
    return sorted(found)


def contents(folder: Path) -> dict[str, str]:
    """Every file's digest."""
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files(folder)}


def numbers(folder: Path) -> dict[str, Any]:
    """What the runs in a folder ended with, and their weights' digests."""
    ends = {}
    for path in sorted(folder.rglob("results.json")):
        results = json.loads(path.read_bytes())
        ends |= {
            f"{path.parent.name}: {key}": results[key] for key in ("metrics", "best", "steps", "anonymized_regions")
        }
        for name in ("last", "best"):
            digest = hashlib.sha256()
            weights = torch.load(path.parent / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
            for key, value in weights.items():
                digest.update(key.encode() + value.numpy().tobytes())
            ends[f"{path.parent.name}: {name}.ckpt"] = digest.hexdigest()
    return ends


class Task(NamedTuple):
    """A kind of job: its command and what it ends with, both of its output folder."""

    command: Callable[[Path], list[str]]
    end: Callable[[Path], dict[str, Any]]


def tasks(folder: Path) -> dict[str, Task]:
    """The kinds of jobs, on images that are drawn into a folder."""
    data = write("cityscapes", folder / "data", train=120, val=8, size=(64, 128), workers=1)
    config = ["--config", str(ROOT / "configs" / "quickstart.yaml")]
    reading = [f"data.root={data}", "data.streetscenes=null", f"data.index_dir={folder / 'index'}"]
    training = [*TRAINING, *reading]

    def sweep(output: Path) -> list[str]:
        path = folder / "sweeps" / f"{output.name}.yaml"
        path.parent.mkdir(exist_ok=True)
        command = ["${interpreter}", "${program}", *config, *training, f"output_dir={output}"]
        command += [f"trainer.max_steps={2 * EPOCH}", "${args_no_hyphens}"]
        content = {"program": str(ROOT / "train.py"), "method": "grid", "command": command}
        path.write_text(yaml.safe_dump(content | {"parameters": {"seed": {"values": [1, 2]}}}))
        return ["sweep.py", str(path)]

    copying = ["anonymize.py", *config, *reading, "condition=body/blur", "workers=1"]
    finding = ["annotate.py", *config, *reading, f"faces.detector={data / 'face_boxes_train.json'}", "workers=1"]
    drawing = ["-m", "datamodules.streetscenes", "--layout", "coco", "--train", "60", "--val", "4", "--size", "64x128"]
    return {
        "train": Task(lambda output: ["train.py", *config, *training, f"output_dir={output}"], numbers),
        "sweep": Task(sweep, numbers),
        "anonymize": Task(lambda output: [*copying, f"output={output / 'copy'}"], contents),
        "annotate": Task(lambda output: [*finding, f"output={output / 'faces.json'}"], contents),
        "draw": Task(lambda output: [*drawing, "--workers", "2", "--output", str(output / "set")], contents),
    }


@dataclass
class Run:
    """One start of a job.

    Attributes:
        seconds: from the first sign of work to the end.
        printed: standard output.
        killed: whether it was, before it ended by itself.
        problems: what was wrong.
    """

    seconds: float
    printed: str
    killed: bool
    problems: list[str]


def start(task: Task, output: Path, kill_after: float | None) -> Run:
    """Start a job, kill it some seconds after it has written something new, or leave it alone."""
    program, *arguments = task.command(output)
    command = [sys.executable, program if program == "-m" else str(ROOT / program), *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    reader, problems, killed = Reader(output), [], False
    before = _newest(output)
    reader.start()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=output.parent, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        while process.poll() is None and _newest(output) == before:
            time.sleep(0.01)
        begun = time.monotonic()
        try:
            process.wait(LIMIT if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
            seconds = time.monotonic() - begun
            killed = kill_after is not None
            problems += [f"process {child.pid} stays behind" for child in _staying(children)]
            if not killed:
                problems.append(f"has not ended after {LIMIT} s")
        else:
            seconds = time.monotonic() - begun
        log.seek(0)
        printed = log.read()
    reader.stop()
    problems += reader.broken
    if not killed and process.returncode:
        problems.append(f"exit code {process.returncode}: {printed[-2000:]}")
    return Run(seconds, printed, killed, problems)


def _newest(folder: Path) -> int:
    """When something in a folder was last written, what has a dot included."""
    stamps = [0]
    for path in folder.rglob("*"):
        try:
            stamps.append(path.lstat().st_mtime_ns)
        except FileNotFoundError:
            continue
    return max(stamps)


def _staying(processes: list[psutil.Process]) -> list[psutil.Process]:
    deadline, left = time.monotonic() + PATIENCE, processes
    while left and time.monotonic() < deadline:
        left = [process for process in left if _lives(process)]
        time.sleep(0.05)
    for process in left:
        process.kill()
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def steps(printed: str) -> list[int]:
    """The steps that training has printed."""
    return [int(step) for step in re.findall(r"^step (\d+)/", printed, re.MULTILINE)]


def check_resumed(last: Run, run: Run) -> list[str]:
    """What is wrong with where a training goes on that was killed in its last run."""
    before, after = steps(last.printed), steps(run.printed)
    if not before or not after:
        return []
    gone_on = after[0] - 1
    problems = [f"goes on from step {gone_on} after step {before[-1]}"] if gone_on < before[-1] - EPOCH else []
    if gone_on and "resuming from" not in run.printed:
        problems.append("does not say that it resumes")
    return problems


def differences(expected: dict[str, Any], end: dict[str, Any]) -> list[str]:
    """What a job ended with otherwise than the undisturbed one."""
    return [f"{key} differs" for key in sorted(expected.keys() | end.keys()) if expected.get(key) != end.get(key)]


def endure(folder: Path, names: list[str], kills: int, rng: random.Random) -> list[dict[str, Any]]:
    """Run the jobs, kill them so many times in all, and return a row for each start after the undisturbed ones."""
    available = tasks(folder)
    rows, references = [], {}
    for name in names:
        output = folder / f"{name}-undisturbed"
        output.mkdir()
        run = start(available[name], output, None)
        if run.problems:
            sys.exit(f"{name}, undisturbed: {'; '.join(run.problems)}")
        references[name] = run.seconds, available[name].end(output)
        print(f"{name} undisturbed: {run.seconds:.1f} s after its first file", flush=True)

    done = 0
    for number in range(10 * kills):
        if done >= kills:
            break
        name = names[number % len(names)]
        duration, expected = references[name]
        output = folder / f"{name}-{number}"
        output.mkdir()
        last, intended = None, rng.choice([1, 2, 3])
        while last is None or last.killed:
            moment = rng.uniform(0, duration) if intended and done < kills else None
            intended -= moment is not None
            run = start(available[name], output, moment)
            problems = run.problems
            if name == "train" and last is not None:
                problems += check_resumed(last, run)
            if not run.killed:
                problems += differences(expected, available[name].end(output))
                if last is None:  # too quick to be killed: the machine is less busy now
                    references[name] = run.seconds, expected
            done += run.killed
            what = f"kill {done:3} after {run.seconds:5.1f} s" if run.killed else "ended as undisturbed"
            print(f"{output.name:16} {what}{'; '.join(['', *problems])}", flush=True)
            rows.append({"job": name, "number": number, "killed": run.killed, "problems": problems})
            rows[-1]["seconds"] = round(run.seconds, 2)
            last = run
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["train", "sweep", "anonymize", "annotate", "draw"]
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", nargs="+", choices=names, default=names)
    parser.add_argument("--output", type=Path, help="JSON file for the outcome")
    parsed = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = endure(Path(folder), parsed.jobs, parsed.kills, random.Random(parsed.seed))
    print(f"\n{'':12}{'kills':>8}{'ended the same':>16}{'problems':>10}")
    summary = {}
    for name in parsed.jobs:
        own = [row for row in rows if row["job"] == name]
        counts = Counter("kills" if row["killed"] else "ends" for row in own)
        ended = sum(not row["killed"] and not row["problems"] for row in own)
        problems = sum(len(row["problems"]) for row in own)
        summary[name] = {
            "kills": counts["kills"],
            "ended_the_same": ended,
            "ends": counts["ends"],
            "problems": problems,
        }
        print(f"{name:12}{counts['kills']:8}{ended:9} of {counts['ends']:3}{problems:10}")
    if parsed.output:
        content = {"seed": parsed.seed, "summary": summary, "starts": rows}
        write_atomically(parsed.output, json.dumps(content, indent=2) + "\n")
    return int(any(row["problems"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
