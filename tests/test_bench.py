"""The bench programs run and report what they promise. What they measured is in docs/benchmarks.md."""

import json
import math
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import peers, step
from bench.measure import read_ids
from data.jsonl import write_jsonl
from model.checkpoint import save_model
from model.families import parse_config
from model.transformer import Transformer
from tests.conftest import ARCHITECTURE

BENCH = Path(__file__).parent.parent / "bench"
KEYS = {"name", "step_s", "cpu_s", "losses", "peak_mb", "base_mb", "ref_s"}
STEPS, BATCH, PAIRS = 3, 2, 5  # the last step wraps around


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A random model without a tokenizer, and pairs that have ids and no text, as options."""
    folder = tmp_path_factory.mktemp("bench")
    torch.manual_seed(0)
    save_model(Transformer(parse_config(ARCHITECTURE | {"vocab_size": 97})), folder / "model")
    random = np.random.default_rng(0)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = [
        {name: random.integers(3, 97, random.integers(2, 9)).tolist() for name in names} for _ in range(PAIRS)
    ]
    write_jsonl(folder / "pairs.jsonl", rows)
    return ["--model", str(folder / "model"), "--pairs", str(folder / "pairs.jsonl")]


def bench(program: str, *options: str) -> dict:
    """What the last line of a bench program says."""
    done = subprocess.run([sys.executable, BENCH / program, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("BENCH ")
    return json.loads(last.removeprefix("BENCH "))


def steps(program: str, workload: list[str], *options: str) -> dict:
    return bench(program, *workload, "--steps", str(STEPS), "--batch", str(BATCH), *options)


@pytest.fixture(scope="module")
def project(workload: list[str]) -> dict:
    return steps("step.py", workload)


def test_a_step_reports_what_was_promised(project):
    assert set(project) >= KEYS
    assert project["name"] == "project"
    for name in ("step_s", "cpu_s", "losses"):
        assert len(project[name]) == STEPS
        assert all(math.isfinite(value) and value > 0 for value in project[name])
    assert project["peak_mb"] >= project["base_mb"] > 0
    assert project["ref_pairs"] == PAIRS


def test_the_first_loss_is_log_2_and_wrapped_pairs_have_been_seen(project):
    assert project["losses"][0] == pytest.approx(math.log(2), abs=1e-6)
    assert project["losses"][1] == pytest.approx(math.log(2), abs=0.1)
    assert project["losses"][1] != project["losses"][0]


@pytest.mark.parametrize(
    ("changed", "tolerance"), [({"microbatch": 1}, 1e-5), ({"dtype": "amp"}, 0.01), ({"dtype": "bf16"}, 0.01)]
)
def test_microbatches_and_shorter_types_hardly_change_the_losses(project, workload, changed, tolerance):
    settings = {"steps": STEPS, "batch": BATCH, "dtype": "fp32", "device": "cpu", "microbatch": 8192}
    settings |= {"model": Path(workload[1]), "pairs": Path(workload[3]), "checkpoint_activations": False}
    run = step.measure(Namespace(**settings | changed))
    assert run.losses == pytest.approx(project["losses"], abs=tolerance)


def test_rows_without_ids_are_refused(tmp_path):
    write_jsonl(tmp_path / "text.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    with pytest.raises(ValueError, match="line 1: prompt_ids, chosen_ids and rejected_ids must have tokens"):
        read_ids(tmp_path / "text.jsonl", 8)


@pytest.mark.slow
@pytest.mark.parametrize("options", [("peer_trl.py",), ("peer_trl.py", "--precompute"), ("peer_2023.py",)])
def test_a_peer_takes_the_same_steps(project, workload, options):
    program, *rest = options
    pytest.importorskip("trl" if "trl" in program else "transformers", reason="a peer to measure beside")
    peer = steps(program, workload, *rest)
    assert set(peer) >= KEYS
    assert peer["losses"] == pytest.approx(project["losses"], abs=1e-5)


def test_peers_makes_its_workload_and_compares_what_is_installed(tmp_path, monkeypatch):
    small = peers.Setting(
        ARCHITECTURE | {"vocab_size": 97}, batch=2, dtype="fp32", prompt=(4, 9), completion=(2, 9)
    )
    monkeypatch.setattr(peers, "SETTINGS", {"tiny": small})
    monkeypatch.setattr(peers, "METHODS", {"project": peers.METHODS["project"]})
    printed: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
    arguments = ["peers.py", "--rounds", "1", "--steps", "2", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--methods", "project", "--models", "tiny"])
    peers.main()
    assert printed[-1].startswith("BENCH ")
    row = json.loads(printed[-1].removeprefix("BENCH "))["models"]["tiny"]["project"]
    assert row["step_s_ratio"] == 1
    assert row["memory_mb"] > 0


def test_peers_reports_ratios_and_loss_differences():
    rows = {
        "project": {"step_s": 2.0, "cpu_s": 4.0, "memory_mb": 10.0, "losses": [0.7, 0.5]},
        "trl": {"step_s": 5.0, "cpu_s": 6.0, "memory_mb": 40.0, "losses": [0.7, 0.53]},
    }
    peers.compare(rows)
    assert rows["trl"]["step_s_ratio"] == 2.5
    assert rows["trl"]["memory_mb_ratio"] == 4
    assert rows["project"]["loss_difference"] == pytest.approx(0.03)
