"""All benchmarks one after another: their tables on the terminal, their numbers and the machine in one JSON file.

    python -m benchmarks --output outputs/benchmarks.json

Each is a process of its own; `python -m benchmarks.NAME --help` says what it does. Leave the machine alone meanwhile.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from outputs import write_atomically

ROOT = Path(__file__).parents[1]
BENCHMARKS = (
    "startup",
    "training",
    "decoding",
    "readers",
    "evaluation",
    "anonymization",
    "generators",
    "copies",
    "memory",
)


def machine() -> dict[str, Any]:
    """Describe where the numbers come from."""
    about = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", about.read_text()) if about.exists() else None
    packages = {name: version(name) for name in ("torch", "torchvision", "pytorch-lightning", "faster-coco-eval")}
    cpu = model[1] if model else platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), **packages}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS, help="default: all")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks.json"))
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    # What was measured before and is not measured now stays.
    content = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            print(f"\n== {name}", flush=True)
            numbers = Path(folder) / f"{name}.json"
            command = [sys.executable, "-m", f"benchmarks.{name}", "--output", numbers]
            if subprocess.run(command, cwd=ROOT).returncode:
                failed.append(name)
                continue
            content[name] = json.loads(numbers.read_text()) | {"machine": machine()}
            write_atomically(arguments.output, json.dumps(content, indent=2) + "\n")
    print(f"\n{arguments.output}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
