"""RFT's demonstrations: what passed, once each, from the files of a collection."""

import json
from pathlib import Path

import pytest

import train_sft
from data.jsonl import read_jsonl, write_jsonl
from data.tokenizer import load_tokenizer
from data.toy import toy_problems
from data.types import Completion, ExecutionResult, Verdict
from variants import passing_samples
from variants.passing_samples import passing_samples as passing


def rows(*answers: tuple[str, str, bool]) -> tuple[list[Completion], list[ExecutionResult]]:
    """(task, text, passed) -> completions and results, finished, numbered."""
    completions = [Completion(task, i, text, temperature=1.0) for i, (task, text, _) in enumerate(answers)]
    results = [
        ExecutionResult(task, i, Verdict.PASSED if passed else Verdict.WRONG_ANSWER)
        for i, (task, _, passed) in enumerate(answers)
    ]
    return completions, results


ANSWERS = (
    ("t/1", "rare", True),
    ("t/1", "often", True),
    ("t/1", "often", True),
    ("t/1", "wrong", False),
    ("t/2", "only", True),
    ("t/3", "never", False),
)


def test_distinct_passing_answers_most_frequent_first():
    assert passing(*rows(*ANSWERS), None) == {"t/1": ["often", "rare"], "t/2": ["only"]}
    assert passing(*rows(*ANSWERS), 1) == {"t/1": ["often"], "t/2": ["only"]}


def test_an_unfinished_answer_is_left_out():
    completions, results = rows(("t/1", "cut", True))
    completions = [Completion("t/1", 0, "cut", finished=False)]
    assert passing(completions, results, None) == {}


@pytest.fixture
def samples(tiny_policy, tmp_path, monkeypatch) -> Path:
    """Five problems with one right and one wrong answer each, below out."""
    tokenizer, folder = load_tokenizer(tiny_policy), tmp_path / "out" / "samples"
    completions, results = [], []
    for problem in toy_problems("train", 5):
        texts = (problem.canonical_solution, problem.meta["bugs"][0]["body"])
        for sample, text in enumerate(texts):
            ids = tokenizer.prompt_ids(problem.prompt)
            completions.append(
                Completion(
                    problem.task_id, sample, text, ids, tokenizer.completion_ids(text), temperature=1.0
                )
            )
            verdict = Verdict.WRONG_ANSWER if sample else Verdict.PASSED
            results.append(ExecutionResult(problem.task_id, sample, verdict))
    write_jsonl(folder / "completions.jsonl", completions)
    write_jsonl(folder / "results.jsonl", results)
    return folder


@pytest.fixture
def run(run_program, tiny_policy, samples):
    def start(main, *overrides: str) -> int:
        paths = (f"model.path={tiny_policy}", "variant.samples=samples", "device=cpu", "data.train=5")
        return run_program(main, "+exp=rft", *paths, *overrides)

    return start


def test_the_line_from_samples_to_a_policy(run, samples, capsys):
    assert run(passing_samples.main) == 0
    assert "5 of 10 answers; 5 distinct, of 5 problems" in capsys.readouterr().out
    written = read_jsonl("out/rft/passing.jsonl")
    expected = [(p.task_id, p.prompt, p.canonical_solution) for p in toy_problems("train", 5)]
    assert [(row["task_id"], row["prompt"], row["completion"]) for row in written] == expected
    assert run(train_sft.main, "optim.batch=2", "optim.lr=1e-2", "data.validation_share=0") == 0
    metrics = [json.loads(row) for row in Path("out/rft/sft.metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["loss"] < metrics[0]["loss"]


def test_answers_to_another_prompt_are_refused(run, samples, capsys):
    rows = read_jsonl(samples / "completions.jsonl")
    write_jsonl(samples / "completions.jsonl", [row | {"prompt_ids": [5, 6]} for row in rows])
    assert run(passing_samples.main) == 1
    assert "was not sampled from its prompt's text" in capsys.readouterr().err


def test_only_its_own_file_is_written_over(run, capsys):
    assert run(passing_samples.main) == 0
    assert run(passing_samples.main) == 0
    mine, noted = Path("mine.jsonl"), Path("mine.jsonl.meta.json")
    mine.write_text("my own\n")
    for meta in (None, {"program": "variants.unpaired"}):
        if meta:
            noted.write_text(json.dumps(meta))
        capsys.readouterr()
        assert run(passing_samples.main, "data.demonstrations.path=mine.jsonl") == 1
        error = capsys.readouterr().err
        assert "give data.demonstrations.path another name" in error
        assert error.count("\n") == 1
        assert mine.read_text() == "my own\n"


def test_mistakes_are_one_line(run, capsys):
    for overrides, message in (
        (("variant.samples=nowhere",), "no results.jsonl in out/nowhere or nowhere"),
        (("data.demonstrations.path=null",), "data.demonstrations.path is not set"),
        (("data.train=2",), "toy/train/2 is not in data.problems"),
    ):
        assert run(passing_samples.main, *overrides) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
