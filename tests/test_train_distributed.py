"""train_dpo.py and train_sft.py on two gloo processes: as one process, to rounding. Also their program.

Both processes call the programs' `main` with the same overrides, run after run; the tests look at the files.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train_dpo
import train_sft
from model.checkpoint import load_model
from model.distributed import leave
from tests.conftest import compose_config, run_processes
from tests.test_train_dpo import SMALL, metrics
from tests.test_train_sft import SMALL as SFT

# A pair to a microbatch, five to a step: the second process gets an empty one in every step.
COMMON = ("device=cpu", *SMALL, "optim.batch=5", "optim.microbatch=1", "optim.validate_every=3")
RUNS = {
    "straight": (),
    "stopped": (),
    "lora": ("model.lora.rank=1",),
    "bf16": ("model.dtype=bf16", "optim.lr=1e-3"),
    "amp": ("model.dtype=amp",),
}
STOP_AFTER = 3  # steps of the run called stopped, told to one process only
pytestmark = pytest.mark.slow  # the first of these starts two processes: about half a minute


def kill_myself_in_step(number: int) -> None:
    """The process gets a SIGTERM while it computes that step."""
    real, calls = train_dpo.train_step, []

    def step(*arguments: object) -> object:
        calls.append(None)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    train_dpo.train_step = step


def run(main: object, *overrides: str) -> int:
    """The exit code of a program in this process."""
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)  # the processes meet anew
    try:
        main(compose_config(*overrides))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def main(policy: str, pairs: str) -> None:
    """All runs of RUNS, the stopped one twice, and a likelihood run from nothing."""
    torch.set_num_threads(1)
    paths = (f"model.path={policy}", f"data.pairs={pairs}")
    codes, real_step = {}, train_dpo.train_step
    for name, overrides in RUNS.items():
        if name == "stopped" and os.environ["RANK"] == "1":
            kill_myself_in_step(STOP_AFTER)
        codes[name] = run(train_dpo.main, *COMMON, *paths, f"run.name={name}", *overrides)
        train_dpo.train_step = real_step
    position = Path("out/stopped/dpo/training/position.json")
    codes["stopped at"] = json.loads(position.read_text())["step"]
    if os.environ["RANK"] == "0":
        shutil.copytree("out/stopped", "out/halfway")
    codes["resumed"] = run(train_dpo.main, *COMMON, *paths, "run.name=stopped")
    codes["sft"] = run(train_sft.main, *SFT, "run.name=sft", "optim.microbatch=512")
    Path(f"codes-{os.environ['RANK']}.json").write_text(json.dumps(codes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_policy, tiny_pairs) -> Path:
    """The working directory of the two processes, after all their runs."""
    folder = tmp_path_factory.mktemp("two")
    printed = run_processes([str(Path(__file__)), str(tiny_policy), str(tiny_pairs)], folder)
    (folder / "printed.txt").write_text(printed)
    return folder


@pytest.fixture
def alone(run_program, tiny_policy, tiny_pairs):
    """alone(name) -> exit code of the same run in one process, in an empty directory."""

    def train(name: str, *overrides: str) -> int:
        paths = (f"model.path={tiny_policy}", f"data.pairs={tiny_pairs}", f"run.name={name}")
        return run_program(train_dpo.main, *COMMON, *paths, *RUNS[name], *overrides)

    return train


def rows(home: Path, name: str, stage: str = "dpo") -> list[dict]:
    return [
        json.loads(row) for row in (home / "out" / name / f"{stage}.metrics.jsonl").read_text().splitlines()
    ]


def weights(home: Path, name: str, stage: str = "dpo") -> dict[str, torch.Tensor]:
    return load_file(home / "out" / name / stage / "model.safetensors")


def assert_same_metrics(found: list[dict], expected: list[dict], tolerance: float) -> None:
    """Every number but the time, relative to its size or to 1."""
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"seconds"}:
            assert a[name] == pytest.approx(b[name], rel=tolerance, abs=tolerance), (a["step"], name)


@pytest.mark.parametrize(("name", "tolerance"), [("straight", 2e-3), ("lora", 2e-3), ("amp", 0.05)])
def test_two_processes_train_as_one_does(folder, alone, name, tolerance):
    assert alone(name) == 0
    expected = metrics(name)
    assert any("validation/loss" in row for row in expected)
    assert_same_metrics(rows(folder, name)[:1], expected[:1], tolerance / 20)
    assert_same_metrics(rows(folder, name), expected, tolerance)
    together = weights(folder, name)
    differences = {key: (together[key] - tensor).abs() for key, tensor in weights(Path(), name).items()}
    for key, difference in differences.items():
        # A gradient near zero, rounded to bfloat16, may have another sign; Adam makes whole steps of both.
        outliers = (difference > 5e-4).float().mean()
        assert outliers <= (2e-4 if name == "amp" else 0), key
        assert difference.max() < (5e-3 if name == "amp" else 5e-4), key


def test_bfloat16_trains_through_sharded_masters(folder, alone):
    assert alone("bf16") == 0
    assert_same_metrics(rows(folder, "bf16")[:1], metrics("bf16")[:1], 0.05)
    last = [
        [row["loss"] for row in run if "loss" in row][-1] for run in (rows(folder, "bf16"), metrics("bf16"))
    ]
    assert last[0] == pytest.approx(last[1], abs=0.05)
    assert all(tensor.dtype == torch.bfloat16 for tensor in weights(folder, "bf16").values())


def test_one_process_loads_what_two_saved_and_finds_what_they_scored(folder, alone, monkeypatch, capsys):
    assert (
        load_model(folder / "out/straight/dpo").config == load_model(folder / "out/straight/dpo-best").config
    )
    assert (folder / "out/lora/dpo/adapter/adapter_model.safetensors").exists()
    assert alone("straight", f"run.cache={folder / 'out/reference_logps'}") == 0
    assert "0 pairs scored, 20 found" in capsys.readouterr().out


def test_a_signal_to_one_process_stops_both_after_the_same_step(folder):
    for rank in (0, 1):
        codes = json.loads((folder / f"codes-{rank}.json").read_text())
        assert codes.pop("stopped") == 128 + signal.SIGTERM
        assert codes.pop("stopped at") == STOP_AFTER
        assert set(codes.values()) == {0}, codes
    assert f"stopped after step {STOP_AFTER}" in (folder / "printed.txt").read_text()


def test_one_process_goes_on_from_what_two_have_saved(folder, alone, tmp_path):
    shutil.copytree(folder / "out/halfway", tmp_path / "out/straight")
    assert alone("straight", f"run.cache={folder / 'out/reference_logps'}") == 0
    assert_same_metrics(metrics("straight"), rows(folder, "straight"), 2e-3)
    assert metrics("straight")[:STOP_AFTER] == rows(folder, "stopped")[:STOP_AFTER]
    for key, tensor in weights(Path(), "straight").items():
        torch.testing.assert_close(weights(folder, "straight")[key], tensor, atol=5e-4, rtol=0)


def test_going_on_is_bit_identical(folder):
    straight, resumed = weights(folder, "straight"), weights(folder, "stopped")
    assert all(torch.equal(tensor, straight[name]) for name, tensor in resumed.items())
    assert_same_metrics(rows(folder, "stopped"), rows(folder, "straight"), 0.0)
    best = [
        load_file(folder / "out" / name / "dpo-best/model.safetensors") for name in ("straight", "stopped")
    ]
    assert all(torch.equal(tensor, best[0][name]) for name, tensor in best[1].items())


def test_only_the_first_process_prints_and_writes_metrics(folder):
    printed = (folder / "printed.txt").read_text()
    assert printed.count("policy     out/straight/dpo") == 1
    assert len({row["step"] for row in rows(folder, "straight") if "loss" in row}) == len(
        [row for row in rows(folder, "straight") if "loss" in row]
    )


def test_likelihood_training_from_nothing_runs_on_two(folder, run_program):
    assert run_program(train_sft.main, *SFT, "run.name=sft", "optim.microbatch=512") == 0
    assert_same_metrics(rows(folder, "sft", "sft"), rows(Path(), "sft", "sft"), 2e-3)


def test_torchrun_starts_it_and_a_loss_that_couples_pairs_is_refused(tmp_path, tiny_policy, tiny_pairs):
    root = Path(train_dpo.__file__).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    paths = (f"model.path={tiny_policy}", f"data.pairs={tiny_pairs}", "run.name=t", "device=cpu", "loss=aot")
    done = subprocess.run(
        [*command, str(root / "train_dpo.py"), *paths],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    said = r"error(| in process 1): this loss couples the pairs of a step and needs one process, found 2"
    assert re.search(said, done.stderr)  # who says it first ends the other
    assert not (tmp_path / "out/t/dpo").exists()


if __name__ == "__main__":
    main(*sys.argv[1:])
    leave()
