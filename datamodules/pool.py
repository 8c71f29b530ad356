"""One function on many items in worker processes, with its progress."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import cv2
import torch

from errors import UserError
from threads import one_thread

Item, Result = TypeVar("Item"), TypeVar("Result")
_function: Callable[[Any], Any]  # a worker's own


def process_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, description: str
) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of the items and show how far it is.

    Args:
        function: picklable; sent to each worker once. What it raises ends the iteration.
        items: picklable.
        workers: processes, each of one thread; they end with this one, however it ends. 0: none, work here.
        description: what is being done, in words.

    Raises:
        UserError: a worker was killed.
    """
    if not workers:
        with one_thread():
            yield from _progress(map(function, items), len(items), description)
        return
    # Spawned, because a forked child of a process with running threads or CUDA does not work.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max(1, min(workers, len(items))), context, _start, (function,))
    try:
        results = pool.map(_call, items, chunksize=1 + len(items) // 10_000)
        yield from _progress(results, len(items), description)
    except BrokenProcessPool:
        raise UserError("a worker process was killed (out of memory? fewer workers need less)") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _end_with_parent() -> None:
    # A killed parent tells its workers nothing: they would wait for work for ever.
    multiprocessing.parent_process().join()
    os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)


def _progress(results: Iterable[Result], total: int, description: str) -> Iterator[Result]:
    """A bar on a terminal, a line every tenth of the way in a log."""
    if sys.stdout.isatty():
        from rich.progress import track

        yield from track(results, description, total)
        return
    for number, result in enumerate(results, start=1):
        yield result
        if number * 10 // total > (number - 1) * 10 // total:
            print(f"{description}: {number}/{total}", flush=True)
