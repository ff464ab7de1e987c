"""Losses that ask for more than log-prob sums: what is measured, and the program that trains with it."""

import ast
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train_dpo
from data.columns import write_columns
from data.pairs import collate, read_pairs
from data.tokenizer import load_tokenizer
from losses.dpo import dpo_loss
from losses.kto import kto_loss
from losses.tdpo import tdpo1_loss, tdpo2_loss, tis_dpo_loss
from losses.types import PairLogps
from losses.wpo import wpo_loss
from model.checkpoint import load_model
from model.training import Compute, Metrics
from tests.test_train_dpo import SMALL, interrupt_after
from variants import train_measured
from variants.measurements import completion_hidden, measurements, mismatches

WPO = partial(wpo_loss, loss=partial(dpo_loss, beta=0.3), clamp=False)
CPU = Compute(torch.device("cpu"), "fp32")
LOSSES = {
    "tdpo1": partial(tdpo1_loss, beta=0.3),
    "tdpo2": partial(tdpo2_loss, beta=0.3),
    "tis_dpo": partial(tis_dpo_loss, beta=0.3),
    "wpo": WPO,
    "kto": partial(kto_loss, beta=0.3),
}


@pytest.fixture(scope="module")
def pairs(tiny_policy, tiny_pairs):
    return read_pairs(tiny_pairs, load_tokenizer(tiny_policy), max_prompt=256, max_completion=256)[0][:5]


@pytest.fixture
def models(tiny_policy):
    """A float64 reference, and a policy some way off it."""
    model, reference = (load_model(tiny_policy, dtype=torch.float64, device="cpu") for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.05 * noise
    return model, reference


def token_weights(pairs):
    """Numbers other than 1 for every completion token."""
    generator = torch.Generator().manual_seed(1)
    lengths = [(len(pair.chosen_ids), len(pair.rejected_ids)) for pair in pairs]
    return [tuple((torch.rand(n, generator=generator) + 0.5).numpy() for n in sides) for sides in lengths]


def dense(model, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """Log-probs [n, V] at every token of a completion, from a plain forward of this one sequence."""
    ids = torch.tensor(prompt + completion)
    spans = torch.tensor([[0, len(prompt), len(completion), 0]])
    logits = model(ids, torch.arange(len(ids)), spans) @ model.lm_head.weight.T
    return logits[len(prompt) - 1 : -1].log_softmax(-1)


def by_definition(model, reference, pairs, weights, measure) -> torch.Tensor:
    """[2, B]: measure(log p, log q, ids, token weights) of every completion, from dense logits."""
    rows = []
    for side, name in enumerate(("chosen_ids", "rejected_ids")):
        row = []
        for pair, columns in zip(pairs, weights, strict=True):
            ids = getattr(pair, name)
            log_p, log_q = (dense(m, pair.prompt_ids, ids) for m in (model, reference))
            row.append(measure(log_p, log_q.detach(), torch.tensor(ids), torch.from_numpy(columns[side])))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def kl(log_p, log_q):
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def at(logps, ids):
    return logps.gather(1, ids[:, None]).squeeze(1)


def losses_by_definition(name, model, reference, pairs, weights):
    """The loss [B], written out over dense logits."""
    total = partial(by_definition, model, reference, pairs, weights)
    beta = 0.3
    ratio = total(lambda p, q, ids, w: (w * (at(p, ids) - at(q, ids))).sum())
    margin = ratio[0] - ratio[1]
    if name in ("tdpo1", "tdpo2"):
        chosen, rejected = total(lambda p, q, ids, w: (w * kl(q, p)).sum())
        margin = margin - (rejected - chosen if name == "tdpo1" else 0.5 * (rejected - chosen.detach()))
    if name == "tis_dpo":
        chosen, rejected = total(lambda p, q, ids, w: (w * kl(p, q)).sum())
        margin = margin - 0.5 * (chosen - rejected)
    losses = torch.log1p(torch.exp(-beta * margin))
    if name == "wpo":
        aligned = total(lambda p, q, ids, w: (at(p, ids) - p.exp().square().sum(-1).log()).mean())
        losses = losses * aligned.sum(0).detach().exp()
    if name == "kto":
        following = [pair.prompt_ids for pair in pairs[-1:] + pairs[:-1]]
        strangers = [replace(pair, prompt_ids=ids) for pair, ids in zip(pairs, following, strict=True)]
        foreign = by_definition(
            model, reference, strangers, weights, lambda p, q, ids, w: (w * (at(p, ids) - at(q, ids))).sum()
        )
        z0 = foreign.detach().mean()
        assert z0 > 0  # or the clamp would hide it
        losses = 1 - (torch.sigmoid(beta * (ratio[0] - z0)) + torch.sigmoid(beta * (z0 - ratio[1]))) / 2
    return losses


def measured_losses(name, model, reference, pairs, weights):
    """The same through the program's own parts."""
    batch = collate(pairs, range(len(pairs)), weights=weights)
    logps = train_dpo.completion_logps(model, batch)
    with torch.no_grad():
        theirs = train_dpo.pair_sums(train_dpo.completion_logps(reference, batch), batch)
    loss = LOSSES[name]
    found = measurements(loss, model, reference, pairs, weights, completion_hidden(model, batch), batch)
    return loss(train_dpo.pair_sums(logps, batch), theirs, **found).losses


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_loss_and_gradient_are_the_definition_on_dense_logits(name, models, pairs):
    model, reference = models if name != "kto" else models[::-1]
    weights = token_weights(pairs)
    got = measured_losses(name, model, reference, pairs, weights)
    expected = losses_by_definition(name, model, reference, pairs, weights)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)  # lengths and weights are float32
    parameters = [p for p in model.parameters() if p.requires_grad]
    mine, wanted = (torch.autograd.grad(losses.mean(), parameters) for losses in (got, expected))
    for a, b in zip(mine, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)
    assert all(p.grad is None for p in reference.parameters())


@pytest.mark.parametrize("name", ["tdpo1", "tdpo2", "tis_dpo"])
def test_at_the_reference_value_and_gradient_are_dpos(name, models, pairs):
    """A divergence is 0 with slope 0 there."""
    _, model = models
    weights = token_weights(pairs)
    got = measured_losses(name, model, model, pairs, weights)
    batch = collate(pairs, range(len(pairs)), weights=weights)
    sums = train_dpo.pair_sums(train_dpo.completion_logps(model, batch), batch)
    plain = dpo_loss(sums, PairLogps(*(field.detach() for field in sums)), beta=0.3).losses
    torch.testing.assert_close(got, torch.full_like(got, math.log(2)))
    parameters = list(model.parameters())
    mine, wanted = (torch.autograd.grad(losses.sum(), parameters) for losses in (got, plain))
    for a, b in zip(mine, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_a_prompt_never_meets_an_answer_to_itself(pairs):
    same = [replace(pair, prompt_ids=[1]) for pair in pairs[:2]]
    mixed = [*same, replace(pairs[2], prompt_ids=[2])]
    assert list(mismatches(mixed)) == [(0, 2), (1, 2), (2, 0)]
    assert list(mismatches(same)) == []


def test_without_another_prompt_ktos_reference_point_is_0(models, pairs):
    same = [replace(pair, prompt_ids=pairs[0].prompt_ids) for pair in pairs]
    batch = collate(same, range(len(same)))
    found = measurements(LOSSES["kto"], *models, same, None, completion_hidden(models[0], batch), batch)
    assert found["kl"].shape == (0,)
    sums = PairLogps(torch.tensor([2.0]), torch.tensor([1.0]))
    zero = PairLogps(torch.zeros(1), torch.zeros(1))
    none, at_zero = (kto_loss(sums, zero, beta=0.1, kl=kl) for kl in (found["kl"], torch.zeros(1)))
    assert torch.equal(none.losses, at_zero.losses)


def test_sides_without_weight_do_not_move_ktos_reference_point(models, pairs):
    """A label without a partner: its other side has token weights 0."""
    weights = [(chosen, 0 * rejected) for chosen, rejected in token_weights(pairs)]
    batch = collate(pairs, range(len(pairs)), weights=weights)
    found = measurements(LOSSES["kto"], *models, pairs, weights, completion_hidden(models[0], batch), batch)
    assert found["kl"].shape == (len(pairs),)


def noted(trainer, model, batch, *measure) -> Metrics:
    """What a trainer notes of a batch under DPO with beta 1."""
    metrics = Metrics()
    loss = partial(dpo_loss, beta=1.0)
    trainer.pair_losses(model, batch, loss, *measure, CPU, metrics)
    return metrics


def nothing(hidden, batch) -> dict:
    return {}


def one_label_each(model, pairs, desirable: int):
    """A batch of labels without partners: `desirable` chosen ones at reward -1, then rejected ones at -2."""
    pairs = [
        replace(pair, rejected_ids=pair.rejected_ids[-1:])
        if i < desirable
        else replace(pair, chosen_ids=pair.chosen_ids[-1:])
        for i, pair in enumerate(pairs)
    ]
    weights = [
        (np.full(len(pair.chosen_ids), i < desirable), np.full(len(pair.rejected_ids), i >= desirable))
        for i, pair in enumerate(pairs)
    ]
    scored = train_dpo.score(model, CPU, pairs)
    reference = [(chosen + 1 / len(chosen), rejected + 2 / len(rejected)) for chosen, rejected in scored]
    return collate(pairs, range(len(pairs)), weights, reference)


def test_metrics_of_labels_without_partners_are_means_over_their_own_side(models, pairs):
    """4 desirable rows at -1 and 12 undesirable ones at -2: margin 1; over all 16: -0.25, -1.5, 1.25."""
    model, rows = models[0], (pairs * 4)[:16]
    batch = one_label_each(model, rows, desirable=4)
    means = noted(train_measured, model, batch, nothing).means()
    logps = train_dpo.score(model, CPU, rows)
    expected = {
        "rewards/chosen": -1,
        "rewards/rejected": -2,
        "rewards/margins": 1,
        "rewards/accuracies": 12 / 16,  # only the undesirable moved as their label wants
        "logps/chosen": np.mean([chosen.sum() for chosen, _ in logps[:4]]),
        "logps/rejected": np.mean([rejected.sum() for _, rejected in logps[4:]]),
        "lengths/chosen": np.mean([len(row.chosen_ids) for row in rows[:4]]),
        "lengths/rejected": np.mean([len(row.rejected_ids) for row in rows[4:]]),
        "end_probability/chosen": np.mean([np.exp(chosen[-1]) for chosen, _ in logps[:4]]),
    }
    assert {name: means[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_one_of_the_labels_adds_nothing_to_its_metrics(models, pairs):
    counts = noted(train_measured, models[0], one_label_each(models[0], pairs, desirable=0), nothing).counts
    absent = {name for name, count in counts.items() if count == 0}
    chosen = {f"{metric}/chosen" for metric in ("rewards", "logps", "lengths", "end_probability")}
    assert absent == chosen | {"rewards/margins"}


def test_metrics_of_pairs_are_train_dpos_to_the_bit_and_wait_for_no_device(models, pairs, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "nonzero", None)
    batch = collate(pairs, range(len(pairs)), token_weights(pairs), token_weights(pairs))
    mine, theirs = (
        noted(trainer, models[0], batch, *measure).means()
        for trainer, measure in ((train_measured, [nothing]), (train_dpo, []))
    )
    assert mine == theirs


@pytest.fixture
def train(run_program, tiny_policy, tiny_pairs):
    """train(*overrides) -> exit code of a short run of either program on the tiny policy."""

    def run(*overrides: str, main=train_measured.main) -> int:
        paths = (f"model.path={tiny_policy}", f"data.pairs={tiny_pairs}", "run.name=t", "optim.max_steps=4")
        return run_program(main, "device=cpu", *paths, *SMALL, *overrides)

    return run


def metrics(name: str = "t") -> list[dict]:
    rows = map(json.loads, Path("out", name, "dpo.metrics.jsonl").read_text().splitlines())
    return [row for row in rows if "loss" in row]


def weights_of(name: str = "t") -> dict[str, torch.Tensor]:
    return load_file(Path("out", name, "dpo", "model.safetensors"))


@pytest.mark.parametrize("loss", ["tdpo1", "tdpo2", "tis_dpo", "wpo", "kto"])
def test_training_starts_at_its_value_and_raises_the_margin(train, loss):
    assert train(f"loss={loss}", "optim.max_steps=null") == 0
    first, *_, last = metrics()
    if loss == "wpo":
        assert first["measured/log_weight"] < 0
        assert 0 < first["loss"] < math.log(2)
    else:
        assert first["loss"] == pytest.approx(0.5 if loss == "kto" else math.log(2), abs=1e-5)
    if "kl" in loss or "tdpo" in loss:
        assert first["measured/forward_kl"] == pytest.approx(0, abs=1e-5)
        assert last["measured/forward_kl"] > 1e-3
    assert last["rewards/margins"] > first["rewards/margins"]


@pytest.mark.parametrize("loss", ["tdpo2", "wpo", "kto"])
def test_a_resumed_run_is_bit_identical(train, monkeypatch, loss):
    assert train("run.name=straight", f"loss={loss}") == 0
    with monkeypatch.context() as patch:
        patch.setattr(train_measured, "Interrupt", interrupt_after(2))
        assert train(f"loss={loss}") == 128 + 15
    assert train(f"loss={loss}") == 0
    straight = weights_of("straight")
    assert all(torch.equal(tensor, straight[name]) for name, tensor in weights_of().items())
    assert [row["loss"] for row in metrics()] == [row["loss"] for row in metrics("straight")]


@pytest.mark.parametrize("loss", ["tdpo2", "wpo"])
def test_microbatches_do_not_change_the_step(train, loss):
    assert train("run.name=whole", f"loss={loss}") == 0
    assert train("run.name=single", f"loss={loss}", "optim.microbatch=1") == 0
    for name, tensor in weights_of("whole").items():
        torch.testing.assert_close(weights_of("single")[name], tensor, atol=2e-5, rtol=1e-3)


def test_tdpo2_without_its_divergence_is_train_dpo(train):
    assert train("run.name=dpo", main=train_dpo.main) == 0
    assert train("loss=tdpo2", "loss.alpha=0") == 0
    for name, tensor in weights_of("dpo").items():
        torch.testing.assert_close(weights_of()[name], tensor, atol=1e-6, rtol=1e-5)


def test_a_batch_of_no_pairs_has_measurements_of_no_pairs(models):
    """A process gets one where the microbatches do not go round."""
    model, reference = models
    batch = collate([], [])
    hidden = completion_hidden(model, batch)
    for name, shape in (("tdpo1", (2, 0)), ("tis_dpo", (2, 0)), ("wpo", (0,))):
        (found,) = measurements(LOSSES[name], model, reference, [], None, hidden, batch).values()
        assert found.shape == shape


def test_adapters_need_no_second_model(train, monkeypatch):
    loaded = []
    real = train_measured.reference_model.__globals__["load_policy"]
    monkeypatch.setitem(
        train_measured.reference_model.__globals__, "load_policy", lambda *a: loaded.append(a) or real(*a)
    )
    assert train("loss=tdpo2", "model.lora.rank=4") == 0
    assert loaded == []
    first, *_, last = metrics()
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert last["measured/forward_kl"] > first["measured/forward_kl"]
    assert train("loss=tdpo2", "run.name=full") == 0
    assert len(loaded) == 1


def test_a_mixture_is_measured_for_its_parts(train):
    """TDPO2 and MPO's shape: preference with divergence, quality with memory, likelihood."""
    assert train("loss=mpo", "loss.parts.0._target_=losses.tdpo.tdpo2_loss", "optim.microbatch=100000") == 0
    first, *_, last = metrics()
    assert last["measured/forward_kl"] > first["measured/forward_kl"]


@pytest.mark.parametrize("dtype", ["bf16", "amp"])
def test_divergences_of_bfloat16_logits_are_0_at_the_reference(train, dtype):
    assert train("loss=tdpo2", f"model.dtype={dtype}", "optim.lr=1e-4", "optim.max_steps=2") == 0
    first, second = metrics()
    assert first["loss"] == pytest.approx(math.log(2), abs=0.05)
    assert first["measured/forward_kl"] == pytest.approx(0, abs=1e-3)
    assert second["measured/forward_kl"] >= 0
    assert train("loss=wpo", f"model.dtype={dtype}", "run.name=w", "optim.max_steps=1") == 0
    assert 0 < metrics("w")[0]["loss"] < math.log(2)


def test_another_reference_is_the_one_compared_with(train, tiny_policy):
    assert train("run.name=first", "optim.lr=1e-2", main=train_dpo.main) == 0
    assert train("loss=tdpo2", f"run.init={Path('out/first/dpo')}", f"run.reference={tiny_policy}") == 0
    assert metrics()[0]["measured/forward_kl"] > 0.01


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("loss=dpo",), "asks for none of log_weight, forward_kl, reverse_kl, kl; use train_dpo.py"),
        (("loss=tdpo2", "run.reference=out/mixed.safetensors"), "does not exist"),
        (("loss=kto", "optim.microbatch=1"), "raise optim.microbatch"),
    ],
)
def test_mistakes_are_one_line(train, capsys, overrides, message):
    assert train(*overrides) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_mixed_reference_has_no_distributions(train, capsys, pairs, tiny_pairs, tiny_policy):
    everything = read_pairs(tiny_pairs, load_tokenizer(tiny_policy), max_prompt=256, max_completion=256)[0]
    Path("out").mkdir()
    write_columns("out/mixed.safetensors", everything, token_weights(everything))
    assert train("loss=tdpo2", "run.reference=out/mixed.safetensors") == 1
    assert "which is log-probs at most; this loss asks for forward_kl" in capsys.readouterr().err
    assert train("loss=wpo", "run.reference=out/mixed.safetensors") == 0


OWN = ("measure = ", "reference = reference_model(")  # statements of this program alone
RENAMED = {
    "measure, ": "",
    "measure: Measure, ": "",
    "train_measured": "train_dpo",
    ", 'measured': asked(loss_fn)": "",
    "loss_function(cfg.loss)": "loss_function(cfg.loss, sums_only=True)",
}


def statements(module, function: str) -> str:
    """A function's code without docstrings, comments and layout."""
    body = ast.parse(Path(module.__file__).read_text()).body
    node = next(n for n in body if isinstance(n, ast.FunctionDef) and n.name == function)
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef) and ast.get_docstring(inner) is not None:
            del inner.body[0]
        if isinstance(inner, ast.FunctionDef):  # the refusal of losses that ask for nothing
            inner.body = [s for s in inner.body if not ast.unparse(s).startswith("if not asked(loss_fn)")]
    return ast.unparse(node)


@pytest.mark.parametrize("function", ["main", "train_step", "validate"])
def test_the_loop_is_train_dpos_but_for_what_is_measured(function):
    """Whoever changes one loop must change the other, so that their diff stays the explanation."""
    mine = statements(train_measured, function)
    for new, old in RENAMED.items():
        mine = mine.replace(new, old)
    lines = [line for line in mine.splitlines() if not line.strip().startswith(OWN)]
    assert lines == statements(train_dpo, function).splitlines()


def test_what_the_other_program_trained_is_another_run(train, capsys):
    """KTO trains in both, with another reference point each."""
    assert train("loss=kto", "optim.max_steps=1", main=train_dpo.main) == 0
    assert train("loss=kto", "optim.max_steps=1") == 0
    assert "a finished run with other measured" in capsys.readouterr().out
    assert train("loss=kto", "optim.max_steps=1") == 0
    assert "found      out/t/dpo: finished" in capsys.readouterr().out
    assert train("loss=kto", "optim.max_steps=1", main=train_dpo.main) == 0
    assert "a finished run with other measured" in capsys.readouterr().out


@pytest.mark.parametrize("loss", ["tdpo1", "tdpo2", "tis_dpo", "wpo"])
def test_train_dpo_names_the_program_that_can(train, capsys, loss):
    assert train(f"loss={loss}", main=train_dpo.main) == 1
    said = capsys.readouterr()
    assert "python -m variants.train_measured" in said.err
    assert "pairs " not in said.out  # nothing was read before
