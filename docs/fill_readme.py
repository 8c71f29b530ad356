"""Put the README's tables between their marks: `python -m docs.fill_readme` after the numbers in docs changed.

A mark names a folder of results and the columns, ``<!-- table docs/study/quickstart AP AP50 AP_person -->``, or the
JSON file of `make bench`, ``<!-- speed docs/benchmarks.json -->``.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

from docs.speed import speed_table
from reporting.comparison import compare
from reporting.results import collect
from reporting.tables import as_markdown

README = Path(__file__).parents[1] / "README.md"
MARK = re.compile(r"(<!-- table (\S+) ([^>]*) -->\n).*?(<!-- /table -->)", re.DOTALL)

SPEED = re.compile(r"(<!-- speed (\S+) -->\n).*?(<!-- /speed -->)", re.DOTALL)


def fill(text: str) -> str:
    """Return the README's text with its tables made anew."""
    text = MARK.sub(lambda match: match[1] + _table(Path(match[2]), match[3].split()) + match[4], text)
    return SPEED.sub(lambda m: m[1] + speed_table(json.loads((README.parent / m[2]).read_text())) + m[3], text)


def _table(folder: Path, columns: list[str]) -> str:
    runs, _ = collect([README.parent / folder])
    (comparison,) = compare(runs)
    metrics = [metric for metric in comparison.metrics if metric.rpartition("/")[2] in columns]
    _, _, table = as_markdown(replace(comparison, metrics=metrics)).partition("\n\n")  # without its title
    return table


if __name__ == "__main__":
    README.write_text(fill(README.read_text()))
