"""A W&B server on loopback, small: what the real client asks of one for sweeps, agents and runs.

Sweeps are searched by W&B's own grid search. A run that was marked as preempting, or whose agent the test says has
died, is handed out again under its own name, as W&B does.
"""

import gzip
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml
from sweeps.grid_search import grid_search_next_runs
from sweeps.run import SweepRun

ENTITY = {"id": "entity", "name": "team"}
PROJECT = {"id": "project", "name": "anonbench", "entity": ENTITY}


@dataclass
class Run:
    """A run as the server knows it."""

    name: str
    sweep: str | None = None
    agent: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)  # of the last UpsertBucket: groupName, tags, config, ...
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    preempting: bool = False
    starts: int = 0
    artifacts: list[str] = field(default_factory=list)

    @property
    def config(self) -> dict[str, Any]:
        """The run's config, without W&B's own keys."""
        config = json.loads(self.fields.get("config") or "{}")
        return {key: of["value"] for key, of in config.items() if key != "_wandb"}


def _upload(name: str) -> dict[str, Any]:
    file = {"id": name, "name": name, "displayName": name, "storagePath": name, "uploadMultipartUrls": None}
    return file | {"uploadUrl": f"/upload/{name}", "uploadHeaders": []}


class WandbServer:
    """What is on the server; `failing` makes it answer 500 to everything."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.agents: dict[str, str] = {}  # agent -> sweep
        self.requeued: list[str] = []
        self.unknown: list[str] = []
        self.failing = False

    def agent_died(self, agent: str) -> None:
        """Hand the unfinished runs of an agent out again."""
        with self.lock:
            self.requeued += [r.name for r in self.runs.values() if r.agent == agent and r.exit_code is None]

    def answer(self, name: str, variables: dict[str, Any], query: str) -> dict[str, Any]:
        """Answer a GraphQL operation."""
        with self.lock:
            method = getattr(self, f"_{name}", None)
            if method is None:
                self.unknown.append(f"{name}: {query}")
                return {}
            try:
                return method(variables | (variables.get("input") or {}))
            except KeyError as error:
                self.unknown.append(f"{name}: no {error} in {variables}")
                return {}

    def _Viewer(self, v: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "u", "entity": "team", "username": "u", "name": "u", "email": "u@localhost", "flags": "{}"}
        return {"viewer": viewer | {"teams": {"edges": [{"node": {"name": "team"}}]}, "admin": False}}

    def _ServerInfo(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None, "features": []}}

    def _UpsertSweep(self, v: dict[str, Any]) -> dict[str, Any]:
        name = f"sweep{len(self.sweeps)}"
        self.sweeps[name] = {"config": yaml.safe_load(v["config"]), "yaml": v["config"]}
        return {
            "upsertSweep": {"sweep": {"id": name, "name": name, "project": PROJECT}, "configValidationWarnings": []}
        }

    def _SweepWithRuns(self, v: dict[str, Any]) -> dict[str, Any]:
        name = v["sweep"]
        if name not in self.sweeps:
            return {"project": {"sweep": None}}
        sweep = {"id": name, "name": name, "method": "grid", "state": "RUNNING", "description": None}
        sweep |= {"config": self.sweeps[name]["yaml"], "createdAt": "2026-01-01T00:00:00", "heartbeatAt": None}
        sweep |= {"updatedAt": None, "earlyStopJobRunning": False, "controller": None, "scheduler": None}
        return {"project": {"sweep": sweep | {"runs": {"edges": []}}}}

    def _CreateAgent(self, v: dict[str, Any]) -> dict[str, Any]:
        agent = f"agent{len(self.agents)}"
        self.agents[agent] = v["sweep"]
        return {"createAgent": {"agent": {"id": agent}}}

    def _Heartbeat(self, v: dict[str, Any]) -> dict[str, Any]:
        agent = v["id"]
        busy = json.loads(v["runState"] or "{}")
        commands = [] if busy else [self._next(agent)]
        return {"agentHeartbeat": {"agent": {"id": agent}, "commands": json.dumps(commands)}}

    def _next(self, agent: str) -> dict[str, Any]:
        name = self.agents[agent]
        sweep = self.sweeps[name]["config"]
        if self.requeued:
            run, kind = self.runs[self.requeued.pop(0)], "resume"
        else:
            known = [SweepRun(config=r.parameters) for r in self.runs.values() if r.sweep == name]
            (found,) = grid_search_next_runs(known, sweep)
            if found is None:
                return {"type": "exit"}
            run, kind = Run(f"run{len(self.runs)}", name, agent, found.config), "run"
            self.runs[run.name] = run
        run.agent = agent
        return {"type": kind, "run_id": run.name, "program": sweep["program"], "args": run.parameters}

    def _RunResumeStatus(self, v: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(v["name"])
        bucket = None
        if run is not None and run.fields:
            bucket = {"name": run.name, "displayName": run.fields.get("displayName"), "tags": run.fields.get("tags")}
            bucket |= {"id": run.name, "summaryMetrics": json.dumps(run.summary), "config": run.fields.get("config")}
            bucket |= {"historyLineCount": len(run.history), "logLineCount": 0, "eventsLineCount": 0}
            bucket |= {"historyTail": json.dumps([json.dumps(run.history[-1])] if run.history else [])}
            bucket |= {"eventsTail": "[]", "wandbConfig": '{"t": 1}'}
        return {"model": PROJECT | {"bucket": bucket}}

    def _UpsertBucket(self, v: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(v["name"], Run(v["name"]))
        run.starts += not run.fields or run.exit_code is not None
        run.fields |= {key: value for key, value in v.items() if value is not None}
        bucket = {"id": run.name, "name": run.name, "displayName": v.get("displayName"), "description": None}
        bucket |= {"config": run.fields.get("config"), "sweepName": run.sweep, "project": PROJECT}
        bucket |= {"historyLineCount": len(run.history), "state": "running"}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _ServerFeaturesQuery(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _OrganizationCoreWeaveOrganizationID(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    def _ArtifactType(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _CreateArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        name = v["artifactCollectionName"]
        self.runs[v["runName"]].artifacts.append(f"{v['artifactTypeName']}:{name}")
        sequence = {"id": "sequence", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": name, "state": "PENDING", "artifactSequence": sequence}}}

    def _CreateArtifactManifest(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"createArtifactManifest": {"artifactManifest": {"id": "manifest", "file": _upload("manifest")}}}

    def _CreateArtifactFiles(self, v: dict[str, Any]) -> dict[str, Any]:
        edges = [{"node": _upload(of["name"]) | {"artifact": {"id": of["artifactID"]}}} for of in v["artifactFiles"]]
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _UpdateArtifactManifest(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"updateArtifactManifest": {"artifactManifest": {"id": "manifest", "file": _upload("manifest")}}}

    def _CommitArtifact(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": v["artifactID"], "digest": "digest"}}}

    def _CreateRunFiles(self, v: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"/upload/{v['run']}/{name}"} for name in v["files"]]
        return {"createRunFiles": {"runID": v["run"], "uploadHeaders": [], "files": files}}

    def stream(self, run: str, content: dict[str, Any]) -> None:
        """Take what a run streams: history, summary, its end."""
        with self.lock:
            run = self.runs[run]
            for name, part in content.get("files", {}).items():
                lines = [json.loads(line) for line in part["content"]] if name.endswith((".jsonl", ".json")) else []
                if name == "wandb-history.jsonl":
                    run.history[part["offset"] :] = lines
                elif name == "wandb-summary.json" and lines:
                    run.summary = lines[-1]
            run.preempting |= content.get("preempting", False)
            if content.get("complete"):
                run.exit_code = content["exitcode"]
                if run.preempting and run.exit_code:
                    self.requeued.append(run.name)


@contextmanager
def serving():
    """Serve on a free port of loopback: (server, environment of its clients)."""
    state = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer: dict[str, Any] = {}
            if state.failing:
                pass
            elif self.path == "/graphql":
                content = json.loads(body)
                name = re.search(r"(?:query|mutation)\s+(\w+)", content["query"])[1]
                answer = {"data": state.answer(name, content.get("variables") or {}, content["query"])}
            elif match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
                state.stream(match[1], json.loads(body))
            elif self.path != "/" and not self.path.startswith(("/sdk/", "/upload/")):
                state.unknown.append(f"{self.command} {self.path}")
            data = json.dumps(answer).encode()
            self.send_response(500 if state.failing else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _reply

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        environment = {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}", "WANDB_API_KEY": "a" * 40}
        yield state, environment
    finally:
        server.shutdown()
        server.server_close()
