"""model/distributed.py on two gloo processes: gradients, traps, checkpoints. This file is also their program.

Both processes run `main` below and the first writes what it saw; the tests compare it with one process.
"""

import contextlib
import copy
import os
import subprocess
import sys
import time
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from losses.logprobs import token_logps
from model.distributed import (
    finish,
    first,
    gather,
    largest,
    leave,
    on_first,
    require_one_process,
    reshard,
    scatter,
    setup,
    shard,
    share,
    total,
)
from model.optim import MasterAdamW, adamw, clip_grad_norm
from model.rotary import Rope
from model.transformer import ModelConfig, Transformer
from tests.conftest import ROOT, free_port, run_processes

PAIRS = 5  # over two processes: three and two
DTYPES = (torch.float32, torch.bfloat16)
build_optimizer = partial(adamw, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)


def tiny(tied: bool) -> Transformer:
    config = ModelConfig(
        vocab_size=31, width=16, layers=2, heads=4, kv_heads=2, head_width=4, mlp_width=24, context=64,
        tied=tied, rope=Rope(4),
    )  # fmt: skip
    model = Transformer(config)
    model.initialize(torch.Generator().manual_seed(0))
    return model


def pair(i: int) -> tuple[Tensor, Tensor, Tensor]:
    """ids, positions, spans of one pair; lengths differ between pairs. Of no pair for -1."""
    if i < 0:
        nothing = torch.empty(0, dtype=torch.int64)
        return nothing, nothing, nothing.view(0, 4)
    prompt, chosen, rejected = 3 + i, 2 + i, 4
    ids = torch.randint(0, 31, (prompt + chosen + rejected,), generator=torch.Generator().manual_seed(i))
    positions = torch.cat([torch.arange(prompt + chosen), torch.arange(prompt, prompt + rejected)])
    return ids, positions, torch.tensor([[0, prompt, chosen, rejected]])


def loss(policy: Transformer, i: int) -> Tensor:
    """Log-probs of the chosen completion, the head used outside the module as in training."""
    ids, positions, spans = pair(i)
    hidden = policy(ids, positions, spans)
    source = [torch.arange(prompt - 1, prompt + chosen - 1) for _, prompt, chosen, _ in spans.tolist()]
    source = torch.cat([torch.empty(0, dtype=torch.int64), *source])
    return -token_logps(hidden[source], policy.lm_head.weight, ids[source + 1]).sum()


def step(policy: Transformer, optimizer: object, mine: list[int], clip: float = 0.5) -> Tensor:
    """One update on the pairs of this process; the loss is a mean over all PAIRS."""
    optimizer.zero_grad()
    for i in mine:
        (loss(policy, i) / PAIRS).backward()
    norm = clip_grad_norm(policy.parameters(), clip)
    optimizer.step()
    return norm


def full(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: t.detach().full_tensor() if hasattr(t, "full_tensor") else t.detach().clone()
        for name, t in tensors.items()
    }


def grads(policy: Transformer) -> dict[str, Tensor]:
    return full({name: p.grad for name, p in policy.named_parameters()})


def observe(rank: int, tied: bool, dtype: torch.dtype) -> dict:
    """What two processes see of one model; every process runs this."""
    mine = [group[0] if group else -1 for group in share([[i] for i in range(PAIRS)])]
    seen: dict = {
        "mine": mine,
        "total": total(float(rank + 1)),
        "totals": total([1.0, rank]),
        "largest": largest(rank),
    }
    seen["first"] = (first(), on_first(lambda: f"made by {rank}"))

    policy = shard(tiny(tied).to(dtype), torch.device("cpu"))
    optimizer = build_optimizer(policy)
    seen["sharded"] = [hasattr(p, "full_tensor") for p in policy.parameters()]
    seen["masters"] = isinstance(optimizer, MasterAdamW)
    with torch.no_grad():
        seen["scores"] = [loss(policy, i) for i in range(PAIRS)]  # a pass without backward, as for the cache
    reshard(policy)
    for i in mine:
        (loss(policy, i) / PAIRS).backward()
    seen["grads"] = grads(policy)
    seen["norm"] = clip_grad_norm(policy.parameters(), 0.5)
    seen["clipped"] = grads(policy)
    optimizer.step()
    optimizer.zero_grad()
    seen["stepped"] = full(dict(policy.named_parameters()))

    saved = on_first(lambda state: state, copy.deepcopy(gather(optimizer.state_dict())))
    step(policy, optimizer, mine)
    seen["straight"] = full(dict(policy.named_parameters()))
    resumed = tiny(tied).to(dtype)
    resumed.load_state_dict(seen["stepped"], strict=False)
    resumed = shard(resumed, torch.device("cpu"))
    again = build_optimizer(resumed)
    parameters = [p for group in again.param_groups for p in group["params"]]
    again.load_state_dict(scatter(saved, parameters))
    resumed.checkpoint_activations = True
    step(resumed, again, mine)
    seen["resumed"] = full(dict(resumed.named_parameters()))

    with torch.no_grad():
        loss(policy, 0)
        reshard(policy)
        for p in policy.parameters():
            p.add_(1.0)
        seen["after_update"] = loss(policy, 0)
    reshard(policy)
    seen["gathered"] = gather(dict(policy.named_parameters()))
    return seen


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    setup(torch.device("cpu"))
    rank = int(os.environ["RANK"])
    seen = {(tied, dtype): observe(rank, tied, dtype) for tied in (True, False) for dtype in DTYPES}
    print("printed by", rank)
    torch.save(seen, folder / f"seen-{rank}.pt")
    finish()


def straggle(rank: int) -> None:
    """The first process ends while what the second one sends it still arrives."""
    group = setup(torch.device("cpu")), dist.group.WORLD  # as a sharded model, it holds the group to the end
    assert len(group) == total(1.0)
    if rank == 0:
        for _ in range(20):
            dist.all_reduce(torch.ones(1000), async_op=True)
        leave(SystemExit(3))
    time.sleep(0.05)
    with contextlib.suppress(RuntimeError):  # the first process is gone
        for _ in range(20):
            dist.all_reduce(torch.ones(1000))
    leave(KeyError("named"))


def end_often() -> None:
    """Print the exit codes of processes that were forked off here, where everything is imported."""
    port = int(os.environ["MASTER_PORT"])
    for attempt in range(8):
        children = []
        for rank in range(2):
            if not (child := os.fork()):
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port + attempt)}
                straggle(rank)
            children.append(child)
        print("codes", [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], flush=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[dict, dict, str]:
    """What each of the two processes saw, and what they printed."""
    folder = tmp_path_factory.mktemp("distributed")
    printed = run_processes([str(Path(__file__)), str(folder)], folder)
    first, second = (torch.load(folder / f"seen-{rank}.pt") for rank in (0, 1))
    return first, second, printed


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def seen(runs, request) -> tuple[dict, dict, bool]:
    return *(process[request.param, torch.float32] for process in runs[:2]), request.param


slow = pytest.mark.slow  # the first of these starts two processes: about ten seconds


def single(tied: bool, dtype: torch.dtype = torch.float32) -> Transformer:
    model = tiny(tied).to(dtype)
    for i in range(PAIRS):
        (loss(model, i) / PAIRS).backward()
    return model


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@slow
def test_two_processes_give_the_gradients_of_one(seen):
    first, second, tied = seen
    assert all(first["sharded"])
    expected = grads(single(tied))
    assert max(g.abs().max() for g in expected.values()) > 0.1
    assert_same(first["grads"], expected, 1e-6)
    assert_same(second["grads"], expected, 1e-6)


@slow
def test_a_pass_without_gradient_gives_the_same_log_probs(seen):
    first, second, tied = seen
    model = tiny(tied)
    with torch.no_grad():
        expected = torch.stack([loss(model, i) for i in range(PAIRS)])
    torch.testing.assert_close(torch.stack(first["scores"]), expected)
    torch.testing.assert_close(torch.stack(second["scores"]), expected)


@slow
def test_clipping_and_step_agree_with_one_process(seen):
    first, second, tied = seen
    model = single(tied)
    norm = clip_grad_norm(model.parameters(), 0.5)
    assert norm > 0.5
    torch.testing.assert_close(first["norm"], norm)
    torch.testing.assert_close(second["norm"], norm)
    assert_same(first["clipped"], grads(model), 1e-6)
    build_optimizer(model).step()
    # Adam's first step is lr * sign(gradient): where a gradient is rounding noise its sign may differ.
    clear = {name: g.abs() > 1e-5 for name, g in grads(model).items()}
    for name, p in model.named_parameters():
        torch.testing.assert_close(
            first["stepped"][name][clear[name]], p.detach()[clear[name]], rtol=0, atol=1e-4
        )


@slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tied", [True, False])
def test_resuming_from_a_gathered_state_is_bit_exact(runs, tied, dtype):
    """With activation checkpointing in the resumed one."""
    for process in (run[tied, dtype] for run in runs[:2]):
        for name, value in process["straight"].items():
            assert torch.equal(process["resumed"][name], value), name
        assert any(
            not torch.equal(process["stepped"][name], value) for name, value in process["straight"].items()
        )


@slow
def test_an_update_after_a_pass_without_backward_is_seen(seen):
    first, second, tied = seen
    updated = tiny(tied)
    updated.load_state_dict(first["gathered"], strict=False)
    with torch.no_grad():
        expected = loss(updated, 0)
    torch.testing.assert_close(first["after_update"], expected)
    torch.testing.assert_close(second["after_update"], expected)


@slow
def test_the_first_process_gathers_whole_parameters(seen):
    first, second, tied = seen
    assert {name: t.shape for name, t in first["gathered"].items()} == {
        name: p.shape for name, p in tiny(tied).named_parameters()
    }
    assert second["gathered"] is None


@slow
@pytest.mark.parametrize("tied", [True, False])
def test_bfloat16_weights_have_sharded_float32_masters(runs, tied):
    """Two processes against one: gradients to bfloat16's rounding, and the step through masters."""
    found = runs[0][tied, torch.bfloat16]
    model = single(tied, torch.bfloat16)
    assert found["masters"]
    for name, gradient in grads(model).items():
        scale = gradient.abs().max()
        torch.testing.assert_close(found["grads"][name] / scale, gradient / scale, rtol=0, atol=0.03)
    norm = clip_grad_norm(model.parameters(), 0.5)
    torch.testing.assert_close(found["norm"], norm, rtol=0.01, atol=0)
    for name, p in tiny(tied).to(torch.bfloat16).named_parameters():
        moved = (found["stepped"][name].float() - p.detach().float()).abs().max()
        assert found["stepped"][name].dtype == torch.bfloat16
        assert 5e-3 < moved < 3e-2, name  # Adam's first step is the learning rate, 1e-2


@slow
def test_microbatches_are_dealt_in_turn_and_an_empty_one_makes_the_counts_equal(seen):
    first, second, _ = seen
    assert first["mine"] == [0, 2, 4]
    assert second["mine"] == [1, 3, -1]


@slow
def test_numbers_are_agreed_on(seen):
    for process in seen[:2]:
        assert process["total"] == 3.0
        assert process["totals"] == [2.0, 1.0]
        assert process["largest"] == 1


@slow
def test_only_the_first_process_prints_and_decides(runs, seen):
    assert runs[2].count("printed by") == 1
    assert "printed by 0" in runs[2]
    assert [process["first"] for process in seen[:2]] == [(True, "made by 0"), (False, "made by 0")]


def test_alone_everything_is_the_identity(monkeypatch, capsys):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert setup(torch.device("cpu")) == torch.device("cpu")
    assert first()
    model = tiny(True)
    assert shard(model, torch.device("cpu")) is model
    reshard(model)
    state = build_optimizer(model).state_dict()
    assert gather(state) is state
    assert scatter(state, []) is state
    assert share([[0], [1, 2]]) == [[0], [1, 2]]
    assert (total(3), largest([1, 2])) == (3, [1, 2])
    assert on_first(max, 1, 2) == 2
    require_one_process("nothing")
    print("hello")
    assert capsys.readouterr().out == "hello\n"
    finish()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_not_the_first_gathers_without_keeping_a_whole_tensor(monkeypatch, rank):
    alive, most = 0, 0

    def died() -> None:
        nonlocal alive
        alive -= 1

    class Sharded:
        def detach(self) -> "Sharded":
            return self

        def full_tensor(self) -> Tensor:
            nonlocal alive, most
            whole = torch.ones(3)
            weakref.finalize(whole, died)
            alive += 1
            most = max(most, alive)
            return whole

    monkeypatch.setattr("model.distributed.several", lambda: True)
    monkeypatch.setattr("model.distributed.first", lambda: rank == 0)
    state = {"state": {i: {"exp_avg": Sharded(), "step": torch.ones(())} for i in range(4)}, "lr": 0.1}
    whole = gather({"optimizer": state, "masters": [Sharded(), Sharded()]})
    if rank:
        assert whole is None
        assert (most, alive) == (1, 0)
    else:
        gathered = [row["exp_avg"] for row in whole["optimizer"]["state"].values()] + whole["masters"]
        assert [tensor.tolist() for tensor in gathered] == [[1.0] * 3] * 6
        assert whole["optimizer"]["lr"] == 0.1


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="WORLD_SIZE is 2 but RANK, LOCAL_RANK, .* start with torchrun"):
        setup(torch.device("cpu"))


@slow
def test_a_process_ends_with_its_own_code_whatever_is_still_on_its_way(tmp_path):
    """Without `leave` about half of the first processes were aborted: exit code -6."""
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    done = subprocess.run(
        [sys.executable, __file__, "end often"],
        env=os.environ | environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.splitlines() == ["codes [3, 1]"] * 8
    assert done.stderr.count("KeyError: 'named'") == 8


def test_alone_a_program_ends_as_any_other():
    leave(SystemExit(3))
    leave()


if __name__ == "__main__":
    end_often() if sys.argv[1] == "end often" else main(Path(sys.argv[1]))
    leave()
