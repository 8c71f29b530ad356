"""Which W&B run a folder is; the rest is in tests/test_wandb.py, with the real client and a server."""

from lightning_modules.tracking import _run_id


def test_a_run_started_again_is_the_same_run(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    first, other = _run_id(tmp_path / "a"), _run_id(tmp_path / "b")
    assert first == _run_id(tmp_path / "a") != other
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    assert _run_id(tmp_path / "a") == "agents", "an agent's run is that of its sweep"
