"""Measured training on two gloo processes: as one process, to rounding."""

import sys
from pathlib import Path

import pytest
import torch

from model.distributed import leave
from tests.conftest import run_processes
from tests.test_train_distributed import assert_same_metrics, rows, run, weights
from tests.test_train_dpo import SMALL
from variants import train_measured

# A pair to a microbatch, five to a step: the second process gets an empty one in every step.
COMMON = ("device=cpu", *SMALL, "optim.batch=5", "optim.microbatch=1", "optim.max_steps=3")
RUNS = {
    "tdpo": ("loss=tdpo2",),
    "wpo": ("loss=wpo",),
    "lora": ("loss=tdpo1", "model.lora.rank=1"),
}
pytestmark = pytest.mark.slow  # the first of these starts two processes: about half a minute


def overrides(name: str, policy: str, pairs: str) -> tuple[str, ...]:
    return (*COMMON, f"model.path={policy}", f"data.pairs={pairs}", f"run.name={name}", *RUNS[name])


def main(policy: str, pairs: str) -> None:
    """All of RUNS, one after the other."""
    torch.set_num_threads(1)
    for name in RUNS:
        assert run(train_measured.main, *overrides(name, policy, pairs)) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_policy, tiny_pairs) -> Path:
    """The working directory of the two processes, after all their runs."""
    folder = tmp_path_factory.mktemp("two")
    run_processes([str(Path(__file__)), str(tiny_policy), str(tiny_pairs)], folder)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_are_one(folder, run_program, tiny_policy, tiny_pairs, tmp_path, name):
    settings = overrides(name, str(tiny_policy), str(tiny_pairs))
    assert run_program(train_measured.main, *settings) == 0
    assert_same_metrics(rows(folder, name), rows(tmp_path, name), 1e-4)
    expected = weights(tmp_path, name)
    for key, tensor in weights(folder, name).items():
        torch.testing.assert_close(tensor, expected[key], atol=2e-5, rtol=1e-3)


if __name__ == "__main__":
    main(*sys.argv[1:])
    leave()
