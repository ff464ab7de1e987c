"""Labels without partners: which samples, which side, and that the other side is never trained."""

import json
from pathlib import Path

import pytest
import torch

from data.columns import read_columns
from data.jsonl import read_jsonl, write_jsonl
from data.pairs import collate, read_pairs
from data.tokenizer import load_tokenizer
from data.toy import toy_problems
from data.types import Completion, ExecutionResult, PreferencePair, Verdict
from losses.kto import kto_loss
from model.checkpoint import load_model
from train_dpo import completion_logps, pair_sums
from variants import train_measured, unpaired
from variants.unpaired import describe, labelled, one_sided, side_weights

PASSED, WRONG, BROKEN = Verdict.PASSED, Verdict.WRONG_ANSWER, Verdict.INTERNAL_ERROR


def judged(*answers: tuple[str, Verdict]) -> dict:
    """One task's (text, verdict) as joined samples."""
    rows = [(Completion("t", i, text), ExecutionResult("t", i, v)) for i, (text, v) in enumerate(answers)]
    return {"t": rows}


def texts(kept) -> list[tuple[str, bool]]:
    return [(completion.text, result.verdict == PASSED) for completion, result in kept]


def test_each_distinct_answer_is_one_label_most_frequent_first():
    rows = judged(("a", PASSED), ("b", PASSED), ("b", PASSED), ("x", WRONG), ("y", BROKEN))
    assert texts(labelled(rows, None)) == [("b", True), ("a", True), ("x", False)]
    assert texts(labelled(rows, 1)) == [("b", True), ("x", False)]


def test_an_unfinished_answer_is_no_label():
    rows = {"t": [(Completion("t", 0, "cut", finished=False), ExecutionResult("t", 0, WRONG))]}
    assert labelled(rows, None) == []


def test_weights_are_1_on_the_labelled_side_and_0_on_the_other():
    pair = PreferencePair("t", "", "a", "", [1], [2, 3, 9], [9], {"side": "chosen"})
    assert [side.tolist() for side in side_weights(pair)] == [[1, 1, 1], [0]]


@pytest.mark.parametrize("sampled", [True, False])
def test_an_empty_answer_keeps_its_row(tiny_policy, tmp_path, sampled):
    tokenizer = load_tokenizer(tiny_policy)
    ids = (tokenizer.prompt_ids("def f():"), tokenizer.completion_ids("")) if sampled else ([], [])
    empty = Completion("t", 0, "", *ids, temperature=1.0)
    row = one_sided((empty, ExecutionResult("t", 0, WRONG)), "def f():", tokenizer)
    write_jsonl(tmp_path / "labels.jsonl", [row])
    (pair,), dropped = read_pairs(tmp_path / "labels.jsonl", tokenizer, max_prompt=64, max_completion=64)
    assert not dropped
    assert pair.rejected_ids == tokenizer.completion_ids("")
    assert [side.sum() for side in side_weights(pair)] == [0, 1]


def test_the_balance_is_the_papers():
    """n_d = 2, n_u = 3: w_d / w_u = 1.5 gives a ratio of 1, 2 gives 4/3."""
    assert "1.50 to 2.00 times" in describe(["chosen"] * 2 + ["rejected"] * 3)
    assert describe(["chosen"] * 2) == "labels     2 desirable, 0 undesirable"


@pytest.fixture
def samples(tiny_policy, tmp_path, monkeypatch) -> Path:
    """Six problems below out: all pass, all fail, or one of each."""
    tokenizer, folder = load_tokenizer(tiny_policy), tmp_path / "out" / "samples"
    completions, results = [], []
    for number, problem in enumerate(toy_problems("train", 6)):
        right, wrong = problem.canonical_solution, problem.meta["bugs"][0]["body"]
        for sample, text in enumerate(((right,), (wrong,), (right, wrong))[number % 3]):
            ids = tokenizer.prompt_ids(problem.prompt), tokenizer.completion_ids(text)
            completions.append(Completion(problem.task_id, sample, text, *ids, temperature=1.0))
            results.append(ExecutionResult(problem.task_id, sample, PASSED if text == right else WRONG))
    write_jsonl(folder / "completions.jsonl", completions)
    write_jsonl(folder / "results.jsonl", results)
    return folder


@pytest.fixture
def run(run_program, tiny_policy, samples):
    def start(main, *overrides: str) -> int:
        paths = (f"model.path={tiny_policy}", "variant.samples=samples", "device=cpu", "data.train=6")
        return run_program(main, "+exp=kto_unpaired", *paths, *overrides)

    return start


def test_the_line_from_samples_to_a_policy(run, capsys):
    assert run(unpaired.main) == 0
    assert "4 desirable, 4 undesirable" in capsys.readouterr().out
    assert run(train_measured.main, "optim.batch=4", "optim.lr=1e-2", "data.validation_share=0") == 0
    rows = [json.loads(row) for row in Path("out/kto_unpaired/dpo.metrics.jsonl").read_text().splitlines()]
    assert rows[0]["loss"] == pytest.approx(1.0, abs=1e-5)  # 2 * 0.5 and a constant of 2 * 0.5, halved
    assert rows[-1]["rewards/margins"] > 0.02 > rows[0]["rewards/margins"]


def test_the_empty_side_has_no_gradient_and_the_loss_is_the_mean_over_examples(run, tiny_policy):
    assert run(unpaired.main) == 0
    tokenizer, model = load_tokenizer(tiny_policy), load_model(tiny_policy)
    pairs, dropped = read_pairs(
        "out/kto_unpaired/labels.jsonl", tokenizer, max_prompt=256, max_completion=256
    )
    assert not dropped
    weights = read_columns("out/kto_unpaired/labels.safetensors", pairs)
    batch = collate(pairs, range(len(pairs)), weights=weights)
    logps = completion_logps(model, batch).detach().requires_grad_()
    policy = pair_sums(logps, batch)
    reference = pair_sums(logps.detach() - 0.1, batch)
    settings = {"beta": 0.2, "desirable_weight": 2.0, "undesirable_weight": 2.0}
    out = kto_loss(policy, reference, **settings, kl=torch.tensor(0.3))
    out.losses.mean().backward()
    assert (logps.grad[batch.weights == 0] == 0).all()
    assert (logps.grad[batch.weights == 1] != 0).all()
    ratios = 0.1 * batch.lengths  # of the labelled sides
    chosen = torch.tensor([pair.meta["side"] == "chosen" for pair in pairs])
    examples = torch.where(
        chosen,
        1 - torch.sigmoid(0.2 * (ratios[: len(pairs)] - 0.3)),
        1 - torch.sigmoid(0.2 * (0.3 - ratios[len(pairs) :])),
    )
    constant = torch.where(
        chosen, 1 - torch.sigmoid(torch.tensor(0.06)), 1 - torch.sigmoid(torch.tensor(-0.06))
    )
    torch.testing.assert_close(out.losses, examples + constant, rtol=1e-4, atol=1e-5)


def test_what_was_sampled_is_what_is_trained(run, samples):
    assert run(unpaired.main) == 0
    sampled = {tuple(row["ids"]) for row in read_jsonl(samples / "completions.jsonl")}
    written = read_jsonl("out/kto_unpaired/labels.jsonl")
    assert {tuple(row[f"{row['meta']['side']}_ids"]) for row in written} == sampled


def test_pairs_it_did_not_write_are_not_written_over(run, tiny_pairs, capsys):
    assert run(unpaired.main) == 0
    assert run(unpaired.main) == 0
    before = tiny_pairs.read_bytes()
    capsys.readouterr()
    assert run(unpaired.main, f"data.pairs={tiny_pairs}") == 1
    error = capsys.readouterr().err
    assert "give data.pairs another name" in error
    assert error.count("\n") == 1
    assert tiny_pairs.read_bytes() == before


def test_mistakes_are_one_line(run, capsys):
    for overrides, message in (
        (("variant.samples=nowhere",), "no results.jsonl in out/nowhere or nowhere"),
        (("data.weights=null",), "data.weights is not set"),
        (("data.train=2",), "are in no problem"),
    ):
        assert run(unpaired.main, *overrides) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
