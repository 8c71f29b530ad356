"""The README's numbers are those of the committed results."""

from docs.fill_readme import README, fill


def test_every_table_is_made_of_the_results(monkeypatch):
    # A clone without its history cannot compare the commits of runs.
    monkeypatch.setattr("reporting.comparison.same_code", lambda commits: dict.fromkeys(commits, "one"))
    text = README.read_text()
    assert fill(text) == text, "run python -m docs.fill_readme"
