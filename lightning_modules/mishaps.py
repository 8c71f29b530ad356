"""What can happen to a run from outside: a full disk, a folder that is removed, a worker that is killed.

Each ends the run with one line, and what was finished by then stays.
"""

import errno
import os
import pickle
import re
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# As torch.utils.data says it, of a worker of its own or of one whose end it only sees.
KILLED = re.compile(r"DataLoader worker \(pid\S* .*\) (is killed by signal|exited unexpectedly)")
HANDING_OVER = "multiprocessing/resource_sharer.py"  # passes the memory of a worker's tensors

# Instead of torch's message, which says how to run whatever is in the file.
NO_TENSORS = "it is no file of tensors, and nothing else is unpickled"


@contextmanager
def naming_mishaps(run_dir: Path) -> Iterator[None]:
    """Name what happened to a run from outside; all other errors are bugs and keep their traceback.

    Args:
        run_dir: the run's folder.

    Raises:
        UserError: the disk is full, the folder was removed, or a worker was killed.
    """
    try:
        yield
    except (EOFError, OSError, RuntimeError) as error:
        causes: list[BaseException] = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
            causes.append(cause)
        for cause in causes:
            if isinstance(cause, FileNotFoundError) and _is_gone(run_dir, cause):
                raise UserError(f"output_dir: {run_dir} was removed during the run") from None
            if isinstance(cause, OSError) and cause.errno in FULL:
                raise UserError(
                    f"output_dir: {run_dir} cannot be written: {cause.strerror}; with room there, the same command "
                    "goes on from the last checkpoint"
                ) from None
            if (isinstance(cause, RuntimeError) and KILLED.search(str(cause))) or _is_cut_off(cause):
                # Torch's handler would raise once more, wherever the ending process is by then.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                raise UserError(
                    "a process that loads images was killed (out of memory?); the same command goes on from the last "
                    f"checkpoint in {run_dir}, and needs less memory with a lower data.num_workers"
                ) from None
        raise


def _is_cut_off(error: BaseException) -> bool:
    """Say whether a worker ended while it handed a batch over."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, EOFError | OSError) and any(f.filename.endswith(HANDING_OVER) for f in frames)


def _is_gone(run_dir: Path, error: FileNotFoundError) -> bool:
    names = [Path(str(name)).absolute() for name in (error.filename, error.filename2) if name is not None]
    return not run_dir.is_dir() and any(name.is_relative_to(run_dir.absolute()) for name in names)


class CheckpointIO(TorchCheckpointIO):
    """Writes checkpoints all or nothing, and reads nothing else than tensors and plain values from them.

    Lightning's own writes into the system's folder for temporary files and moves the file: a copy where that is on
    another disk, and a kill or a full disk leaves half of it in place of the last checkpoint.
    """

    def load_checkpoint(self, path: str | Path, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            UserError: it is none, or holds what only code could make of it.
        """
        try:
            return super().load_checkpoint(path, *arguments, **options | {"weights_only": True})
        except pickle.UnpicklingError:
            raise UserError(f"{path} cannot be read as a checkpoint: {NO_TENSORS}") from None
        except (EOFError, OSError, RuntimeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{path} cannot be read as a checkpoint: {reason}") from None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, in a folder that is made where the one around it is there."""
        path = Path(path)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")  # one name: what a killed run leaves is written over
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave the name on an empty file
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
