"""model/distributed.py on two gloo processes: gradients, traps, checkpoints. This file is also their program.

Both processes run `main` below and the first writes what it saw; the tests compare it with one process.
"""

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from losses.logprobs import token_logps
from model.distributed import (
    finish,
    gather,
    global_max,
    global_sum,
    load_sharded,
    print_once,
    reshard,
    save_sharded,
    setup,
    shard,
)
from model.optim import MasterAdamW, adamw, clip_grad_norm
from model.rotary import Rope
from model.transformer import ModelConfig, Transformer

PAIRS = 5  # over two processes: three and two
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
    """ids, positions, spans of one pair; lengths differ between pairs."""
    prompt, chosen, rejected = 3 + i, 2 + i, 4
    ids = torch.randint(0, 31, (prompt + chosen + rejected,), generator=torch.Generator().manual_seed(i))
    positions = torch.cat([torch.arange(prompt + chosen), torch.arange(prompt, prompt + rejected)])
    return ids, positions, torch.tensor([[0, prompt, chosen, rejected]])


def loss(policy: Transformer, i: int) -> Tensor:
    """Log-probs of the chosen completion, the head used outside the module as in training."""
    ids, positions, spans = pair(i)
    _, prompt, chosen, _ = spans[0].tolist()
    hidden = policy(ids, positions, spans)
    source = torch.arange(prompt - 1, prompt + chosen - 1)
    return -token_logps(hidden[source], policy.lm_head.weight, ids[source + 1]).sum()


def step(policy: Transformer, optimizer: object, mine: range, clip: float = 0.5) -> Tensor:
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


def observe(process, tied: bool, folder: Path) -> dict:
    """What two processes see of one model; every process runs this."""
    mine = range(process.rank, PAIRS, process.world_size)
    # The last process has a pair less; it repeats its last one with weight zero so that the counts agree.
    count = global_max(len(mine), process.device)
    seen: dict = {"count": count, "sum": global_sum(torch.tensor(float(len(mine))))}

    policy = shard(tiny(tied))
    optimizer = build_optimizer(policy)
    seen["sharded"] = [hasattr(p, "full_tensor") for p in policy.parameters()]
    with torch.no_grad():
        seen["scores"] = [loss(policy, i) for i in range(PAIRS)]  # a pass without backward, as for the cache
    reshard(policy)
    for n in range(count):
        weight = 1.0 if n < len(mine) else 0.0
        (weight * loss(policy, mine[min(n, len(mine) - 1)]) / PAIRS).backward()
    seen["grads"] = grads(policy)
    seen["norm"] = clip_grad_norm(policy.parameters(), 0.5)
    seen["clipped"] = grads(policy)
    optimizer.step()
    optimizer.zero_grad()
    seen["stepped"] = full(dict(policy.named_parameters()))

    save_sharded(policy, optimizer, folder / "training")
    two = range(process.rank, 4, process.world_size)
    step(policy, optimizer, two)
    straight = full(dict(policy.named_parameters()))
    resumed = shard(tiny(tied))
    again = build_optimizer(resumed)
    load_sharded(resumed, again, folder / "training")
    step(resumed, again, two)
    seen["resumed"] = full(dict(resumed.named_parameters()))
    seen["straight"] = straight

    with torch.no_grad():
        loss(policy, 0)
        reshard(policy)
        for p in policy.parameters():
            p.add_(1.0)
        seen["after_update"] = loss(policy, 0)
    reshard(policy)
    whole = gather(policy)
    seen["gathered"] = whole is not None
    if whole is not None:
        with torch.no_grad():
            seen["of_copy"] = loss(whole, 0)
        seen["copy_names"] = [name for name, _ in whole.named_parameters()]

    half = shard(tiny(tied), torch.bfloat16)
    half_optimizer = build_optimizer(half)
    half.checkpoint_activations = True
    step(half, half_optimizer, two)
    seen["half_master"] = isinstance(half_optimizer, MasterAdamW)
    seen["half"] = full(dict(half.named_parameters()))
    return seen


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    process = setup(torch.device("cpu"))
    seen = {tied: observe(process, tied, folder / str(tied)) for tied in (True, False)}
    print_once("seen by", process.rank)
    torch.save(seen, folder / f"seen-{process.rank}.pt")
    finish()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[dict, dict, str]:
    """What each of the two processes saw, and what they printed."""
    folder = tmp_path_factory.mktemp("distributed")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    root = Path(__file__).parents[2]
    environment = os.environ | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(root),
    }  # fmt: skip
    command = [sys.executable, str(Path(__file__)), str(folder)]
    started = [
        subprocess.Popen(
            command,
            env=environment | {"RANK": rank, "LOCAL_RANK": rank},
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    try:
        printed = "".join(process.communicate(timeout=120)[0] for process in started)
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], printed
    first, second = (torch.load(folder / f"seen-{rank}.pt") for rank in (0, 1))
    return first, second, printed


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def seen(runs, request) -> tuple[dict, dict, bool]:
    return runs[0][request.param], runs[1][request.param], request.param


slow = pytest.mark.slow  # the first of these starts two processes: about ten seconds


def single(tied: bool) -> Transformer:
    model = tiny(tied)
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
def test_resuming_from_a_sharded_save_is_bit_exact(seen):
    for process in seen[:2]:
        for name, value in process["straight"].items():
            assert torch.equal(process["resumed"][name], value), name
            assert not torch.equal(process["stepped"][name], value), name


@slow
def test_an_update_after_a_pass_without_backward_is_seen(seen):
    first, second, _ = seen
    torch.testing.assert_close(first["after_update"], first["of_copy"])
    torch.testing.assert_close(second["after_update"], first["of_copy"])


@slow
def test_the_first_process_gathers_an_ordinary_copy(seen):
    first, second, tied = seen
    assert first["gathered"]
    assert not second["gathered"]
    assert first["copy_names"] == [name for name, _ in tiny(tied).named_parameters()]


@slow
def test_bfloat16_compute_keeps_float32_masters(seen):
    """With activation checkpointing on. The shards stay float32 and move by about the learning rate."""
    first, _, tied = seen
    assert not first["half_master"]
    for name, p in tiny(tied).named_parameters():
        moved = (first["half"][name] - p.detach()).abs().max()
        assert first["half"][name].dtype == torch.float32
        assert 1e-3 < moved < 3e-2, name


@slow
def test_counts_and_sums_go_over_all_processes(seen):
    first, second, _ = seen
    assert (first["count"], second["count"]) == (3, 3)
    assert (first["sum"], second["sum"]) == (5.0, 5.0)


@slow
def test_only_the_first_process_prints(runs):
    assert runs[2].count("seen by") == 1
    assert "seen by 0" in runs[2]


def test_alone_everything_is_the_identity(monkeypatch, capsys):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    process = setup(torch.device("cpu"))
    assert (process.rank, process.world_size, process.first) == (0, 1, True)
    model = tiny(True)
    assert shard(model) is model
    assert gather(model) is model
    reshard(model)
    value = torch.ones(2)
    assert global_sum(value) is value
    assert global_max(3, process.device) == 3
    print_once("hello")
    assert capsys.readouterr().out == "hello\n"
    finish()


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="WORLD_SIZE is 2 but RANK, LOCAL_RANK, .* start with torchrun"):
        setup(torch.device("cpu"))


def test_a_folder_without_sharded_state_is_named(tmp_path):
    model = tiny(True)
    with pytest.raises(FileNotFoundError, match="nothing holds no sharded training state"):
        load_sharded(model, build_optimizer(model), tmp_path / "nothing")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
