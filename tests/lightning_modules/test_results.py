"""A run's folder belongs to one process at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from errors import UserError
from lightning_modules import results
from lightning_modules.results import hold_run_dir, is_held

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time, pathlib
from lightning_modules.results import hold_run_dir
hold_run_dir(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_folder_is_held_until_its_process_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PATIENCE", 0.3)
    assert not is_held(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    )
    assert process.stdout.readline() == "held\n"
    assert is_held(tmp_path)
    with pytest.raises(UserError, match="is being written by another process that trains this run"):
        hold_run_dir(tmp_path)
    process.kill()
    process.wait()
    assert not is_held(tmp_path)
    hold_run_dir(tmp_path)
