"""Work in processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datamodules.pool import process_map
from errors import UserError

ROOT = Path(__file__).parents[2]


def square(x):
    if x == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), int(x) ** 2


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order(workers):
    pids, results = zip(*process_map(square, range(20), workers, "squaring"), strict=True)
    assert list(results) == [x**2 for x in range(20)]
    assert (os.getpid() in pids) == (workers == 0)
    assert list(process_map(square, [], workers, "squaring")) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_ends_the_work(workers):
    with pytest.raises(ValueError, match="invalid literal"):
        list(process_map(square, ["1", "x"], workers, "squaring"))


def test_a_killed_worker_is_a_users_error():
    with pytest.raises(UserError, match="a worker process was killed"):
        list(process_map(square, ["die"], 1, "squaring"))


PROGRAM = """
import os, sys, time
from datamodules.pool import process_map
def work(x):
    print(os.getpid(), flush=True)
    time.sleep(60)
if __name__ == "__main__":
    list(process_map(work, range(4), 2, "sleeping"))
"""


def test_workers_end_with_a_killed_parent(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, env=environment)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.stdout.close()
    parent.wait()
