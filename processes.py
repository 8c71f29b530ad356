"""Which of several processes this one is, as torchrun and SLURM's srun say it, and how many could work here."""

import os

from errors import UserError

# Rank and number of processes. The second is srun's alone: SLURM_NTASKS is there in a batch script too, which is one
# process however many tasks its job has.
STARTERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))


def share() -> tuple[int, int]:
    """Return this process's number and how many there are: which share of the work is this process's.

    Raises:
        UserError: the environment says something impossible.
    """
    for own, all_ in STARTERS:
        if own in os.environ and all_ in os.environ:
            number, count = _number(own), _number(all_)
            if number >= count:
                raise UserError(f"{own}={number} is none of {all_}={count} processes, which are numbered from 0")
            return number, count
    return 0, 1


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _number(name: str) -> int:
    value = os.environ[name]
    if not value.isdecimal():
        raise UserError(f"{name}={value} is no number of a process")
    return int(value)
