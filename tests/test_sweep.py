"""The real sweep.py on small programs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from configs import load_config
from errors import UserError
from sweep import read_cells

ROOT = Path(__file__).parent.parent
PROGRAM = """
import pathlib, sys, time
values = dict(a.removeprefix("--").split("=") for a in sys.argv[1:])
time.sleep(0.3)
pathlib.Path(f"{values['condition']}-{values['seed']}").write_text("done")
print("said", values["condition"])
sys.exit(values["condition"] == "bad")
"""


def write(folder, conditions, arguments="${args}"):
    (folder / "program.py").write_text(PROGRAM)
    sweep = {
        "program": "program.py",
        "method": "grid",
        "parameters": {"condition": {"values": conditions}, "seed": {"value": 3}},
        "command": ["${env}", "${interpreter}", "${program}", arguments],
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    return folder / "sweep.yaml"


def sweep(folder, *arguments):
    command = [sys.executable, ROOT / "sweep.py", "sweep.yaml", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", ["${args}", "${args_no_hyphens}"])
def test_every_cell_runs(tmp_path, arguments):
    write(tmp_path, ["a", "b", "c"], arguments)
    process = sweep(tmp_path, "--jobs", "2")
    assert process.returncode == 0, process.stderr
    assert all((tmp_path / f"{c}-3").read_text() == "done" for c in "abc")


def test_a_failed_cell_does_not_stop_the_others(tmp_path):
    write(tmp_path, ["bad", "good"])
    process = sweep(tmp_path)
    assert process.returncode == 1
    assert "failed: {'condition': 'bad', 'seed': 3}: said bad; log in" in process.stderr
    assert (tmp_path / "good-3").exists()


def test_dry_run_only_prints(tmp_path):
    write(tmp_path, ["a", "b"])
    process = sweep(tmp_path, "--dry-run")
    assert [line.split()[-2:] for line in process.stdout.splitlines()] == [
        ["--condition=a", "--seed=3"],
        ["--condition=b", "--seed=3"],
    ]
    assert not (tmp_path / "a-3").exists()


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml does not exist"):
        read_cells(tmp_path / "nowhere.yaml")
    path = write(tmp_path, ["a"])
    path.write_text(path.read_text().replace("method: grid", "method: random"))
    with pytest.raises(UserError, match="method: 'random' cannot be run here"):
        read_cells(path)
    path.write_text("parameters: [1]")
    with pytest.raises(UserError, match="not a sweep file"):
        read_cells(path)


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_cell_is_a_config(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = read_cells(path)
    assert len({tuple(c.parameters.items()) for c in cells}) == len(cells)
    for cell in cells:
        _, program, flag, config, *overrides = cell.command
        assert (program, flag) == ("train.py", "--config")
        load_config(config, overrides)
