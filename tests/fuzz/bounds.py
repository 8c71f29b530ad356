"""What holds for every input: it is read, or refused by the documented error, within some time and memory.

The default run tries a few dozen inputs of each kind, which change with the code alone.
``FUZZ=100 pytest tests/fuzz`` tries a hundred times as many.
"""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from errors import UserError

SECONDS = 20  # of a processor, for one input: more is a hang, not a slow machine
MEMORY = 2 * 2**30  # bytes beyond what the process has


class Hang(BaseException):
    """An input took too long; no ``except Exception`` may take it for a refusal."""


def inputs(count: int) -> settings:
    """Say how many inputs a test tries."""
    return settings(
        max_examples=count * int(os.environ.get("FUZZ", "1")),
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],  # explaining takes many times as long as finding
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def little_memory() -> Iterator[None]:
    """Let the process have `MEMORY` more than now: beyond it there is a MemoryError, which is no refusal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = Path("/proc/self/statm")
    if pages.exists():
        used = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def little_time() -> Iterator[None]:
    """Let what is done take `SECONDS` at most."""

    def stop(*_: object) -> None:
        raise Hang(f"took more than {SECONDS} seconds")

    former = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, former)


def read_or_refuse(read: Callable[[], Any], *names: Path | str) -> Any:
    """Return what is read; None where it is refused by an error that has one of the names in it."""
    with little_time(), little_memory():
        try:
            return read()
        except UserError as error:
            assert any(str(name) in str(error) for name in names), f"'{error}' names none of {names}"
            return None
