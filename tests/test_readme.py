"""The README's numbers are those of the committed results, and its commands are there."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from configs import load_config
from docs.fill_readme import README, fill

ROOT = Path(__file__).parents[1]


def test_every_table_is_made_of_the_results(monkeypatch):
    # A clone without its history cannot compare the commits of runs.
    monkeypatch.setattr("reporting.comparison.same_code", lambda commits: dict.fromkeys(commits, "one"))
    text = README.read_text()
    assert fill(text) == text, "run python -m docs.fill_readme"


def commands():
    """The lines of the README's blocks, without comments; a line may have several commands."""
    for block in re.findall(r"(?s)```\n(.*?)```", README.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            yield from (shlex.split(command, comments=True) for command in line.split("&&"))


def options(words):
    return {word for word in words if word.startswith("--") and "=" not in word}


PYTHON = [words for words in commands() if words[:1] in (["python"], [".venv/bin/python"])]


@pytest.mark.parametrize("words", PYTHON, ids=" ".join)
def test_a_command_has_its_script_its_files_and_its_settings(words):
    _, *rest = words
    if rest[0] == "-m":
        found = importlib.util.find_spec(rest[1])
        source = Path(found.origin)
        if found.submodule_search_locations:  # a package
            source = source.with_name("__main__.py")
        rest = rest[1:]
    else:
        source = ROOT / rest[0]
    text = source.read_text()
    for option in options(rest):
        assert f'"{option}"' in text, f"{source.name} takes no {option}"
    for word in rest:
        if re.fullmatch(r"(configs|sweeps|weights)/.*", word):
            assert (ROOT / word).is_file()
    if "--config" in rest and rest[0] != "evaluate.py":
        config = rest[rest.index("--config") + 1]
        keys = [word for word in rest if re.match(r"[a-z_.]+=", word)]
        load_config(ROOT / config, [k for k in keys if not k.startswith(("output=", "audit="))])


def test_make_has_the_targets():
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    named = {words[1] for words in commands() if words[:1] == ["make"]}
    named |= set(re.findall(r"`make ([a-z-]+)`", README.read_text()))
    assert {"quickstart", "test", "study", "bench"} <= named <= targets
