"""Time and peak memory of whole `anonymize.py` runs, which write copies of a drawn dataset.

    python -m benchmarks.copies --output copies.json

Every run starts anew on the same scenes. Its time has the start-up and the index of the annotations in it; the peak is
the most resident memory that one of its processes, of which there is one for each of --workers, had at once, and that
all had together. Pages that processes share count once for each of them. Ratios are to body/blur.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from datamodules.streetscenes import write
from outputs import write_atomically

ROOT = Path(__file__).parents[1]
CONDITIONS = ("body/blur", "body/mask_out", "body/realistic", "body/realistic_hm", "body/realistic_hm_lo", "face/blur")
INTERVAL = 0.02  # seconds between two looks at the memory


def resident(process: psutil.Process) -> float:
    """Megabytes, of a process that may have ended."""
    try:
        return process.memory_info().rss / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def measure(command: list[str]) -> dict[str, float]:
    """Seconds of a command, and the peak memory (MB) of its largest process and of all together."""
    largest = together = 0.0
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                sizes = [resident(p) for p in (root, *root.children(recursive=True))]
            except psutil.NoSuchProcess:
                break
            largest, together = max(largest, *sizes), max(together, sum(sizes))
            time.sleep(INTERVAL)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return {"seconds": time.perf_counter() - start, "largest_mb": largest, "together_mb": together}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()

    table = Table("condition", box=None)
    for column in ("s", "ratio", "MB, largest process", "MB, together"):
        table.add_column(column, justify="right")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = write("cityscapes", Path(folder) / "data", train=arguments.images, val=1, size=tuple(arguments.size))
        for condition in CONDITIONS:
            command = [sys.executable, "anonymize.py", "--config", "configs/quickstart.yaml", f"condition={condition}"]
            command += [f"data.root={root}", "data.streetscenes=null", f"data.index_dir={folder}/index"]
            command += [f"output={folder}/{condition}", f"workers={arguments.workers}"]
            row = {"condition": condition} | measure(command)
            rows.append(row)
            numbers = (f"{row['seconds']:.1f}", f"{row['seconds'] / rows[0]['seconds']:.2f}")
            table.add_row(condition, *numbers, f"{row['largest_mb']:.0f}", f"{row['together_mb']:.0f}")
    Console(width=100).print(table)
    if arguments.output:
        about = {"images": arguments.images, "size": list(arguments.size), "workers": arguments.workers}
        write_atomically(arguments.output, json.dumps({**about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
