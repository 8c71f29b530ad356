"""How a user's mistake ends: one line that names it, exit code 2, no traceback."""

import difflib
import functools
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


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
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            sys.exit(2)
        sys.exit(0)

    return run
