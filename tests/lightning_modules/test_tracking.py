"""What a run is at W&B, and what it sends; the rest is in tests/test_wandb.py, with the real client and a server."""

import json
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from configs import load_config
from lightning_modules.tracking import _reach_server, _run_id, uploads_images

ROOT = Path(__file__).parents[2]


def test_a_run_started_again_is_the_same_run(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    first, other = _run_id(tmp_path / "a"), _run_id(tmp_path / "b")
    assert first == _run_id(tmp_path / "a") != other
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    assert _run_id(tmp_path / "a") == "agents", "an agent's run is that of its sweep"


@pytest.mark.parametrize(
    ("name", "override", "uploaded"),
    [
        ("quickstart", [], True),
        ("quickstart", ["wandb.images=false"], False),
        ("cityscapes", [], False),
        ("own", [], False),
        ("own", ["wandb.images=true"], True),
    ],
)
def test_pictures_of_real_people_are_uploaded_only_where_one_says_so(name, override, uploaded):
    assert uploads_images(load_config(ROOT / f"configs/{name}.yaml", override)) == uploaded


def test_a_certificate_of_ones_own_is_the_clients_business(monkeypatch):
    def refuse(address, timeout):
        raise urllib.error.URLError(ssl.SSLCertVerificationError("self-signed certificate"))

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    _reach_server()


CLIENT = """
import json, os, sys
from configs import load_config
from errors import UserError
from lightning_modules.tracking import build_wandb_logger
from pathlib import Path
import wandb

def say(mode, environment):
    os.environ.update(environment)
    wandb.login = lambda **_: False  # nobody is logged in
    try:
        build_wandb_logger(load_config("configs/quickstart.yaml", ["wandb.mode=" + mode]), Path(sys.argv[1], "run"))
        print(wandb.setup().settings.finish_timeout, wandb.setup().settings.init_timeout, flush=True)
    except UserError as error:
        print(error, flush=True)
    wandb.teardown()

for case in json.loads(sys.argv[2]):  # each in a process of its own, for the client keeps its settings
    if os.fork() == 0:
        say(*case)
        os._exit(0)
    os.wait()
    print("---", flush=True)
"""


def test_settings_of_the_environment(tmp_path):
    """Time-outs come before the client takes its settings; wrong ones are a line."""
    expected = [
        ("auto", {}, "600.0 60.0"),
        ("auto", {"WANDB_FINISH_TIMEOUT": "5"}, "5.0 60.0"),
        ("auto", {"WANDB_BASE_URL": "wandb.corp.example"}, "W&B's settings, of the environment too: "),
        ("online", {"WANDB_MODE": "offline"}, "'online', but nobody is logged in under WANDB_MODE=offline; run"),
    ]
    command = [sys.executable, "-c", CLIENT, tmp_path, json.dumps([case[:2] for case in expected])]
    process = subprocess.run(command, cwd=ROOT, env={"PATH": "", "HOME": str(tmp_path)}, capture_output=True, text=True)
    for (*_, said), printed in zip(expected, process.stdout.split("---\n")[:-1], strict=True):
        assert said in printed, process.stdout + process.stderr
