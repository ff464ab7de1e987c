"""The same numbers on a GPU: attention, hidden states, gradients, steps, samples, no waiting in a step."""

import dataclasses
import json
import math
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch

import train_dpo
from data.pairs import collate
from data.types import PreferencePair
from losses.dpo import dpo_loss
from model.attention import Pairs, one_call, pair_attention
from model.cuda_graphs import StepGraphs
from model.generate import generate
from model.optim import adamw
from model.training import Compute, Metrics
from model.transformer import Transformer
from tests.model.test_generate import ragged_requests, small_transformer
from tests.model.test_transformer import BASE, PAIRS, layout
from tests.test_train_dpo import interrupt_after
from train_dpo import score, train_step

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
ASSETS = Path(__file__).parents[1] / "assets"


@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_variable_length_kernel_gives_the_attention_of_the_definition(window, kv_heads):
    _, spans = layout(PAIRS)
    pairs = Pairs(spans, int(spans[:, 1:].sum()))
    torch.manual_seed(0)
    total, scale = len(pairs.longest()), 16**-0.5
    inputs = [torch.randn(total, heads, 16).bfloat16() for heads in (4, kv_heads, kv_heads)]
    exact = [t.double().requires_grad_() for t in inputs]
    half = [t.to(CUDA).requires_grad_() for t in inputs]
    expected = pair_attention(*exact, spans, scale=scale, window=window)
    found = pair_attention(*half, spans, scale=scale, window=window)
    index = pairs.keys(CUDA)
    if not window:
        torch.testing.assert_close(
            one_call(half[0], half[1][index], half[2][index], pairs, scale, window), found, rtol=0, atol=0
        )
    weight = torch.randn_like(expected)
    theirs = torch.autograd.grad((expected * weight).sum(), exact)
    ours = torch.autograd.grad((found * weight.to(CUDA)).sum(), half)
    for a, b in zip((found, *ours), (expected, *theirs), strict=True):  # bfloat16 holds 8 bits
        assert (a.double().cpu() - b).abs().max() < 0.015 * b.abs().max()


@pytest.mark.parametrize("checkpointed", [False, True])
def test_hidden_states_and_gradients_equal_the_cpus_in_float32(checkpointed):
    torch.manual_seed(0)
    model = Transformer(BASE)
    positions, spans = layout(PAIRS)
    ids = torch.randint(0, 50, (len(positions),))
    results = []
    for device in ("cpu", CUDA):
        model.to(device).checkpoint_activations = checkpointed
        hidden = model(ids.to(device), positions.to(device), spans)
        gradients = torch.autograd.grad(hidden.square().sum(), list(model.parameters()), allow_unused=True)
        results.append([hidden.cpu(), *(g.cpu() for g in gradients if g is not None)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


def example_pairs(count: int = 6) -> list[PreferencePair]:
    generator = torch.Generator().manual_seed(3)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(0, 50, (length,), generator=generator).tolist()

    return [PreferencePair("", "", "", "", ids(3, 20), ids(2, 9), ids(2, 9)) for _ in range(count)]


@pytest.mark.parametrize("dtype", ["fp32", "amp", "bf16"])
def test_a_step_starts_at_log_2_never_waits_for_the_device_and_lowers_the_loss(dtype):
    compute = Compute.choose("cuda", dtype)
    torch.manual_seed(0)
    model = Transformer(dataclasses.replace(BASE, tied=True)).to(CUDA, compute.weights)
    optimizer = adamw(model, 1e-3, (0.9, 0.999), 1e-8, 0.0)
    pairs = example_pairs()
    reference = score(model, compute, pairs)
    loss, metrics, losses = partial(dpo_loss, beta=0.1), Metrics(), []
    for step in range(12):
        batches = [
            collate(pairs, index, reference=reference).to(compute.device)
            for index in ([0, 1, 2], [3, 4, 5], [])  # the last: nothing to do while other processes work
        ]
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error" if step else "default")  # the first step sets up libraries
        try:
            train_step(model, optimizer, batches, loss, compute, 1.0, metrics)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        losses.append(metrics.means()["loss"])
    assert losses[0] == pytest.approx(math.log(2), abs={"fp32": 1e-5, "amp": 1e-2, "bf16": 1e-2}[dtype])
    assert losses[-1] < losses[0] - 0.05


def test_recorded_steps_draw_the_samples_that_eager_ones_draw():
    model = small_transformer().to(CUDA)
    requests = ragged_requests(7)
    texts = [
        {(g.key, g.sample): g.ids for g in generate(model, requests, batch_size=4, graphs=graphs)}
        for graphs in (None, StepGraphs())
    ]
    same = sum(texts[0][key] == texts[1][key] for key in texts[0])
    assert texts[0].keys() == texts[1].keys()
    assert same >= 0.9 * len(texts[0])  # float32 products of other shapes round differently


def test_the_program_trains_on_the_gpu_and_resumes(run_program, tmp_path, monkeypatch):
    pairs = tmp_path / "pairs.jsonl"
    with (ASSETS / "toy_pairs.jsonl").open() as file:
        pairs.write_text("".join(islice(file, 24)))
    settings = (
        f"model.path={ASSETS / 'toy_base'}", f"data.pairs={pairs}", "run.name=t", "device=cuda",
        "optim.lr=3e-4", "optim.batch=4", "optim.epochs=2", "optim.warmup=0",
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(train_dpo, "Interrupt", interrupt_after(4))
        assert run_program(train_dpo.main, *settings) == 128 + 15
    assert run_program(train_dpo.main, *settings) == 0
    rows = [json.loads(row) for row in Path("out", "t", "dpo.metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-2)
    assert min(losses) < 0.6
