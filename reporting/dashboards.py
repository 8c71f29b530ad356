"""Dashboards at Weights & Biases: a saved workspace for each comparison, and a report on all of them.

Panels read the runs live; tables hold what the runs had measured when the dashboards were published. Published again,
both are replaced: they are found by their names, so what is to be kept by hand needs a name of its own.
"""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import UserError
from reporting.colours import colour

if TYPE_CHECKING:
    from wandb.apis.public import BetaReport
    from wandb_workspaces.reports.v2 import Report
    from wandb_workspaces.reports.v2.interface import Block, Panel
    from wandb_workspaces.workspaces import Workspace

    from reporting.comparison import Comparison

QUESTION = (
    "What does anonymizing the training images cost a detector? Each condition anonymizes the same training set in "
    "another way; the same detector is trained on each and evaluated on the original validation images, as in "
    "Hukkelås & Lindseth, Does Image Anonymization Impact Computer Vision Training?, CVPR Workshops 2023."
)
READING = (
    "Lines and bars are means over the runs of a condition, bands and whiskers their standard error; they are drawn "
    "from the runs that have finished by now. Tables are of the runs that had finished when {command} was last run."
)
STEPS = "trainer/global_step"  # Lightning's count of optimizer steps
IMAGES = {
    "images/train": "Training images, as the detector sees them",
    "images/val": "Predictions on validation images",
}
MAX_RUNS = 100  # a panel; W&B shows 10 where nothing is said
WIDTH = 24  # columns of a report's grid; a plot takes 8


def publish(entity: str, project: str, sweep: str | None) -> None:
    """Save the dashboards of the finished runs of a W&B project, or of one of its sweeps; their addresses are printed.

    Raises:
        UserError: nobody is logged in, W&B cannot be asked or refuses, or there is no finished run of a detector.
    """
    _check_installed()
    from reporting.comparison import compare
    from reporting.results import collect_wandb

    path = f"{entity}/{project}"
    with _in_one_line(path):
        runs, problems = collect_wandb("/".join(filter(None, (entity, project, sweep))))
    workspaces, report = build(entity, project, sweep, compare(runs))
    with _in_one_line(path):
        for workspace in workspaces:
            if saved := _find(path, "project-view", workspace.name):
                # Reading it back by Workspace.from_url would fail on what a newer version of W&B's pages has written.
                workspace._internal_id, workspace._internal_name = saved.id, saved.name
            workspace.save()
        if saved := _find(path, "runs", report.title):
            report.id = saved.id
            report._discussion_threads = saved.spec.get("discussionThreads", [])
        report.save()
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)


def specify(entity: str, project: str, sweep: str | None, results: list[Path]) -> str:
    """Write what `publish` would send, had the project these results: JSON. Asks nobody.

    Raises:
        UserError: there are no results.
    """
    _check_installed()
    from reporting.comparison import compare
    from reporting.results import collect

    runs, problems = collect(results)
    workspaces, report = build(entity, project, sweep, compare(runs))
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    content = {"workspaces": [_content(workspace) for workspace in workspaces], "report": _content(report)}
    return json.dumps(content, indent=2, ensure_ascii=False)


def build(
    entity: str, project: str, sweep: str | None, comparisons: "list[Comparison]"
) -> "tuple[list[Workspace], Report]":
    """Make a workspace of each comparison, and the report; nothing is asked or saved."""
    import wandb_workspaces.reports.v2 as wr

    of_sweep = f", sweep {sweep}" if sweep else ""
    command = f"`python report.py wandb --entity {entity} --project {project}{f' --sweep {sweep}' if sweep else ''}`"
    workspaces = []
    blocks = [wr.H1("The question"), wr.P(QUESTION), wr.MarkdownBlock(READING.format(command=command))]
    for comparison in comparisons:
        filters = _filters(comparison, sweep)
        workspace = _workspace(comparison, filters, f"anonbench: {comparison.name}{of_sweep}", entity, project)
        workspaces.append(workspace)
        blocks += _chapter(comparison, filters)
    title = f"anonbench: what anonymization costs{of_sweep}"
    return workspaces, wr.Report(entity=entity, project=project, title=title, blocks=blocks, width="fluid")


def _filters(comparison: "Comparison", sweep: str | None) -> str:
    # Written as ``name.value``, as W&B's own pages do: the library takes ``name`` for a run's id.
    parts = [
        f"Config('name.value') == {comparison.experiment!r}",
        f"Config('dataset.value') == {comparison.dataset!r}",
        "Metric('State') == 'finished'",
    ]
    return " and ".join([*parts, f"Metric('Sweep') == {sweep!r}"] if sweep else parts)


def _workspace(comparison: "Comparison", filters: str, name: str, entity: str, project: str) -> "Workspace":
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    from reporting.tables import as_markdown

    def section(name: str, panels: "list[Panel]", columns: int) -> ws.Section:
        layout = ws.SectionLayoutSettings(columns=columns, rows=math.ceil(len(panels) / columns))
        return ws.Section(name, panels, is_open=True, layout_settings=layout)

    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            section("Table", [wr.MarkdownPanel(markdown=as_markdown(comparison))], 1),
            *(section(name, panels, 3) for name, panels in _plots(comparison).items()),
            *(section(name, panels, 1) for name, panels in _wide_panels().items()),
        ],
        settings=ws.WorkspaceSettings(max_runs=MAX_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=filters,
            groupby=[ws.Config("condition")],
            group_colors={row.condition: colour(row.condition) for row in comparison.rows},
        ),
    )


def _chapter(comparison: "Comparison", filters: str) -> "list[Block]":
    """Make a comparison's part of the report. Its runs are of the report's project."""
    import wandb_workspaces.reports.v2 as wr

    from reporting.tables import as_markdown

    def of(condition: str) -> wr.RunsetGroup:
        return wr.RunsetGroup(comparison.name, (wr.RunsetGroupKey(wr.Config("condition"), condition),))

    blocks = [wr.MarkdownBlock(as_markdown(comparison))]
    for name, panels in (_plots(comparison) | _wide_panels()).items():
        runs = wr.Runset(name=comparison.name, filters=filters, groupby=["config.condition"])
        colours = {of(row.condition): colour(row.condition) for row in comparison.rows}
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=panels, custom_run_colors=colours)]
    return blocks


def _plots(comparison: "Comparison") -> "dict[str, list[Panel]]":
    """Make the plots by section."""
    import wandb_workspaces.reports.v2 as wr

    from reporting.tables import headings

    names = dict(zip(comparison.metrics, headings(comparison.metrics), strict=True))
    overall = [metric for metric in names if "_" not in metric]  # val/segm/AP50, not val/segm/AP_person
    # The runs are grouped by condition: what a panel says of groups is said of these.
    grouping = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stderr", "max_runs_to_show": MAX_RUNS}

    def bars(metric: str) -> wr.BarPlot:
        return wr.BarPlot(names[metric], [metric], title_x="percent", max_bars_to_show=MAX_RUNS, **grouping)

    def line(metric: str) -> wr.LinePlot:
        return wr.LinePlot(names[metric], STEPS, [metric], title_x="step", title_y="percent", **grouping)

    sections = {
        "AP at the end": [bars(metric) for metric in overall],
        "AP over steps": [line(metric) for metric in overall],
        "AP by class and size": [bars(metric) for metric in names if metric not in overall],
    }
    return {name: panels for name, panels in sections.items() if panels}


def _wide_panels() -> "dict[str, list[Panel]]":
    """Make the panels that need the whole width, by section."""
    import wandb_workspaces.reports.v2 as wr

    layout = {"w": WIDTH, "h": 12}
    return {
        "Images": [
            wr.MediaBrowser(title, media_keys=[key], gallery_axis="run", num_columns=3, layout=wr.Layout(**layout))
            for key, title in IMAGES.items()
        ],
        "Runs": [wr.RunComparer(diff_only=True, layout=wr.Layout(**layout))],
    }


def _check_installed() -> None:
    if find_spec("wandb_workspaces") is None:
        raise UserError("wandb-workspaces is not installed: pip install 'anonbench[dashboards]'")


def _content(saved: "Workspace | Report") -> dict[str, Any]:
    return json.loads(saved._to_model().model_dump_json(by_alias=True, exclude_none=True))


def _find(path: str, kind: str, name: str) -> "BetaReport | None":
    """Find what is saved in a project under a name: a ``project-view`` (a workspace) or one of ``runs`` (a report)."""
    import wandb

    views = wandb.Api().reports(path)
    views.variables["viewType"] = kind  # of reports unless said otherwise
    return next((view for view in views if view.display_name == name), None)


@contextmanager
def _in_one_line(path: str) -> Iterator[None]:
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError  # no wandb.Error

    try:
        yield
    except UserError:
        raise
    except (wandb.Error, WandbApiFailedError, ValueError) as error:
        raise UserError(f"W&B's {path}: {error}") from None
