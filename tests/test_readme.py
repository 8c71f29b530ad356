"""The README's numbers are those of the committed results."""

from docs.fill_readme import README, fill


def test_every_table_is_made_of_the_results():
    text = README.read_text()
    assert fill(text) == text, "run python -m docs.fill_readme"
