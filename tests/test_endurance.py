"""benchmarks/endurance.py: that its short version passes, and that it would not if something were lost."""

import json
import os

import pytest

from benchmarks.endurance import READERS, Reader, Run, Task, check_resumed, contents, differences, main, start


@pytest.mark.slow
@pytest.mark.parametrize("job", ["train", "sweep", "anonymize", "annotate", "draw"])
def test_killed_jobs_end_as_undisturbed_ones(tmp_path, job):
    assert main(["--kills", "2", "--jobs", job, "--output", str(tmp_path / "outcome.json")]) == 0
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert outcome["summary"][job]["kills"] == 2
    assert outcome["summary"][job]["ended_the_same"] == outcome["summary"][job]["ends"] > 0


@pytest.mark.parametrize("suffix", READERS)
def test_half_a_file_is_noticed(tmp_path, suffix):
    (tmp_path / f"file{suffix}").write_bytes(b"{" if suffix in (".json", ".yaml") else b"\x89PNG")
    (tmp_path / f".file{suffix}").write_bytes(b"nobody's to read")
    reader = Reader(tmp_path)
    reader.look()
    assert len(reader.broken) == 1 and reader.broken[0].startswith(str(tmp_path / f"file{suffix}"))
    reader.look()
    assert len(reader.broken) == 1, "once"


# Writes "one", waits where that is new, then writes "two" in two halves.
JOB = """
import pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
if not (folder / "one.json").exists():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"])
    (folder / "one.json").write_text("1")
    time.sleep(100)
(folder / "two.json").write_text("[2")
time.sleep(0.5)
(folder / "two.json").write_text("[2]")
"""


def test_a_careless_job_fails_all_checks(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.endurance.PATIENCE", 0.2)
    script, output = tmp_path / "job.py", tmp_path / "output"
    script.write_text(JOB)
    output.mkdir()
    task = Task(lambda folder: [os.fspath(script), str(folder)], contents)
    killed = start(task, output, 0.1)
    assert killed.killed and len(killed.problems) == 1 and "stays behind" in killed.problems[0]
    ended = start(task, output, None)
    assert not ended.killed and len(ended.problems) == 1 and "two.json: JSONDecodeError" in ended.problems[0]
    assert contents(output).keys() == {"one.json", "two.json"}


def test_where_training_goes_on():
    def run(printed):
        return Run(1, printed, True, [])

    last = run("step 1/9  loss 1\nstep 2/9\nstep 6/9\nstep 7/9\n")
    assert check_resumed(last, run("resuming from last.ckpt\nstep 7/9\n")) == []
    assert check_resumed(last, run("resuming from last.ckpt\nstep 4/9\n")) == ["goes on from step 3 after step 7"]
    assert check_resumed(last, run("step 7/9\n")) == ["does not say that it resumes"]
    assert check_resumed(run("step 3/9\n"), run("step 1/9\n")) == []
    assert check_resumed(last, run("step 1/9\n")) == ["goes on from step 0 after step 7"]


def test_differences_are_named():
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ["b differs", "c differs"]
    assert differences({"a": 1}, {"a": 1}) == []
