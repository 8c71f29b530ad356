"""Commits between which a training run's code stays the same count as one."""

import subprocess

import pytest

import reporting.code
from reporting.code import same_code


@pytest.fixture
def commit(tmp_path, monkeypatch):
    """Make commits in a repository of its own: path, content -> name."""
    monkeypatch.setattr(reporting.code, "ROOT", tmp_path)

    def git(*arguments):
        settings = ("-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *settings, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")

    def make(path, content):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
        git("add", path)
        git("commit", "-m", "change")
        return git("rev-parse", "HEAD")

    return make


def test_what_a_run_does_not_execute_does_not_count(commit):
    first = commit("train.py", "1")
    others = [
        commit(path, "1") for path in ("README.md", "reporting/page.py", "report.py", "tests/a.py", "configs/a.yaml")
    ]
    assert same_code([first, *others]) == dict.fromkeys([first, *others], first)


@pytest.mark.parametrize("path", ["train.py", "datamodules/deeper.py", "configs/__init__.py", "weights/a.pt"])
def test_what_a_run_executes_counts(commit, path):
    first, second = commit(path, "1"), commit(path, "2")
    back = commit(path, "1")
    assert same_code([first, second, back]) == {first: first, second: second, back: first}


def test_what_cannot_be_compared_is_itself_alone(commit):
    first = commit("train.py", "1")
    strange = [f"{first}-dirty", "0" * 40, "--output=/dev/null", ""]
    assert same_code([first, *strange]) == {name: name for name in (first, *strange)}
