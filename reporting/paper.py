"""The numbers that the paper printed: ``paper.json``, from the supplementary tables 1-5 of arXiv:2306.05135."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple


class PaperCell(NamedTuple):
    """One printed cell, in AP percent."""

    mean: float
    stderr: float
    delta: float | None  # to the original row; None of the original row itself


@dataclass(frozen=True)
class PaperTable:
    """One printed table."""

    source: str
    number: int
    caption: str
    datasets: tuple[str, ...]  # what configs call the dataset, ``data.name``
    layout: str
    ignore_classes: tuple[str, ...]
    model: str  # a key of lightning_modules.models.STOCK
    metrics: tuple[str, ...]  # the columns, as in `results.Run.metrics`
    rows: dict[str, dict[str, PaperCell]]  # by condition and metric


@cache
def paper_tables() -> tuple[PaperTable, ...]:
    """Read all tables, in their order."""
    content = json.loads(Path(__file__).with_name("paper.json").read_text())
    return tuple(_table(content["source"], **table) for table in content["tables"])


def find_table(config: dict[str, Any]) -> PaperTable | None:
    """Find the table whose dataset and task a run has: drawn scenes, or a user's, are none of the paper's.

    Args:
        config: `results.Run.config`.
    """
    data = config.get("data", {})
    if data.get("streetscenes") or data.get("val_split", "val") != "val":
        return None
    for table in paper_tables():
        is_its = data.get("name") in table.datasets and data.get("layout") == table.layout
        if is_its and tuple(data.get("ignore_classes", ())) == table.ignore_classes:
            return table
    return None


def _table(source: str, **content: Any) -> PaperTable:
    rows = {
        condition: {m: PaperCell(*cell) for m, cell in zip(content["metrics"], cells, strict=True)}
        for condition, cells in content["rows"].items()
    }
    content |= {key: tuple(content[key]) for key in ("datasets", "ignore_classes", "metrics")}
    return PaperTable(source, **{**content, "rows": rows})
