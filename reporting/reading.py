"""What its authors read in a study: a text of theirs, whose numbers are filled in from the comparisons."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from errors import UserError, nearest
from reporting.comparison import Comparison

# {streetscenes body/blur AP_person} is a mean, {streetscenes body/blur AP_person change} its difference to original.
PLACE = re.compile(r"\{([^{}]*)\}")


def read_reading(path: Path, comparisons: Sequence[Comparison]) -> list[str]:
    """Give the paragraphs of a text file, which empty lines part, with its numbers filled in.

    Args:
        path: the file. Braces hold the name of a comparison, a condition, a metric as in the table's heading with ``_``
            for a space, and perhaps the word ``change``.
        comparisons: whose numbers they are.

    Raises:
        UserError: the file cannot be read, or asks for a number that is not there.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeError) as error:
        raise UserError(f"--reading: {path} cannot be read: {error}") from None

    def number(match: re.Match[str]) -> str:
        try:
            return _number(match[1].split(), comparisons)
        except UserError as error:
            raise UserError(f"--reading: {path}: {match[0]}: {error}") from None

    return [" ".join(part.split()) for part in PLACE.sub(number, text).split("\n\n") if part.strip()]


def _number(words: list[str], comparisons: Sequence[Comparison]) -> str:
    if len(words) not in (3, 4) or words[3:] not in ([], ["change"]):
        raise UserError("must be {comparison condition metric} or {comparison condition metric change}")
    by_name = {comparison.name: comparison for comparison in comparisons}
    comparison = by_name[_known(words[0], by_name, "comparison")]
    rows = {row.condition: row for row in comparison.rows}
    row = rows[_known(words[1], rows, "condition")]
    cells = {metric.rpartition("/")[2]: cell for metric, cell in row.cells.items()}
    cell = cells[_known(words[2], cells, "metric")]
    if not words[3:]:
        return f"{cell.mean:.1f}"
    if cell.delta is None:
        raise UserError("has no original to compare with")
    return f"{cell.delta:+.1f}"


def _known(word: str, names: Iterable[str], kind: str) -> str:
    if word not in names:
        raise UserError(f"unknown {kind} '{word}'{nearest(word, names)}")
    return word
