"""Run a W&B sweep file on this machine, without a W&B server: each cell of the grid as its own train.py process."""

import argparse
import itertools
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import UserError, script

if TYPE_CHECKING:
    from rich.table import Table

LOGS = Path("outputs") / "logs"


@dataclass
class Cell:
    """One combination of the grid's values."""

    parameters: dict[str, Any]
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    seconds: float = field(default=0.0)

    @property
    def state(self) -> str:
        """Waiting, running, done or failed."""
        if self.process is None:
            return "waiting"
        code = self.process.poll()
        return "running" if code is None else "done" if code == 0 else "failed"

    @property
    def last_line(self) -> str:
        """What the cell said last."""
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        said = [line for line in lines if line.strip() and not line.startswith("wandb:")]
        return said[-1] if said else ""


@script
def main() -> None:
    """Run the cells that are not done yet, ``--jobs`` at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path, help="sweep file, e.g. sweeps/quickstart.yaml")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time; they share the cores (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    arguments = parser.parse_args()
    cells = read_cells(arguments.sweep)
    if arguments.dry_run:
        for cell in cells:
            print(" ".join(cell.command))
        return
    try:
        run(cells, arguments.jobs)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from the last checkpoints")
    failed = [cell for cell in cells if cell.state != "done"]
    for cell in failed:
        print(f"failed: {cell.parameters}: {cell.last_line}; log in {cell.log}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def read_cells(path: Path) -> list[Cell]:
    """Expand a sweep file's grid; the last parameter varies fastest.

    Raises:
        UserError: if it is no grid of flat parameters with a command.
    """
    import yaml

    try:
        sweep = yaml.safe_load(path.read_text())
        names = list(sweep["parameters"])
        values = [p["values"] if "values" in p else [p["value"]] for p in sweep["parameters"].values()]
        command, program, method = sweep["command"], sweep["program"], sweep["method"]
    except FileNotFoundError:
        raise UserError(f"sweep file {path} does not exist") from None
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a sweep file with parameters, method, program and command: {error!r}") from None
    if method != "grid":
        raise UserError(f"{path}: method: '{method}' cannot be run here; use grid")
    cells = []
    for combination in itertools.product(*values):
        parameters = dict(zip(names, combination, strict=True))
        name = "-".join(str(v).replace("/", "-") for v in combination)
        cells.append(Cell(parameters, _command(command, program, parameters), LOGS / path.stem / f"{name}.log"))
    return cells


def _command(template: list[str], program: str, parameters: dict[str, Any]) -> list[str]:
    plain = [f"{name}={value}" for name, value in parameters.items()]
    macros = {
        "${env}": [],
        "${interpreter}": [sys.executable],
        "${program}": [program],
        "${args}": [f"--{argument}" for argument in plain],
        "${args_no_hyphens}": plain,
    }
    return [part for item in template for part in macros.get(item, [item])]


def run(cells: list[Cell], jobs: int) -> None:
    """Run cells, ``jobs`` at a time, and show a live table; a failed one does not stop the others."""
    from rich.live import Live

    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    started: dict[int, float] = {}
    with Live(table(cells), refresh_per_second=1) as live:
        try:
            while any(cell.state in ("waiting", "running") for cell in cells):
                for place, cell in enumerate(cells):
                    if cell.state == "running":
                        cell.seconds = time.monotonic() - started[place]
                    elif cell.state == "waiting" and sum(c.state == "running" for c in cells) < jobs:
                        cell.log.parent.mkdir(parents=True, exist_ok=True)
                        with cell.log.open("wb") as log:
                            cell.process = subprocess.Popen(cell.command, stdout=log, stderr=log, env=environment)
                        started[place] = time.monotonic()
                live.update(table(cells))
                time.sleep(0.5)
            live.update(table(cells))
        finally:
            for cell in cells:
                if cell.state == "running":
                    cell.process.terminate()
                    cell.process.wait()


def table(cells: list[Cell]) -> "Table":
    """Show where each cell is."""
    from rich.table import Table

    shown = Table(expand=True)
    for heading in (*cells[0].parameters, "state", "time"):
        shown.add_column(heading, no_wrap=True)
    shown.add_column("last said", no_wrap=True, ratio=1)  # the one that gives way on a narrow terminal
    for cell in cells:
        clock = time.strftime("%M:%S", time.gmtime(cell.seconds)) if cell.process else ""
        shown.add_row(*map(str, cell.parameters.values()), cell.state, clock, cell.last_line)
    return shown


if __name__ == "__main__":
    main()
