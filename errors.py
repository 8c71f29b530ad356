"""How a user's mistake ends: one line that names it, exit code 2, no traceback."""

import difflib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

# A process's number in torchrun, Lightning (local and node) and SLURM. The processes of a run mostly make the same
# mistake: the others let the first one say it, whose end ends them.
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
GRACE = 3  # seconds


class UserError(ValueError):
    """Something the user can mend: its message names the file, key and value and what would be right."""


def nearest(value: str, choices: Iterable[str]) -> str:
    """Return ", did you mean X?" with the choice nearest to ``value``, or the choices where none is near."""
    choices = sorted(choices)
    match = difflib.get_close_matches(value, choices, n=1)
    return f", did you mean '{match[0]}'?" if match else f"; choose from {', '.join(choices)}"


def script(main: Callable[[], None]) -> Callable[[], NoReturn]:
    """Make ``main`` a script's entry point: `UserError` prints as one line on stderr and exits with 2."""

    @functools.wraps(main)
    def run() -> NoReturn:
        try:
            main()
        except UserError as error:
            if any(os.environ.get(name, "0") != "0" for name in RANKS):
                time.sleep(GRACE)
            # torch passes on what a worker process raised with its traceback, at whose end the message stands.
            message = str(error).rpartition(f"{UserError.__module__}.{UserError.__name__}: ")[2]
            print(f"error: {' '.join(message.split())}", file=sys.stderr)
            sys.exit(2)
        sys.exit(0)

    return run
