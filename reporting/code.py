"""Which commits are the same code to a run."""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What a training run executes or starts from; its settings are compared value by value.
PARTS = ("*.py", "weights/", ":!benchmarks", ":!docs", ":!notebooks", ":!reporting", ":!tests")
# Those that do not train.
OTHERS = ("annotate", "anonymize", "audit", "datamodules/check", "evaluate", "executors", "report", "sweep")
PARTS += tuple(f":!{name}.py" for name in OTHERS)


def same_code(commits: Iterable[str]) -> dict[str, str]:
    """Give each commit the first one among them between which and itself no code of a training run has changed.

    A commit that is unknown here, or has ``-dirty`` at its end, is like none but itself.

    Args:
        commits: as `lightning_modules.results.commit` names them.
    """
    firsts: list[str] = []
    known: dict[str, str] = {}
    for commit in dict.fromkeys(commits):
        known[commit] = next((first for first in firsts if _equal(first, commit)), commit)
        if known[commit] == commit:
            firsts.append(commit)
    return known


def _equal(one: str, other: str) -> bool:
    if not all(re.fullmatch("[0-9a-f]{40}", commit) for commit in (one, other)):
        return False
    command = ["git", "-C", str(ROOT), "diff", "--quiet", one, other, "--", *PARTS]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
