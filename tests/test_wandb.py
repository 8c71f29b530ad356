"""The real W&B client, command line and agents, against a small server on loopback."""

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from wandb_server import serving

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@pytest.fixture
def server(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    with serving() as (state, environment):
        yield state, environment
    assert not state.unknown, "the client asked what the server does not know"


@pytest.fixture
def arguments(streetscenes, tmp_path):
    """A run of one step an epoch's third, on three drawn images of validation."""
    return [
        "data.num_workers=0",
        "data.batch_size=2",
        "trainer.max_steps=3",
        "trainer.check_val_every_n_epoch=1",
        "trainer.log_every_n_steps=1",
        "model.min_size=[64]",
        "model.max_size=128",
        "data.streetscenes=null",
        f"data.root={streetscenes['cityscapes']}",
        f"output_dir={tmp_path / 'out'}",
        f"data.index_dir={tmp_path / 'index'}",
    ]


def start(folder, environment, *command):
    """Start a command in the project's folder, its output in a file."""
    own = {"PATH": f"{BIN}:{os.environ['PATH']}", "WANDB_DIR": str(folder)}
    own |= {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    log = folder / f"{time.monotonic_ns()}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=os.environ | own | environment, stdout=output, stderr=output
        )
    process.log = log
    return process


def finish(process, code=0, seconds=240):
    """Wait for a command and return what it printed; one that does not end is aborted, and says where it was."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
    assert process.wait() == code, process.log.read_text()
    return process.log.read_text()


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def create_sweep(folder, environment, conditions, arguments):
    content = {
        "program": "train.py",
        "project": "anonbench",
        "method": "grid",
        "metric": {"name": "val/segm/AP", "goal": "maximize"},
        "parameters": {"condition": {"values": conditions}, "seed": {"value": 1}},
        "command": ["${env}", "${interpreter}", "${program}", "--config", "configs/quickstart.yaml", *arguments],
    }
    content["command"].append("${args_no_hyphens}")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    output = finish(start(folder, environment, "wandb", "sweep", folder / "sweep.yaml"))
    assert "wandb agent team/anonbench/sweep0" in output
    return "team/anonbench/sweep0"


def test_two_agents_share_a_sweep_in_which_a_cell_crashes(server, arguments, tmp_path):
    state, environment = server
    crashing = tmp_path / "out" / "quickstart-body-mask_out-seed1"
    crashing.mkdir(parents=True)
    (crashing / "images").write_text("no folder")  # where the run writes pictures after its epoch
    arguments = [*arguments, "wandb.images=true"]
    sweep = create_sweep(tmp_path, environment, ["body/blur", "body/mask_out", "original"], arguments)
    agents = [start(tmp_path, environment, "wandb", "agent", sweep) for _ in range(2)]
    logs = [finish(agent) for agent in agents]
    runs = {run.parameters["condition"]["value"]: run for run in state.runs.values()}
    assert len(state.runs) == 3 and {run.agent for run in runs.values()} == {"agent0", "agent1"}
    assert {condition: run.exit_code for condition, run in runs.items()} == {
        "body/blur": 0,
        "body/mask_out": 1,
        "original": 0,
    }
    assert any("FileExistsError" in log or "NotADirectoryError" in log for log in logs), "why is in the agent's output"

    run = runs["body/blur"]
    results = json.loads((tmp_path / "out" / "quickstart-body-blur-seed1" / "results.json").read_text())
    cell = {"dataset": "streetscenes", "condition": "body/blur", "region": "body", "method": "blur", "seed": 1}
    assert run.config | cell == run.config
    assert (run.fields["groupName"], run.fields["jobType"]) == ("streetscenes/body/blur", "train")
    assert run.fields["displayName"] == "quickstart-body-blur-seed1"
    assert set(run.fields["tags"]) == {"streetscenes", "body", "blur", "seed1"}
    for name, value in results["metrics"].items():
        assert run.summary[name] == pytest.approx(value), "the summary is the last validation's"
        assert run.summary[f"best/{name}"] == pytest.approx(results["best"][name])
        assert results["best"][name] >= value
    kept = {
        "steps",
        "images_per_step",
        "anonymized_regions",
        "generators",
        "copy",
        "device",
        "wall_time_s",
        "versions",
        "commit",
    }
    assert {key: results[key] for key in kept} == run.summary["results"], "what report.py reads"
    assert run.summary["per_class/segm"]["_type"] == "table-file"
    assert run.summary["per_class/segm"]["ncols"] == 3
    assert "results:quickstart-body-blur-seed1-results" in run.artifacts
    assert not any(artifact.startswith("model:") for artifact in run.artifacts)
    assert {"images/train", "images/val"} <= run.summary.keys()
    assert all(type(line["trainer/global_step"]) is int for line in run.history)


def test_an_agent_killed_and_restarted_goes_on(server, arguments, tmp_path):
    state, environment = server
    arguments = [a.replace("max_steps=3", "max_steps=24") for a in arguments]
    sweep = create_sweep(tmp_path, environment, ["body/blur"], [*arguments, "wandb.artifacts=[results,checkpoints]"])
    folder = tmp_path / "out" / "quickstart-body-blur-seed1"
    environment = environment | {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.5"}
    agent = start(tmp_path, environment, "wandb", "agent", sweep)
    wait_for((folder / "checkpoints" / "last.ckpt").exists)
    cells = [int(p.name) for p in Path("/proc").glob("[0-9]*") if _is_cell(p, tmp_path)]
    for cell in cells:
        os.kill(cell, signal.SIGSTOP)  # the rest of it is soon done; what it logged goes on its way
    (run,) = state.runs.values()
    wait_for(lambda: run.history)
    agent.kill()
    for cell in cells:
        os.kill(cell, signal.SIGKILL)
    agent.wait()
    assert not (folder / "results.json").exists() and run.exit_code is None
    before = len(run.history)
    state.agent_died("agent0")
    output = finish(start(tmp_path, environment, "wandb", "agent", sweep))
    assert "resuming from" in output
    assert list(state.runs.values()) == [run] and (run.starts, run.exit_code) == (1, 0), "the same run goes on"
    assert len(run.history) > before
    assert run.history[-1]["trainer/global_step"] == 24
    results = json.loads((folder / "results.json").read_text())
    assert run.summary["val/segm/AP"] == pytest.approx(results["metrics"]["val/segm/AP"])
    assert {"results", "model"} <= {artifact.partition(":")[0] for artifact in run.artifacts}


def test_a_cell_that_is_done_is_sent_to_the_sweep_that_asks_for_it(server, arguments, tmp_path):
    state, environment = server
    command = ["python", "train.py", "--config", "configs/quickstart.yaml", "condition=body/blur", "seed=1", *arguments]
    finish(start(tmp_path, environment, *command, "wandb.mode=disabled"))
    results = json.loads((tmp_path / "out" / "quickstart-body-blur-seed1" / "results.json").read_text())
    sweep = create_sweep(tmp_path, environment, ["body/blur"], arguments)
    output = finish(start(tmp_path, environment, "wandb", "agent", sweep))
    assert "already done" in output
    (run,) = state.runs.values()
    assert run.exit_code == 0
    assert run.summary["val/segm/AP"] == pytest.approx(results["metrics"]["val/segm/AP"])
    assert run.summary["results"]["steps"] == 3 and run.config["condition"] == "body/blur"
    assert "results:quickstart-body-blur-seed1-results" in run.artifacts
    before = len(run.history), run.starts
    environment = environment | {"WANDB_RUN_ID": run.name}
    assert "already done" in finish(start(tmp_path, environment, *command)), "and not once more"
    assert (len(run.history), run.starts) == before


def _is_cell(process, folder):
    try:
        command = (process / "cmdline").read_bytes()
    except OSError:
        return False
    return b"train.py" in command and str(folder).encode() in command


def test_a_server_that_goes_away_costs_nothing(server, arguments, tmp_path):
    state, environment = server
    command = ["python", "train.py", "--config", "configs/quickstart.yaml", "condition=body/blur", *arguments]
    process = start(tmp_path, environment | {"WANDB_FINISH_TIMEOUT": "3"}, *command)
    (run,) = wait_for(lambda: list(state.runs.values()))
    state.failing = True
    output = finish(process)
    folder = tmp_path / "out" / "quickstart-body-blur-seed0"
    (kept,) = (folder.parent / "wandb").glob("run-*")
    assert f"W&B did not take everything; the run is kept: wandb sync --include-online {kept}\n" in output
    assert "Traceback" not in output
    results = json.loads((folder / "results.json").read_text())
    assert run.exit_code is None and "val/segm/AP" not in run.summary
    state.failing = False
    finish(start(tmp_path, environment, "wandb", "sync", "--include-online", kept))
    assert run.exit_code == 0
    assert run.summary["val/segm/AP"] == pytest.approx(results["metrics"]["val/segm/AP"])
    logged = {key for line in (run.summary, *run.history) for key in line}
    assert not any(key.startswith("images/") for key in logged), "the scenes are not said to be drawn ones"


def test_a_server_that_is_not_there(arguments, tmp_path):
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "a" * 40, "WANDB_INIT_TIMEOUT": "3"}
    command = ["python", "train.py", "--config", "configs/quickstart.yaml", *arguments]
    output = finish(start(tmp_path, nowhere, *command, "wandb.mode=online"), 2)
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and errors[0].startswith("error: wandb.mode: 'online', but W&B cannot be used: ")
    assert "Traceback" not in output
    output = finish(start(tmp_path, nowhere, *command))
    folder = tmp_path / "out" / "quickstart-original-seed0"
    (kept,) = (folder.parent / "wandb").glob("offline-run-*")
    assert "W&B cannot be used: " in output and f"the run is kept: wandb sync {kept}\n" in output
    assert (folder / "results.json").exists() and list(kept.glob("*.wandb"))


def test_a_server_that_does_not_answer_is_not_asked_by_the_client(arguments, tmp_path):
    """W&B's process, once it waits for an answer, at times does not end with the run."""
    asked = []

    class Silent(socketserver.BaseRequestHandler):
        def handle(self):
            asked.append(self.request.recv(4096))

    with socketserver.TCPServer(("127.0.0.1", 0), Silent) as silent:
        threading.Thread(target=silent.serve_forever, daemon=True).start()
        address = {"WANDB_BASE_URL": f"http://127.0.0.1:{silent.server_address[1]}", "WANDB_API_KEY": "a" * 40}
        command = ["python", "train.py", "--config", "configs/quickstart.yaml", *arguments, "wandb.mode=online"]
        output = finish(start(tmp_path, address, *command), 2)
        silent.shutdown()
    assert "error: wandb.mode: 'online', but W&B cannot be used: " in output
    assert len(asked) == 1 and b"Python-urllib" in asked[0]


def test_nobody_logged_in(arguments, tmp_path):
    nobody = {"HOME": str(tmp_path), "WANDB_API_KEY": "", "NETRC": str(tmp_path / "netrc")}
    command = ["python", "train.py", "--config", "configs/quickstart.yaml", *arguments, "wandb.mode=online"]
    output = finish(start(tmp_path, nobody, *command), 2)
    assert "error: wandb.mode: 'online', but nobody is logged in; run `wandb login`" in output
    assert "Traceback" not in output
