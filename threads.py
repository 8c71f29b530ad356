"""Keeping small tensor operations on one CPU thread."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's CPU operations in one thread.

    For operations on a person or a box, too small to gain from a second thread. Where other processes keep the cores
    busy, data-loader workers say, each operation would wait for that thread: measured 10 to 30 times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
