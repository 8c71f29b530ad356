"""The dashboards, sent by the real client to a small server on loopback that keeps them as W&B does."""

import json
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
import wandb

from errors import UserError
from reporting import dashboards
from reporting.colours import COLOURS
from reporting.comparison import compare
from reporting.results import collect
from reporting.tables import as_markdown

ROOT = Path(__file__).parents[2]
METRICS = ("val/segm/AP", "val/segm/AP50", "val/segm/AP_person", "val/segm/AP_car")
VIEWER = {"id": "1", "entity": "team", "username": "me", "flags": "{}", "teams": {"edges": []}}
TITLE = "anonbench: what anonymization costs"
WORKSPACE = "anonbench: streetscenes-quickstart"
KINDS = ("Bar Chart", "Run History Line Plot", "Media Browser", "Run Comparer", "Markdown Panel")


def results(condition, seed, ap=30.0, name="quickstart", dataset="streetscenes"):
    """What train.py leaves of a run."""
    return {
        "dataset": dataset,
        "condition": condition,
        "seed": seed,
        "metrics": {metric: ap + i for i, metric in enumerate(METRICS)},
        "config": {"name": name, "seed": seed},
    }


STUDY = [results(c, seed, ap + seed) for c, ap in (("original", 40), ("body/blur", 30.25)) for seed in (0, 1)]


class Server(ThreadingHTTPServer):
    """Answers GraphQL by operation; a view without an id is inserted, one with an id is replaced."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs, self.views, self.saved, self.refuses = [], {}, [], None

    def run(self, results, state="finished", sweep=None):
        config = results["config"] | {key: results[key] for key in ("dataset", "condition", "seed")}
        self.runs.append(
            {
                "id": f"gid{len(self.runs)}",
                "name": f"run{len(self.runs)}",
                "displayName": "a run",
                "state": state,
                "sweepName": sweep,
                "config": json.dumps({key: {"value": value} for key, value in config.items()}),
                "summaryMetrics": json.dumps(results["metrics"]),
                "systemMetrics": "{}",
                "tags": [],
                "user": {"name": "me", "username": "me"},
            }
        )

    def view(self, id, kind, display_name, spec="{}"):
        self.views[id] = {"id": id, "type": kind, "name": f"nw-{id}-v", "displayName": display_name, "spec": spec}

    def answer(self, operation, variables):
        if self.refuses == operation:
            return {"errors": [{"message": "permission denied"}]}
        if operation in ("Viewer", "GetDefaultEntity"):
            return {"data": {"viewer": VIEWER}}
        if operation == "GetProjects":
            node = {"__typename": "Project", "id": "p", "name": "study", "entityName": "team", "isBenchmark": False}
            return {"data": {"models": page([node | {"createdAt": "2026-01-01T00:00:00Z", "user": None}])}}
        if operation.lower().startswith("upsertview"):
            return {"data": {"upsertView": {"view": self.save(variables), "inserted": "id" not in variables}}}
        project = None
        if (variables.get("entity"), variables.get("project")) == ("team", "study"):
            filters = json.loads(variables.get("filters") or "{}")
            runs = [run for run in self.runs if filters.get("sweep") in (None, run["sweepName"])]
            views = [view for view in self.views.values() if view["type"] == variables.get("viewType", "runs")]
            project = {
                "internalId": "1",
                "runCount": len(runs),
                "readOnly": False,
                "runs": page(runs),
                "run": next((run for run in runs if run["name"] == variables.get("name")), None),
                "allViews": page(views, after=variables.get("reportCursor"), limit=1),
            }
        return {"data": {"project": project}}

    def save(self, variables):
        assert (variables["entityName"], variables["projectName"]) == ("team", "study")
        self.saved.append(variables)
        id = variables.get("id") or f"view{len(self.views)}"
        assert (variables.get("id") is not None) == (id in self.views)
        self.view(id, variables["type"], variables["displayName"], variables["spec"])
        self.views[id]["name"] = variables["name"]
        project = {"id": "p", "name": "study", "entityName": "team"}
        return self.views[id] | {"project": project, "description": "", "updatedAt": "2026-01-01T00:00:00Z"}


def page(nodes, after=None, limit=100):
    start = int(after or 0)
    edges = [{"node": node, "cursor": str(start + i + 1)} for i, node in enumerate(nodes[start : start + limit])]
    more = start + limit < len(nodes)
    return {"edges": edges, "pageInfo": {"__typename": "PageInfo", "endCursor": None, "hasNextPage": more}}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/graphql":
            request = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])[1]
            answer = json.dumps(self.server.answer(operation, request.get("variables") or {})).encode()
        else:  # the client's telemetry
            answer = b"{}"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def login(monkeypatch, tmp_path):
    """Give the client an address, and a key or none."""

    def give(port, key="0" * 40):
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
        monkeypatch.delenv("WANDB_MODE", raising=False)
        if key:
            monkeypatch.setenv("WANDB_API_KEY", key)
        else:
            monkeypatch.delenv("WANDB_API_KEY", raising=False)
        wandb.teardown()  # what it has read of the environment before

    yield give
    wandb.teardown()


@pytest.fixture
def server(login):
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    login(server.server_port)
    yield server
    server.shutdown()
    server.server_close()


def write(folder, runs):
    for i, run in enumerate(runs):
        (folder / str(i)).mkdir()
        (folder / str(i) / "results.json").write_text(json.dumps(run))
    return folder


def saved(server, display_name):
    (view,) = [view for view in server.views.values() if view["displayName"] == display_name]
    return json.loads(view["spec"])


def saved_report(server):
    (view,) = [view for view in server.views.values() if view["type"] == "runs"]
    return json.loads(view["spec"])


def panels(spec):
    return [p for s in spec["section"]["panelBankConfig"]["sections"] for p in s["panels"]]


def grids(spec):
    return [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]


def markdown(spec):
    return [block["content"] for block in spec["blocks"] if block["type"] == "markdown-block"]


def selects(filters, run):
    """Whether a run passes filters, all of which must hold."""
    sections = {"config": json.loads(run["config"]), "run": {"state": run["state"], "sweep": run["sweepName"]}}
    for i, item in enumerate(filters["filters"]):
        assert item["op"] == "=" and (i == 0 or item["connector"] == "AND")
        value = sections[item["key"]["section"]]
        for key in item["key"]["name"].split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value != item["value"]:
            return False
    return True


def test_publishing_again_replaces_what_was_published(server):
    server.view("other", "project-view", "somebody's")
    server.view("twin", "runs/draft", TITLE)
    for run in STUDY:
        server.run(run)
    dashboards.publish("team", "study", None)
    assert sorted(view["displayName"] for view in server.views.values()) == sorted(
        ["somebody's", TITLE, TITLE, WORKSPACE]
    )
    first = {id: dict(view) for id, view in server.views.items()}
    assert "30.8 ± 0.5 (-9.8" in markdown(saved_report(server))[1]  # of 30.25 and 31.25 beside 40 and 41

    # Somebody works on them on W&B's pages, and a run finishes.
    for view in server.views.values():
        if view["displayName"] == WORKSPACE:
            view["spec"] = json.dumps({"of": "another version"})
        elif view["type"] == "runs":
            view["spec"] = json.dumps({"discussionThreads": [{"id": "7"}]})
    server.run(results("body/blur", 2, 99))
    dashboards.publish("team", "study", None)
    assert {id: (v["type"], v["displayName"]) for id, v in server.views.items()} == {
        id: (v["type"], v["displayName"]) for id, v in first.items()
    }
    assert all(server.views[id] == first[id] for id in ("other", "twin"))
    (workspace,) = [id for id, view in first.items() if view["displayName"] == WORKSPACE]
    assert server.views[workspace]["name"] == first[workspace]["name"]  # what its address is made of
    assert "| 3 | 53.5 ± 22.8" in panels(saved(server, WORKSPACE))[0]["config"]["value"]
    assert "| 3 | 53.5 ± 22.8" in markdown(saved_report(server))[1]
    assert saved_report(server)["discussionThreads"] == [{"id": "7"}]


def test_the_workspace_shows_the_study(server):
    for run in STUDY:
        server.run(run)
    dashboards.publish("team", "study", None)
    spec = saved(server, WORKSPACE)
    (runs,) = spec["section"]["runSets"]
    assert runs["grouping"] == [{"section": "config", "name": "condition.value"}]
    assert spec["section"]["settings"]["useRunsTableGroupingInPanels"]
    kinds = {kind: [p["config"] for p in panels(spec) if p["viewType"] == kind] for kind in KINDS}
    assert {config["metrics"][0] for config in kinds["Bar Chart"]} == set(METRICS)
    assert {config["metrics"][0] for config in kinds["Run History Line Plot"]} == {"val/segm/AP", "val/segm/AP50"}
    assert {config["xAxis"] for config in kinds["Run History Line Plot"]} == {"trainer/global_step"}
    for config in kinds["Bar Chart"] + kinds["Run History Line Plot"]:
        assert (config["groupAgg"], config["groupArea"]) == ("mean", "stderr")
    assert [config["mediaKeys"] for config in kinds["Media Browser"]] == [["images/train"], ["images/val"]]
    assert len(kinds["Run Comparer"]) == len(kinds["Markdown Panel"]) == 1
    assert sum(map(len, kinds.values())) == len(panels(spec))


def test_the_report_has_the_same_panels_on_the_same_runs(server):
    for run in STUDY:
        server.run(run)
    dashboards.publish("team", "study", None)
    workspace, report = saved(server, WORKSPACE), saved_report(server)
    configs = [p["config"] for grid in grids(report) for p in grid["panelBankSectionConfig"]["panels"]]
    assert configs == [p["config"] for p in panels(workspace) if p["viewType"] != "Markdown Panel"]
    for grid in grids(report):
        (runs,) = grid["runSets"]
        assert runs["filters"] == workspace["section"]["runSets"][0]["filters"]
        assert runs["grouping"] == workspace["section"]["runSets"][0]["grouping"]
        boxes = [p["layout"] for p in grid["panelBankSectionConfig"]["panels"]]
        cells = [(b["x"] + i, b["y"] + j) for b in boxes for i in range(b["w"]) for j in range(b["h"])]
        assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24


def test_every_condition_has_its_colour(tmp_path):
    every = [results(condition, 0) for condition in COLOURS]
    content = json.loads(dashboards.specify("team", "study", None, [write(tmp_path, every)]))
    section = content["workspaces"][0]["spec"]["section"]
    found = {}
    for key, colour in section["customRunColors"].items():
        runset, path = (json.loads(unquote(part)) for part in key.removeprefix("run-color-group:").split(":"))
        assert runset == section["runSets"][0]["id"]
        assert [(step["kind"], step["key"]) for step in path] == [("group", "config:condition.value")]
        found[path[0]["value"]] = colour
    assert found == COLOURS
    for grid in grids(content["report"]["spec"]):
        prefix = f"{grid['runSets'][0]['id']}-config:condition.value:"
        assert grid["customRunColors"] == {prefix + condition: colour for condition, colour in COLOURS.items()}


def test_the_papers_numbers_stand_beside_these(tmp_path):
    runs = [results("original", seed, name="cityscapes", dataset="cityscapes") for seed in (0, 1)]
    for run in runs:
        run["config"]["data"] = {"name": "cityscapes", "layout": "cityscapes"}
    content = json.loads(dashboards.specify("team", "study", None, [write(tmp_path, runs)]))
    for text in (
        panels(content["workspaces"][0]["spec"])[0]["config"]["value"],
        markdown(content["report"]["spec"])[1],
    ):
        assert "| none | original | paper | 36.7 ± 0.1 | 62.8 ± 0.2 | 35.0 ± 0.2 |" in text  # table 1
        assert "| these runs | 30.0 ± 0.0 | 31.0 ± 0.0 | 32.0 ± 0.0 |" in text


def test_panels_are_of_the_runs_of_the_table(server):
    for run in STUDY:
        server.run(run, sweep="abc")
    other = results("original", 0, name="it's another")
    server.run(other, sweep="def")
    server.run(results("body/blur", 2), state="running", sweep="abc")
    server.run(results("original", 0, dataset="elsewhere"), sweep="def")
    dashboards.publish("team", "study", None)
    names = ["anonbench: elsewhere-quickstart", WORKSPACE, "anonbench: streetscenes-it_s_another"]
    chosen = {}
    for name in names:
        filters = saved(server, name)["section"]["runSets"][0]["filters"]
        chosen[name] = [i for i, run in enumerate(server.runs) if selects(filters, run)]
    assert list(chosen.values()) == [[6], [0, 1, 2, 3], [4]]
    assert len(markdown(saved_report(server))) == 1 + len(names)

    # A sweep's dashboards stand beside the project's.
    before = len(server.views)
    dashboards.publish("team", "study", "def")
    assert len(server.views) == before + 3
    filters = saved(server, names[2] + ", sweep def")["section"]["runSets"][0]["filters"]
    assert [i for i, run in enumerate(server.runs) if selects(filters, run)] == [4]
    assert "--sweep def" in markdown(saved(server, f"{TITLE}, sweep def"))[0]


def test_print_says_what_would_be_sent_and_asks_nobody(server, tmp_path):
    for run in STUDY:
        server.run(run)
    dashboards.publish("team", "study", None)
    runs, _ = collect([write(tmp_path, STUDY)])
    (comparison,) = compare(runs)
    command = [
        sys.executable,
        ROOT / "report.py",
        "wandb",
        "--entity",
        "team",
        "--project",
        "study",
        "--print",
        tmp_path,
    ]
    nobody = {"WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path), "PATH": ""}
    process = subprocess.run(command, cwd=ROOT, env=nobody, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    content = json.loads(process.stdout)
    assert as_markdown(comparison) in markdown(content["report"]["spec"])
    (workspace,) = content["workspaces"]
    assert (workspace["displayName"], content["report"]["displayName"]) == (WORKSPACE, TITLE)
    assert without_ids(workspace["spec"]) == without_ids(saved(server, WORKSPACE))
    assert without_ids(content["report"]["spec"]) == without_ids(saved_report(server))


def without_ids(node):
    """Leave out what the library draws anew for each object: ids, and the colours' names, which hold them."""
    if isinstance(node, dict):
        drawn = ("id", "__id__", "customRunColors")
        return {key: without_ids(value) for key, value in node.items() if key not in drawn}
    return [without_ids(item) for item in node] if isinstance(node, list) else node


def refused(entity="team", project="study"):
    with pytest.raises(UserError) as error:
        dashboards.publish(entity, project, None)
    return str(error.value)


def test_who_cannot_log_in_is_told(login):
    login(9, key=None)
    assert "`wandb login`" in refused()
    login(9, key="short")
    assert "WANDB_API_KEY" in refused()
    login("port")
    assert "valid URL" in refused()


def test_a_server_that_does_not_answer_is_told(login, monkeypatch):
    monkeypatch.setattr(wandb.Api, "_HTTP_TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        login(silent.getsockname()[1])
        assert f"127.0.0.1:{silent.getsockname()[1]}" in refused()


def test_an_unknown_project_and_an_empty_one_are_told(server):
    assert "nowhere" in refused(project="nowhere")
    assert "nobody" in refused(entity="nobody")
    assert "no finished" in refused()
    assert server.saved == []


@pytest.mark.parametrize("operation", ["Runs", "ProjectViews", "UpsertView2", "upsertView"])
def test_a_refusal_is_told(server, operation):
    server.run(STUDY[0])
    server.refuses = operation
    assert "team/study" in refused()
    assert "permission denied" in refused()


def test_the_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(dashboards, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'anonbench\[dashboards\]'"):
        dashboards.specify("team", "study", None, [write(tmp_path, STUDY)])
