"""What its authors read in a study: a text of theirs, its numbers filled in from the comparisons and the paper."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from errors import UserError, nearest
from reporting.comparison import Cell, Comparison
from reporting.paper import PaperCell, paper_tables
from reporting.tables import headings

# {streetscenes body/blur AP_person} is a mean, {streetscenes body/blur AP_person change} its difference to original,
# with the word cost instead the same with the other sign; {table_1 body/blur AP_person} is the paper's.
PLACE = re.compile(r"\{([^{}]*)\}")


def read_reading(path: Path, comparisons: Sequence[Comparison]) -> list[str]:
    """Give the paragraphs of a text file, which empty lines part, with its numbers filled in.

    Args:
        path: the file. Braces hold the name of a comparison, or ``table_1`` to ``table_5`` of the paper, a condition, a
            metric as in the table's heading with ``_`` for a space, and perhaps the word ``change`` or ``cost``.
        comparisons: whose numbers they are.

    Raises:
        UserError: the file cannot be read, or asks for a number that is not there.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeError) as error:
        raise UserError(f"--reading: {path} cannot be read: {error}") from None

    tables = {c.name: {row.condition: row.cells for row in c.rows} for c in comparisons}
    tables |= {f"table_{table.number}": table.rows for table in paper_tables()}

    def number(match: re.Match[str]) -> str:
        try:
            return _number(match[1].split(), tables)
        except UserError as error:
            raise UserError(f"--reading: {path}: {match[0]}: {error}") from None

    return [" ".join(part.split()) for part in PLACE.sub(number, text).split("\n\n") if part.strip()]


def _number(words: list[str], tables: Mapping[str, Mapping[str, Mapping[str, Cell | PaperCell]]]) -> str:
    if len(words) not in (3, 4) or words[3:] not in ([], ["change"], ["cost"]):
        raise UserError("must be {comparison condition metric}, with the word change or cost behind it or without")
    rows = tables[_known(words[0], tables, "comparison")]
    cells = rows[_known(words[1], rows, "condition")]
    by_name = {name.replace(" ", "_"): cell for name, cell in zip(headings(list(cells)), cells.values(), strict=True)}
    cell = by_name[_known(words[2], by_name, "metric")]
    if not words[3:]:
        return f"{cell.mean:.1f}"
    if cell.delta is None:
        raise UserError("has no original to compare with")
    return f"{cell.delta:+z.1f}" if words[3] == "change" else f"{-cell.delta:z.1f}"


def _known(word: str, names: Iterable[str], kind: str) -> str:
    if word not in names:
        raise UserError(f"unknown {kind} '{word}'{nearest(word, names)}")
    return word
