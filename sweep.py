"""Run a W&B sweep file without a W&B server: each cell of the grid as its own train.py process, here or by SLURM."""

import argparse
import contextlib
import re
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from configs.grid import Cell, read_cells
from errors import UserError, script

if TYPE_CHECKING:
    from rich.table import Table

    from configs import Config
    from executors import Executor, Job

ATTEMPTS = 2  # a cell that fails otherwise than by a mistake of the user is tried again once
PATIENCE = 60  # seconds for interrupted cells to end their step, before they are killed
EPILOG = """The settings of all cells are checked before one is started; a cell checks its data itself. Finished cells
are skipped, interrupted ones go on from their last checkpoint. Exit code: 0 all cells are done, 1 some failed, 2 a
mistake in the sweep file or the arguments, 130 interrupted."""


@dataclass
class Progress:
    """How far a cell is."""

    cell: Cell
    run_dir: Path
    log: Path
    job: "Job | None" = None
    said_before: int = 0  # bytes of its log that are of another attempt
    failures: int = 0
    started: float = 0.0
    seconds: float = 0.0
    state: str = "waiting"  # waiting, running, elsewhere (another process trains it), done, failed

    def update(self) -> None:
        """Look at the job, and at what is on disk."""
        from lightning_modules.results import is_held

        if self.job is not None:
            self.seconds = time.monotonic() - self.started
            code = self.job.exit_code()
            if code is None:
                return
            self.job = None
            # Another start of the sweep may have taken the cell while this one's process was on its way.
            if not self._is_done() and not is_held(self.run_dir):
                mistake = code in (0, 2)
                self.failures = ATTEMPTS if mistake else self.failures + 1
        if self._is_done():
            self.state = "done"
        elif self.failures >= ATTEMPTS:
            self.state = "failed"
        else:
            self.state = "elsewhere" if is_held(self.run_dir) else "waiting"

    def start(self, executor: "Executor") -> None:
        """Start the cell."""
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.touch()
        except OSError as error:
            raise UserError(f"output_dir: {self.log} cannot be written: {error}") from None
        self.said_before = self.log.stat().st_size
        self.follow(executor.start(self.cell.command, self.log))

    def follow(self, job: "Job") -> None:
        """Take a job as the cell's."""
        self.job, self.state, self.started = job, "running", time.monotonic()

    @property
    def said(self) -> str:
        """AP of a finished cell, else the last line of this attempt's log that says something."""
        if self.state == "done":
            return _score(self.run_dir)
        if self.state == "waiting" and not self.failures:
            return ""
        text = self.log.read_bytes()[self.said_before :].decode(errors="replace") if self.log.exists() else ""
        lines = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r", "\n").split("\n")
        lines = [line for line in lines if line.strip() and not line.startswith("wandb:")]
        errors = [line for line in lines[-50:] if line.startswith("error: ")]
        said = (errors if self.state == "failed" and errors else lines)[-1:]
        return "".join(said)

    def _is_done(self) -> bool:
        return (self.run_dir / "results.json").exists()


@script
def main() -> None:
    """Run the cells that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG)
    parser.add_argument("sweep", type=Path, help="sweep file, e.g. sweeps/quickstart.yaml")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="of every cell, e.g. data.root=DIR"
    )
    parser.add_argument("--jobs", type=int, help="cells at a time (default: one a GPU, one on a CPU, all by SLURM)")
    parser.add_argument("--dry-run", action="store_true", help="check the cells, print their commands and stop")
    parser.add_argument("--executor", choices=["processes", "slurm"], default="processes")
    slurm = parser.add_argument_group("slurm, for each cell")
    slurm.add_argument("--partition", help="default: the cluster's")
    slurm.add_argument("--minutes", type=int, default=24 * 60, help="time limit; then it goes on in another job")
    slurm.add_argument("--gpus", type=int, default=1, help="default: 1")
    slurm.add_argument("--cpus", type=int, default=8, help="default: 8")
    arguments = parser.parse_intermixed_args()
    if arguments.jobs is not None and arguments.jobs < 1:
        parser.error("--jobs: give at least 1")
    cells = [replace(c, command=[*c.command, *arguments.overrides]) for c in read_cells(arguments.sweep)]
    run_dirs = check(arguments.sweep, cells)
    program = next((item for item in cells[0].command if item.endswith(".py")), None)
    if program is not None and not Path(program).is_file():
        raise UserError(f"{arguments.sweep}: program: {program} does not exist")
    if shutil.which(cells[0].command[0]) is None:
        raise UserError(f"{arguments.sweep}: command: there is no program {cells[0].command[0]} here")
    if arguments.dry_run:
        for cell in cells:
            print(" ".join(cell.command))
        return

    from executors import Processes, Slurm

    if arguments.executor == "slurm":
        executor = Slurm(arguments.jobs, arguments.partition, arguments.minutes, arguments.gpus, arguments.cpus)
    else:
        executor = Processes(arguments.jobs)
    grid = [Progress(c, r, r.parent / "logs" / f"{r.name}.log") for c, r in zip(cells, run_dirs, strict=True)]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        run(grid, executor)
    except KeyboardInterrupt:
        stop(grid)
        print("interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
    for p in grid:
        if p.state != "done":
            print(f"failed: {p.cell.parameters}: {p.said}; log in {p.log}", file=sys.stderr)
    _check_settings(arguments.sweep, cells)  # of those too that another start has done
    done = sum(p.state == "done" for p in grid)
    print(f"{done} of {len(grid)} cells are done; results in {', '.join(sorted({str(r.parent) for r in run_dirs}))}")
    sys.exit(0 if done == len(grid) else 1)


_interrupts: list[int] = []  # the signals that asked to stop


def _interrupt(number: int, frame: Any) -> NoReturn:
    _interrupts.append(number)
    raise KeyboardInterrupt


def check(path: Path, cells: list[Cell]) -> list[Path]:
    """Return the run folders of the cells, after looking at all cells before any is started.

    Of cells that lack something, a generator say, which may still come, a line warns.

    Raises:
        UserError: a cell is no valid run, two cells are the same run, or a folder holds another one.
    """
    from datamodules.layouts import build_datamodule

    run_dirs: dict[Path, Cell] = {}
    lacking: Counter[str] = Counter()
    for cell, config, run_dir in _check_settings(path, cells):
        try:
            if not (run_dir / "results.json").exists():
                build_datamodule(config)
        except UserError as error:
            lacking[str(error)] += 1
        if run_dir in run_dirs:
            raise UserError(
                f"{path}: {_short(cell)} and {_short(run_dirs[run_dir])} both write to {run_dir}; "
                "leave one out, or put what differs into output_dir"
            )
        run_dirs[run_dir] = cell
    for error, count in lacking.items():
        print(f"warning: {count} of {len(cells)} cells will fail: {error}", file=sys.stderr)
    return list(run_dirs)


def _check_settings(path: Path, cells: list[Cell]) -> "list[tuple[Cell, Config, Path]]":
    """List each cell with its config and its run's folder.

    Raises:
        UserError: a cell is no valid run, or its folder holds one with other settings, or a process that trains such.
    """
    from lightning_modules.results import check_run_dir, find_run_dir, is_held
    from train import read_config

    checked = []
    for cell in cells:
        try:
            config = _config(cell, read_config)
            checked.append((cell, config, check_run_dir(config, begun=is_held(find_run_dir(config)))))
        except UserError as error:
            raise UserError(f"{path}: {_short(cell)}: {error}") from None
    return checked


def _config(cell: Cell, read_config: Any) -> "Config":
    from configs import Config

    start = next((i for i, item in enumerate(cell.command) if item.endswith(".py")), len(cell.command))
    config = read_config(cell.command[start + 1 :])
    if not isinstance(config, Config):
        raise UserError("trains a generator; a sweep is of detectors, so give train.py its config by itself")
    return config


def _short(cell: Cell) -> str:
    return " ".join(f"{name}={value}" for name, value in cell.parameters.items())


def run(grid: list[Progress], executor: "Executor") -> None:
    """Run cells, as many at a time as the executor takes, and show them; a failed one does not stop the others."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    for p in grid:
        p.update()
        if p.state == "waiting" and (job := executor.attach(p.cell.command, p.log)):
            p.follow(job)
    shown: dict[int, str] = {}
    with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live:
        while True:
            for p in grid:
                p.update()
            # Those that failed come after those that were never tried.
            for p in sorted((p for p in grid if p.state == "waiting"), key=lambda p: p.failures):
                if sum(q.state == "running" for q in grid) < executor.slots:
                    p.start(executor)
            if console.is_terminal:
                live.update(table(grid, console.height), refresh=True)
            else:
                _print_changes(grid, shown)
            if all(p.state in ("done", "failed") for p in grid):
                return
            time.sleep(0.5)
            if _interrupts:  # while a process was being started, where Python drops the exception
                raise KeyboardInterrupt


def stop(grid: list[Progress]) -> None:
    """Interrupt what runs here, as Ctrl-C does, and kill what does not go."""
    under_way = [p.job for p in grid if p.job is not None]
    for number, patience in ((signal.SIGINT, PATIENCE), (signal.SIGKILL, PATIENCE)):
        under_way = [job for job in under_way if job.send(number)]
        deadline = time.monotonic() + patience
        with contextlib.suppress(KeyboardInterrupt):  # another Ctrl-C: at once
            while under_way and time.monotonic() < deadline:
                under_way = [job for job in under_way if job.exit_code() is None]
                time.sleep(0.1)


def _print_changes(grid: list[Progress], shown: dict[int, str]) -> None:
    """Print a line for each cell that has another state than before: for logs, where a live table would be noise."""
    for place, p in enumerate(grid):
        if shown.get(place) != p.state:
            shown[place] = p.state
            if p.state != "waiting" or p.failures:
                print(f"{_short(p.cell)}: {p.state if p.state != 'waiting' else 'failed once'}  {p.said}", flush=True)


def table(grid: list[Progress], height: int) -> "Table":
    """Show where each cell is; on a low terminal what moves comes first and the rest is counted."""
    from rich.table import Table

    order = ("running", "elsewhere", "failed", "done", "waiting")
    counts = {state: sum(p.state == state for p in grid) for state in order}
    room = max(1, height - 5)
    rows = grid
    if len(grid) > room:
        rows = sorted(grid, key=lambda p: order.index(p.state))[:room]
    shown = Table(expand=True, caption=", ".join(f"{n} {state}" for state, n in counts.items() if n))
    names = list(grid[0].cell.parameters)
    for heading in (*names, "state", "time"):
        shown.add_column(heading, no_wrap=True)
    shown.add_column("", no_wrap=True, ratio=1)  # the one that gives way on a narrow terminal
    colours = {"running": "cyan", "done": "green", "failed": "red"}
    for p in rows:
        hours, minutes = divmod(int(p.seconds) // 60, 60)
        clock = f"{hours}:{minutes:02}:{int(p.seconds) % 60:02}" if p.started else ""
        values = map(str, p.cell.parameters.values())
        shown.add_row(*values, p.state, clock, p.said.strip(), style=colours.get(p.state))
    return shown


def _score(run_dir: Path) -> str:
    import json

    try:
        metrics = json.loads((run_dir / "results.json").read_text())["metrics"]
    except (OSError, ValueError, KeyError):
        return ""
    tasks = [task for task in ("keypoints", "segm", "bbox") if f"val/{task}/AP" in metrics]
    return f"{tasks[0]} AP {metrics[f'val/{tasks[0]}/AP']:.1f}" if tasks else ""


if __name__ == "__main__":
    main()
