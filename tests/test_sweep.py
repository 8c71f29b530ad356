"""The real sweep.py, on a small program that takes train.py's arguments and leaves what train.py leaves."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from rich.console import Console
from sweeps.config.cfg import schema_violations_from_proposed_config
from sweeps.grid_search import grid_search_next_runs

import sweep
from configs.grid import Cell, read_cells
from errors import UserError
from executors import Command, Processes, Slurm
from sweep import Progress, check

ROOT = Path(__file__).parent.parent
PROTOCOL = ROOT.parent / "shared" / "PROTOCOL.md"
CONDITIONS = ["original", "face/blur", "body/blur"]
# plan.json says for each run what its starts do in turn; what is not planned ends well.
PROGRAM = """
import fcntl, json, pathlib, sys, time
values = dict(a.removeprefix("--").split("=") for a in sys.argv[1:] if "=" in a)
name = f"e-{values['condition'].replace('/', '-')}-seed{values['seed']}"
folder = pathlib.Path(values.get("output_dir", "out"), name)
folder.mkdir(parents=True, exist_ok=True)
lock = (folder / ".lock").open("w")
time.sleep(0.3)  # as train.py, which looks for the lock seconds after its start
try:
    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    print("error: is being written by another process", file=sys.stderr)
    sys.exit(2)
if (folder / "results.json").exists():
    sys.exit(0)
starts = folder / "starts"
with starts.open("a") as file:
    file.write(".")
plan = json.loads(pathlib.Path("plan.json").read_text()).get(name, [])
do = (plan[starts.stat().st_size - 1 :] or ["end"])[0]
print("step 1/2", flush=True)
if do == "mistake":
    print("error: trainer.devices: 9", file=sys.stderr)
    sys.exit(2)
if do == "fail":
    raise RuntimeError("out of luck")
if do == "hang":
    time.sleep(1000)
time.sleep(0.2)
(folder / "results.json").write_text(json.dumps({"metrics": {"val/segm/AP": 12.34}}))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with the program, an experiment, and a sweep over three conditions."""
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(PROGRAM)
    Path("e.yaml").write_text(f"extends: {ROOT / 'configs' / 'quickstart.yaml'}\noutput_dir: out\n")
    plan({})
    write()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield tmp_path
    sweep._interrupts.clear()
    for number, handler in before.items():  # sweep.main sets its own
        signal.signal(number, handler)


def plan(what):
    Path("plan.json").write_text(json.dumps(what))


def write(parameters=None, arguments="${args_no_hyphens}", **changes):
    content = {
        "program": "program.py",
        "method": "grid",
        "parameters": parameters or {"condition": {"values": CONDITIONS}, "seed": {"value": 3}},
        "command": ["${env}", "${interpreter}", "${program}", "--config", "e.yaml", arguments],
    }
    Path("s.yaml").write_text(yaml.safe_dump(content | changes))
    return Path("s.yaml")


def run(monkeypatch, *arguments):
    """Run sweep.py in this process: the imports are slow."""
    monkeypatch.setattr(sys, "argv", ["sweep.py", "s.yaml", *arguments])
    with pytest.raises(SystemExit) as end:
        sweep.main()
    return end.value.code


def start(*arguments, **environment):
    command = [sys.executable, ROOT / "sweep.py", "s.yaml", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment, **pipes)


def starts():
    return {path.parent.name: path.stat().st_size for path in Path("out").glob("*/starts")}


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def running():
    """The process ids of the program in this folder."""
    here, found = Path.cwd(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == here and b"program.py" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("arguments", ["${args}", "${args_no_hyphens}"])
def test_every_cell_runs_once(monkeypatch, capsys, arguments):
    write(arguments=arguments)
    assert run(monkeypatch, "--jobs", "2") == 0
    assert starts() == {"e-original-seed3": 1, "e-face-blur-seed3": 1, "e-body-blur-seed3": 1}
    output = capsys.readouterr().out
    assert "condition=body/blur seed=3: done  segm AP 12.3" in output
    assert output.splitlines()[-1] == "3 of 3 cells are done; results in out"
    assert run(monkeypatch) == 0, "finished cells are skipped"
    assert set(starts().values()) == {1}


def test_a_failed_cell_is_tried_again_after_the_others(monkeypatch, capsys):
    plan({"e-original-seed3": ["fail"], "e-face-blur-seed3": ["fail", "fail"], "e-body-blur-seed3": ["mistake"]})
    assert run(monkeypatch) == 1
    assert starts() == {"e-original-seed3": 2, "e-face-blur-seed3": 2, "e-body-blur-seed3": 1}
    output, errors = capsys.readouterr()
    once = output.index("condition=original seed=3: failed once  RuntimeError: out of luck")
    assert once < output.index("condition=body/blur seed=3: running") < output.index("condition=original seed=3: done")
    assert "failed: {'condition': 'face/blur', 'seed': 3}: RuntimeError: out of luck; log in out/logs/" in errors
    assert "failed: {'condition': 'body/blur', 'seed': 3}: error: trainer.devices: 9; log" in errors
    assert run(monkeypatch) == 0, "the next start tries what has failed"
    assert starts() == {"e-original-seed3": 2, "e-face-blur-seed3": 3, "e-body-blur-seed3": 2}


def test_killed_half_way_and_finished_by_a_second_start(monkeypatch):
    plan({"e-face-blur-seed3": ["hang"]})
    process = start()
    wait_for(lambda: starts().get("e-face-blur-seed3"))
    assert running()
    process.kill()
    process.communicate()
    wait_for(lambda: not running())  # the kernel ends what the killed process had started
    assert run(monkeypatch) == 0
    assert starts() == {"e-original-seed3": 1, "e-face-blur-seed3": 2, "e-body-blur-seed3": 1}


def test_an_interrupt_is_not_lost_where_python_drops_it(monkeypatch, capsys):
    plan({"e-original-seed3": ["hang"]})
    begin = Processes.start

    def interrupted(self, command, log):
        with contextlib.suppress(KeyboardInterrupt):  # as Python does with one that comes in the middle of a fork
            os.kill(os.getpid(), signal.SIGINT)
        return begin(self, command, log)

    monkeypatch.setattr(Processes, "start", interrupted)
    assert run(monkeypatch, "--jobs", "1") == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert not running()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_cleanly(monkeypatch, capsys, number):
    plan({"e-original-seed3": ["hang"]})
    process = start("--jobs", "2")
    wait_for(lambda: starts().get("e-original-seed3"))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted; the same command goes on\n"
    assert not running()
    assert "KeyboardInterrupt" in Path("out/logs/e-original-seed3.log").read_text(), "as by Ctrl-C"
    assert run(monkeypatch, "--jobs", "1") == 0
    said = capsys.readouterr().out
    assert "running" in said and "KeyboardInterrupt" not in said, "that is of the attempt before"


def test_two_starts_share_the_grid(monkeypatch, capsys):
    write({"condition": {"values": CONDITIONS}, "seed": {"values": [0, 1, 2]}})
    other = start()
    wait_for(starts)
    assert run(monkeypatch) == 0
    mine, theirs = capsys.readouterr().out, other.communicate(timeout=120)[0]
    assert other.returncode == 0
    assert Counter(starts().values()) == {1: 9}
    for output in (mine, theirs):
        assert "9 of 9 cells are done" in output and ": running" in output


def test_a_cell_that_another_start_has_taken_meanwhile_has_not_failed(monkeypatch):
    progress = Progress(Cell(["program"], {}), Path("out/e"), Path("log"))
    held = iter([True, True, False])
    monkeypatch.setattr("lightning_modules.results.is_held", lambda folder: next(held))
    progress.follow(SimpleNamespace(exit_code=lambda: 2))
    progress.update()
    assert (progress.state, progress.failures) == ("elsewhere", 0)
    progress.update()
    assert progress.state == "waiting"


def test_what_cells_lack_is_said_before_any_is_started(monkeypatch, capsys):
    write({"condition": {"values": [*CONDITIONS, "body/realistic"]}, "seed": {"values": [0, 1]}})
    assert run(monkeypatch, "--dry-run", "generators.body=null") == 0
    assert capsys.readouterr().err == (
        "warning: 2 of 8 cells will fail: generators.body: is missing; body/realistic needs one: see "
        "docs/generators.md\n"
    )


@pytest.mark.parametrize(
    ("visible", "count", "devices"),
    [
        (None, 0, [None]),
        ("", 0, [None]),
        (None, 1, ["0"]),
        (None, 3, ["0", "1", "2"]),
        ("5", 1, ["5"]),
        ("GPU-a,GPU-b", 2, ["GPU-a", "GPU-b"]),
    ],
)
def test_a_process_a_gpu(monkeypatch, visible, count, devices):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    processes = Processes(None)
    assert processes.slots == len(devices)
    say = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"]
    jobs = [processes.start(say, Path(f"{i}.log")) for i in range(processes.slots)]
    wait_for(lambda: all(job.exit_code() == 0 for job in jobs))
    expected = [visible if device is None else device for device in devices]
    assert [Path(f"{i}.log").read_text().strip() for i in range(len(jobs))] == list(map(str, expected))


def test_dry_run_only_prints(monkeypatch, capsys):
    assert run(monkeypatch, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("program.py ")[2] for line in lines] == [
        f"--config e.yaml condition={condition} seed=3" for condition in CONDITIONS
    ]
    assert not Path("out").exists() and not Path("outputs").exists()


def test_a_generator_is_no_cell(monkeypatch, capsys):
    config = Path(__file__).parents[1] / "configs/generators/streetscenes_face.yaml"
    write(
        command=["${interpreter}", "${program}", "--config", str(config), "${args_no_hyphens}"],
        parameters={"seed": {"values": [0]}},
    )
    assert run(monkeypatch, "--dry-run") == 2
    assert "trains a generator; a sweep is of detectors" in capsys.readouterr().err


def test_a_program_file_that_is_not_there_is_named(monkeypatch, capsys):
    Path("program.py").rename("programme.py")
    assert run(monkeypatch, "--dry-run") == 2
    assert "program: program.py does not exist" in capsys.readouterr().err


def test_overrides_go_to_every_cell_and_are_checked(monkeypatch, capsys):
    assert run(monkeypatch, "--dry-run", "data.num_workers=0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CONDITIONS) and all(line.endswith(" data.num_workers=0") for line in lines)
    assert run(monkeypatch, "--dry-run", "data.num_worker=0") == 2
    assert "unknown key 'data.num_worker'" in capsys.readouterr().err
    assert run(monkeypatch, "--dry-run", "seed=1", "condition=original") == 2
    assert "both write to" in capsys.readouterr().err


SBATCH = """#!{python}
import os, pathlib, subprocess, sys
text = pathlib.Path(sys.argv[-1]).read_text()
jobs = pathlib.Path("jobs")
number = str(len(list(jobs.glob("*.sh"))) + 1)
(jobs / f"{{number}}.sh").write_text(text)
environment = os.environ | {{"SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}}
environment |= {{"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "here"}}
out = open(jobs / f"{{number}}.out", "w")
process = subprocess.Popen(["bash", sys.argv[-1]], env=environment, stdout=out, stderr=out, start_new_session=True)
(jobs / f"{{number}}.pid").write_text(str(process.pid))
print("Submitted batch job", number)
"""
SACCT = """#!{python}
import pathlib, sys
print("JobID|State|NodeList")
for path in pathlib.Path("jobs").glob("*.pid"):
    stat = pathlib.Path("/proc", path.read_text(), "stat")
    alive = stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    print(path.stem, "RUNNING" if alive else "COMPLETED", "here", sep="|")
"""
SRUN = """#!{python}
import os, sys
command = sys.argv[1:]
while command[0].startswith("-"):
    del command[0 : 1 if "=" in command[0] or command[0] == "--unbuffered" else 2]
os.execvp(command[0], command)
"""


@pytest.fixture
def cluster(folder):
    """A stand-in for SLURM's commands: jobs are processes of this machine. submitit itself is the real one."""
    (folder / "bin").mkdir()
    (folder / "jobs").mkdir()
    for name, text in {"sbatch": SBATCH, "sacct": SACCT, "srun": SRUN, "scontrol": SACCT}.items():
        path = folder / "bin" / name
        path.write_text(text.format(python=sys.executable))
        path.chmod(0o755)
    yield {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    for process in running():
        os.kill(process, signal.SIGKILL)


def test_slurm(cluster):
    """Cells go to the cluster; who leaves finds them again, and no job is submitted twice."""
    plan({"e-original-seed3": ["hang"]})
    options = ("--executor", "slurm", "--partition", "gpus", "--minutes", "90", "--gpus", "2", "--cpus", "4")
    process = start(*options, **cluster)
    wait_for(lambda: len(list(Path("out").glob("*/results.json"))) == 2 and running())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(running()) == 1, "the cluster goes on"
    submitted = Path("jobs/1.sh").read_text()
    for option in ("--partition=gpus", "--time=90", "--gpus-per-node=2", "--cpus-per-task=4"):
        assert f"#SBATCH {option}\n" in submitted
    process = start(*options, **cluster)
    time.sleep(1)
    os.kill(running()[0], signal.SIGKILL)  # the job fails; it is submitted once more and ends well
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert starts() == {"e-original-seed3": 2, "e-face-blur-seed3": 1, "e-body-blur-seed3": 1}
    assert len(list(Path("jobs").glob("*.sh"))) == 4


def test_a_job_with_other_settings_is_not_taken_for_a_cell(cluster, monkeypatch):
    monkeypatch.setenv("PATH", cluster["PATH"])
    slurm, log = Slurm(None, None, 1, 0, 1), Path("logs/e.log")
    log.parent.mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(60)", "program.py"]
    slurm.start(command, log)
    assert slurm.attach(command, log) is not None
    assert slurm.attach([*command, "optimizer.lr=1"], log) is None
    assert slurm.attach(command, Path("logs/other.log")) is None


def test_a_slurm_job_is_one_task_that_starts_processes_itself(monkeypatch, tmp_path):
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "cell", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    detect = "from lightning_fabric.plugins.environments import SLURMEnvironment as S; print(S.detect())"
    assert Command([sys.executable, "-c", detect], tmp_path / "log", threads=1)() == 0
    assert (tmp_path / "log").read_text() == "False\n", "to Lightning srun has started one process a device"


def test_no_slurm_here_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert run(monkeypatch, "--executor", "slurm") == 2
    assert re.fullmatch("error: --executor slurm: .*srun.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "random"}, r"s\.yaml: method: 'random' cannot be run here; use grid"),
        ({"parameters": [1]}, r"s\.yaml: parameters: \[1\] are no mapping"),
        ({"command": "train.py"}, r"s\.yaml: command: 'train\.py' is no list"),
        ({"command": ["${arg}"]}, r"s\.yaml: command: unknown macro '\$\{arg\}', did you mean '\$\{args\}'\?"),
        ({"parameters": {"data": {"parameters": {"seed": {"value": 1}}}}}, r"parameters\.data: is nested; give flat"),
        ({"parameters": {"seed": {"min": 1, "max": 3}}}, r"parameters\.seed: .* has neither value nor values alone"),
        ({"parameters": {"seed": {"values": 1}}}, r"parameters\.seed\.values: 1 is no list"),
        ({"parameters": {"seed": {"values": []}}}, r"parameters\.seed\.values: \[\] is no list"),
        ({"parameters": {"seed": {"values": [{"a": 1}]}}}, r"parameters\.seed: .* is no scalar"),
        ({"parameters": {"seed": {"values": [1, 2, 1]}}}, r"parameters\.seed: 1 is there twice"),
        ({"parameters": {1: {"value": 1}}}, r"parameters: 1 is no name; put it in quotes"),
        ({"parameters": {n: {"values": [*range(10)]} for n in "abcdef"}}, r"a grid of 1000000 cells is more"),
        ({"parameters": {"sed": {"value": 1}}}, r"s\.yaml: sed=1: .*unknown key 'sed', did you mean 'seed'"),
        ({"parameters": {"condition": {"value": "body/blurr"}}}, r"s\.yaml: condition=body/blurr: .*body/blur"),
        ({"parameters": {"optimizer.lr": {"values": [1, 2]}}}, r"both write to out/e-original-seed0; leave one out"),
    ],
)
def test_a_mistake_in_the_file_is_named_before_anything_starts(changes, message):
    path = write(**changes)
    with pytest.raises(UserError, match=message):
        check(path, read_cells(path))


def test_unreadable_files_are_named():
    with pytest.raises(UserError, match=r"nowhere\.yaml does not exist"):
        read_cells(Path("nowhere.yaml"))
    for text, message in [
        ("a: [", "cannot be read as YAML"),
        ("a: 2001-99-99", "cannot be read as YAML: month must be in 1..12"),
        ("a: !!int ''", "cannot be read as YAML"),
        ("[1]", "no mapping"),
        ("program: a", "command is missing"),
    ]:
        Path("bad.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            read_cells(Path("bad.yaml"))


def test_a_folder_of_another_sweep_is_named(monkeypatch, capsys):
    folder = Path("out/e-body-blur-seed3")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/last.ckpt").touch()
    config = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"seed": 3, "name": "e", "condition": "body/blur"}))
    path = write()
    check(path, read_cells(path))  # the same run
    config["optimizer"]["lr"] = 7
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"seed": 3, "name": "e", "condition": "body/blur"}))
    assert run(monkeypatch) == 2
    error = capsys.readouterr().err
    assert "condition=body/blur seed=3: out/e-body-blur-seed3 holds a run with optimizer.lr=7.0, this one" in error
    assert not starts(), "nothing was started"


def test_a_cell_that_was_done_meanwhile_with_other_settings_is_named(monkeypatch, capsys):
    folder = Path("out/e-body-blur-seed3")
    folder.mkdir(parents=True)
    config = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    config |= {"seed": 3, "name": "e", "condition": "body/blur", "optimizer": config["optimizer"] | {"lr": 7}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))  # as another start writes it; then there are results
    assert run(monkeypatch) == 2
    assert "out/e-body-blur-seed3 holds a run with optimizer.lr=7.0, this one" in capsys.readouterr().err


def test_a_cell_that_is_under_way_with_other_settings_is_named(monkeypatch, capsys):
    monkeypatch.setattr("lightning_modules.results.is_held", lambda folder: folder.name == "e-body-blur-seed3")
    folder = Path("out/e-body-blur-seed3")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"extends: {ROOT / 'configs' / 'quickstart.yaml'}\nname: e\noptimizer: {{lr: 7}}"
    )
    assert run(monkeypatch) == 2
    assert "e-body-blur-seed3 holds a run with" in capsys.readouterr().err and not starts()


def test_a_program_that_is_not_there_is_named(monkeypatch, capsys):
    write(command=["pithon", "${program}", "--config", "e.yaml", "${args_no_hyphens}"])
    assert run(monkeypatch) == 2
    assert capsys.readouterr().err == "error: s.yaml: command: there is no program pithon here\n"


def test_the_table_fits_the_terminal():
    cells = [Progress(Cell({"seed": i}, []), Path("out") / str(i), Path(f"{i}.log")) for i in range(50)]
    cells[40].state, cells[45].state = "running", "failed"
    Path("40.log").write_text("step 1\nepoch 2  loss 1.5\n\x1b[1;34mwandb\x1b[0m: hm\n\n")
    console = Console(width=60, height=12, record=True, file=io.StringIO())
    console.print(sweep.table(cells, 12))
    lines = console.export_text().splitlines()
    assert len(lines) <= 12
    assert "40" in lines[3] and "epoch 2  loss 1.5" in lines[3], "what runs comes first"
    assert "1 running, 1 failed, 48 waiting" in lines[-1]


FILES = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_shipped_files_are_w_and_b_sweeps_of_valid_cells(path, monkeypatch):
    """W&B's own schema and its own grid search are the truth."""
    monkeypatch.chdir(ROOT)
    content = yaml.safe_load(path.read_text())
    assert schema_violations_from_proposed_config(content) == []
    assert content["metric"]["goal"] == "maximize" and content["method"] == "grid" and content["program"] == "train.py"
    suggested = grid_search_next_runs([], content, validate=True, n=1000)
    expected = [{name: of["value"] for name, of in run.config.items()} for run in suggested if run]
    cells = read_cells(path)
    assert [cell.parameters for cell in cells] == expected
    check(path, cells)  # every cell is a config, none comes twice


def protocol():
    """The cells of PROTOCOL.md's table: (table, condition)."""
    if not PROTOCOL.exists():
        pytest.skip("no PROTOCOL.md beside the repository")
    for line in PROTOCOL.read_text().splitlines():
        if match := re.fullmatch(r"\| .* \| .*R-CNN.* \| (.*) \| (\d) \|", line):
            for group in match[1].split("; "):
                if group == "original":
                    yield int(match[2]), "original"
                else:
                    region, methods = re.fullmatch(r"(\w+) × \{(.*)\}", group).groups()
                    yield from ((int(match[2]), f"{region}/{method}") for method in methods.split(", "))


def test_the_papers_sweeps_are_the_papers_cells():
    experiments = ["cityscapes", "coco_keypoints", "bdd100k", "coco_instances", "cityscapes_no_person"]
    expected = Counter((experiments[t - 1], condition, seed) for t, condition in protocol() for seed in range(3))
    assert len(expected) == 93
    tables, everything = Counter(), Counter()
    for experiment in experiments:
        for cell in read_cells(ROOT / "sweeps" / f"{experiment}.yaml"):
            assert cell.command[2:4] == ["--config", f"configs/{experiment}.yaml"]
            tables[experiment, cell.parameters["condition"], cell.parameters["seed"]] += 1
    for cell in read_cells(ROOT / "sweeps" / "all.yaml"):
        experiment, condition = re.fullmatch(r"configs/(\w+)\.yaml:(.*)", cell.parameters["cell"]).groups()
        everything[experiment, condition, cell.parameters["seed"]] += 1
    assert tables == everything == expected
