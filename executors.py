"""Where the cells of a sweep run: processes of this machine, or jobs of a SLURM cluster."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from errors import UserError
from processes import cores

if TYPE_CHECKING:
    import submitit


class Job(Protocol):
    """A cell under way."""

    def exit_code(self) -> int | None:
        """Return None while it runs or waits in a queue."""

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to it; return False where it is not of this machine and goes on."""


class Executor(Protocol):
    """Starts cells."""

    slots: int  # how many may be under way

    def start(self, command: list[str], log: Path) -> Job:
        """Start a command whose output is added to a log."""

    def attach(self, command: list[str], log: Path) -> Job | None:
        """Find the job that a former start of the sweep left under way, of the same command with the same log."""


class Processes:
    """Processes of this machine: one a GPU, or several that share the CPU's cores.

    Args:
        jobs: how many at a time; None for one a GPU, or one without a GPU.
    """

    def __init__(self, jobs: int | None) -> None:
        import torch

        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible else []
        if len(devices) != torch.cuda.device_count():
            devices = [str(i) for i in range(torch.cuda.device_count())]
        self.slots = jobs or len(devices) or 1
        self._threads = max(1, cores() // self.slots)
        self._free: list[str | None] = [devices[i % len(devices)] if devices else None for i in range(self.slots)]

    def start(self, command: list[str], log: Path) -> "Process":
        """Start a process on a free device."""
        device = self._free.pop(0)
        environment = os.environ | {"OMP_NUM_THREADS": str(self._threads)}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # Ctrl-C comes to sweep.py alone, which passes it on
                preexec_fn=_end_with_parent,
            )
        return Process(process, lambda: self._free.append(device))

    def attach(self, command: list[str], log: Path) -> None:
        """Find none: cells end with the sweep.py that started them."""


def _end_with_parent() -> None:
    """Have the kernel stop this process where its parent is killed (Linux; elsewhere it goes on to its end)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, linux/prctl.h


class Process:
    """A process of this machine."""

    def __init__(self, process: subprocess.Popen[bytes], free: Any) -> None:
        self._process, self._free = process, free

    def exit_code(self) -> int | None:
        """Return the exit code, None while it runs."""
        code = self._process.poll()
        if code is not None and self._free:
            self._free()
            self._free = None
        return code

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to it."""
        self._process.send_signal(number)
        return True


class Slurm:
    """Jobs of a SLURM cluster, through submitit.

    Args:
        jobs: how many at a time; None for all.
        partition: SLURM's; None for the cluster's default.
        minutes: time limit of a cell; one that is out of time is put into the queue again and goes on.
        gpus: of a cell.
        cpus: cores of a cell.

    Raises:
        UserError: submitit is not installed, or there is no SLURM here.
    """

    def __init__(self, jobs: int | None, partition: str | None, minutes: int, gpus: int, cpus: int) -> None:
        try:
            import submitit
        except ModuleNotFoundError:
            raise UserError("--executor slurm: submitit is not installed; pip install 'anonbench[slurm]'") from None
        self.slots = jobs or sys.maxsize
        self._submitit = submitit
        self._options = {
            "timeout_min": minutes,
            "cpus_per_task": cpus,
            **({"gpus_per_node": gpus} if gpus else {}),
            **({"slurm_partition": partition} if partition else {}),
        }
        self._threads = cpus

    def start(self, command: list[str], log: Path) -> "SlurmJob":
        """Submit a job, and keep its number beside the log."""
        folder = log.with_suffix("")
        try:
            executor = self._submitit.AutoExecutor(folder, cluster="slurm")
            executor.update_parameters(name=log.stem, **self._options)
            job = executor.submit(Command(command, log.absolute(), self._threads))
        except (RuntimeError, self._submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            raise UserError(f"--executor slurm: {str(error).strip().splitlines()[-1]}") from None
        (folder / "job").write_text(f"{job.job_id}\n{shlex.join(command)}")
        return SlurmJob(job)

    def attach(self, command: list[str], log: Path) -> "SlurmJob | None":
        """Find the job that the number beside the log is of, where it has not ended."""
        path = log.with_suffix("") / "job"
        if not path.exists():
            return None
        number, _, theirs = path.read_text().partition("\n")
        if theirs != shlex.join(command):  # one with other settings, whose folder is no longer this one's
            return None
        job = SlurmJob(self._submitit.SlurmJob(path.parent, number))
        return job if job.exit_code() is None else None


class Command:
    """What a SLURM job does: a command, started again where the job was preempted or out of time."""

    def __init__(self, command: list[str], log: Path, threads: int) -> None:
        self._command, self._log, self._threads = command, log, threads

    def __call__(self) -> int:
        """Run the command and return its exit code."""
        environment = os.environ | {"OMP_NUM_THREADS": str(self._threads)}
        # The cell is one task, which may start processes for several devices; with this Lightning would await one each.
        environment.pop("SLURM_NTASKS", None)
        with self._log.open("ab") as output:
            return subprocess.call(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """Ask for the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmJob:
    """A job of a SLURM cluster."""

    def __init__(self, job: "submitit.Job[int]") -> None:
        self._job = job

    def exit_code(self) -> int | None:
        """Return the command's exit code, 1 where the job itself failed, None while it waits or runs."""
        if not self._job.done():
            return None
        return 1 if self._job.exception() else self._job.result()

    def send(self, number: signal.Signals) -> bool:
        """Leave it to the cluster: the next start of the sweep finds it."""
        return False
