"""The processes of one run end together, and say once why."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch.distributed import DistError

from errors import UserError

STARTER = "ANONBENCH_STARTER"  # environment variable: the number of the process that starts the others of its machine
PATIENCE = 5  # seconds in which a process that failed has ended after its connection was closed


@contextmanager
def together(trainer: Trainer, run_dir: Path) -> Iterator[None]:
    """Do what all processes of a run take part in; where one of them fails, the others end too.

    Those that torchrun or srun started are theirs to end, by a signal. Those that Lightning started are ended here:
    Lightning leaves them to a time limit of the connection, or kills the one that could say what has happened.

    Args:
        trainer: of the run.
        run_dir: its folder, for the message.
    """
    if trainer.world_size == 1:
        yield
        return
    environment = trainer.strategy.cluster_environment
    if isinstance(environment, LightningEnvironment):
        if environment.local_rank() == 0:
            os.environ[STARTER] = str(os.getpid())
        else:
            threading.Thread(target=_end_with_parent, args=(int(os.environ[STARTER]),), daemon=True).start()
    try:
        yield
    except BaseException as error:
        started = list(trainer.strategy.launcher.procs)
        trainer.strategy.launcher.procs.clear()  # or Lightning, which looks every 5 s, would kill this process too
        codes = []
        if not isinstance(error, (UserError, KeyboardInterrupt, SystemExit)):
            codes = _exit_codes(started)
        for process in started:
            process.kill()
            process.wait()
        if 2 in codes:
            sys.exit(2)  # a user's mistake, which that process has named
        if codes or _is_lost_connection(error):
            if trainer.is_global_zero:
                how = f" (exit code {codes[0]})" if codes else ""
                print(
                    f"another process of the run has ended{how}; the same command goes on in {run_dir}", file=sys.stderr
                )
            sys.exit(1)
        raise


def _exit_codes(processes: list[Popen[bytes]]) -> list[int]:
    """Wait a little for one of the processes to end and return the codes of those that failed."""
    deadline = time.monotonic() + PATIENCE
    while processes and time.monotonic() < deadline:
        if codes := [code for process in processes if (code := process.poll())]:
            return codes
        time.sleep(0.1)
    return []


def _is_lost_connection(error: BaseException) -> bool:
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
