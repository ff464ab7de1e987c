"""`python -m data.collect` with the real judge: from files to pairs, run again, and what stops it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from data.collect import read_completions
from data.execution import SandboxConfig, judge
from data.jsonl import only_writer, write_jsonl, write_provenance
from data.judging import judge_answers, prepare
from data.protocols import PROTOCOLS
from data.samples import Sample
from data.toy import toy_problems
from data.types import Completion

ROOT = Path(__file__).parents[2]
PROBLEMS = 4
SECONDS = 1.0

pytestmark = pytest.mark.slow  # a process that composes the config, and a sandbox: five seconds


def run_collect(home: Path, *overrides: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable, "-m", "data.collect", "run.split=train", f"run.home={home}", f"data.train={PROBLEMS}",
        "sandbox=plain", f"sandbox.seconds={SECONDS}", "sandbox.workers=1", *overrides,
    ]  # fmt: skip
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A run folder as evaluate.py leaves it: the right program, its bugs, each twice, a cut answer."""
    home = tmp_path_factory.mktemp("collect") / "run"
    folder = home / "base-train-sample"
    problems = toy_problems("train", PROBLEMS, 0)
    completions = []
    for problem in problems:
        texts = [problem.canonical_solution, *(bug["body"] for bug in problem.meta["bugs"])] * 2
        for i, text in enumerate([*texts, "    return 0\n", "    return"]):
            ids = [ord(character) for character in text]
            finished = text != "    return"
            completions.append(
                Completion(problem.task_id, i, text, [1], ids, finished, temperature=0.8, seed=7)
            )
    write_jsonl(folder / "completions.jsonl", completions)
    identity = {"weights": "c" * 64, "tokenizer": "t" * 16, "decode": {"n": 16}}
    write_provenance(folder / "completions.jsonl", identity=identity)
    judge_all(folder, problems, completions)
    return home


def judge_all(folder: Path, problems: list, completions: list) -> None:
    config = SandboxConfig(
        seconds=SECONDS, workers=1, layers=["split", "rlimits"], require=["split", "rlimits"]
    )
    limits = {name: value for name, value in vars(config).items() if name != "workers"}
    samples = [Sample(c.task_id, c.sample, c.text, temperature=c.temperature) for c in completions]
    answers = prepare(samples, problems, PROTOCOLS["plain"], limits, config.seconds)
    judge_answers(answers, partial(judge, config=config), folder / "results.jsonl")


def test_the_line_from_verdicts_to_pairs(home):
    done = run_collect(home)
    assert done.returncode == 0, done.stderr
    pairs = [json.loads(line) for line in (home / "pairs.jsonl").read_text().splitlines()]
    problems = {problem.task_id: problem for problem in toy_problems("train", PROBLEMS, 0)}
    assert {pair["task_id"] for pair in pairs} == set(problems)
    for pair in pairs:
        assert pair["prompt"] == problems[pair["task_id"]].prompt
        assert pair["chosen"] == problems[pair["task_id"]].canonical_solution
        assert pair["chosen_ids"] == [ord(character) for character in pair["chosen"]]
        assert pair["rejected"] != pair["chosen"]
        assert (pair["meta"]["tokenizer"], pair["meta"]["checkpoint"]) == ("t" * 16, "c" * 64)
    meta = json.loads((home / "pairs.jsonl.meta.json").read_text())
    assert meta["kept"] == len(pairs)
    assert meta["sampler"]["decode"] == {"n": 16}
    assert meta["problems"] == PROBLEMS
    assert meta["dropped"]["samples: cut by the length limit"] == PROBLEMS
    assert f"pairs      {len(pairs)} from {PROBLEMS} of {PROBLEMS} problems" in done.stdout

    before = (home / "pairs.jsonl").stat().st_mtime_ns
    again = run_collect(home)
    assert again.returncode == 0, again.stderr
    assert "collected from the same files with the same settings" in again.stdout
    assert (home / "pairs.jsonl").stat().st_mtime_ns == before

    files = (f"pairing.{name}={home}/base-train-sample/{name}.jsonl" for name in ("completions", "results"))
    other = run_collect(home, "pairing.per_problem=1", "benchmark=toy", *files)
    assert other.returncode == 0, other.stderr
    assert len((home / "pairs.jsonl").read_text().splitlines()) == PROBLEMS


def test_completions_of_another_sampler_become_pairs(tmp_path):
    """`task_id, completion` lines, numbered by both programs alike."""
    problems = toy_problems("train", PROBLEMS, 0)
    rows = [
        {"task_id": problem.task_id, "completion": text}
        for problem in problems
        for text in (problem.canonical_solution, problem.meta["bugs"][0]["body"])
    ]
    write_jsonl(tmp_path / "mine.jsonl", rows)
    judge_all(tmp_path, problems, read_completions(tmp_path / "mine.jsonl"))
    done = run_collect(
        tmp_path / "run",
        f"pairing.completions={tmp_path}/mine.jsonl",
        f"pairing.results={tmp_path}/results.jsonl",
        "pairing.length_gap=null",
    )
    assert done.returncode == 0, done.stderr
    pairs = [json.loads(line) for line in (tmp_path / "run" / "pairs.jsonl").read_text().splitlines()]
    assert {pair["task_id"]: pair["chosen"] for pair in pairs} == {
        problem.task_id: problem.canonical_solution for problem in problems
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run.split=test"], "run.split is test, whose problems score the policy"),
        (["run.split=validation"], "completions.jsonl does not exist; run first: python evaluate.py"),
        (["sandbox.seconds=2"], "judged with another program, test, limit"),
        (["pairing.pass_rate=[0.99,1.0]"], "no pairs to write to"),
        (["pairing.completions=tests"], "tests is a folder, a file expected; run first: python evaluate.py"),
        (
            ["pairing.completions=README.md"],
            "results.jsonl does not exist; score the completions first: python evaluate.py samples=README.md"
            ", same data.problems, run.split and run.name, and give the results.jsonl that it names",
        ),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line_and_change_nothing(home, overrides, message):
    before = sorted(path for path in home.rglob("*") if "hydra" not in path.parts)
    done = run_collect(home, *overrides)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path for path in home.rglob("*") if "hydra" not in path.parts) == before


def test_other_problems_make_other_pairs_and_damaged_notes_are_named(tmp_path):
    """A reference solution that fails is a reason to leave a problem out, and changes no verdict."""
    problems = toy_problems("train", PROBLEMS, 0)
    completions = [
        Completion(problem.task_id, i, text)
        for problem in problems
        for i, text in enumerate([problem.canonical_solution, problem.meta["bugs"][0]["body"]])
    ]
    write_jsonl(tmp_path / "completions.jsonl", completions)
    judge_all(tmp_path, problems, completions)
    files = [f"data.problems={tmp_path}/problems.jsonl", f"pairing.completions={tmp_path}/completions.jsonl"]
    command = [tmp_path / "run", *files, "pairing.length_gap=null"]
    for solution, pairs in ((problems[0].canonical_solution, PROBLEMS), ("    return 'x'\n", PROBLEMS - 1)):
        changed = replace(problems[0], canonical_solution=solution)
        write_jsonl(tmp_path / "problems.jsonl", [changed, *problems[1:]])
        done = run_collect(*command)
        assert done.returncode == 0, done.stderr
        assert len((tmp_path / "run" / "pairs.jsonl").read_text().splitlines()) == pairs
    for path in (tmp_path / "run" / "pairs.jsonl.meta.json", tmp_path / "summary.json"):
        path.write_text("{")
        done = run_collect(*command)
        assert done.returncode == 1
        assert f"error: {path} is not JSON" in done.stderr
    (tmp_path / "summary.json").unlink()


def test_one_program_at_a_time_collects(home):
    with only_writer(home / "pairs.jsonl"):
        done = run_collect(home)
    assert done.returncode == 1
    assert f"{home}/pairs.jsonl is being written by another program (process {os.getpid()} on" in done.stderr


def test_help_says_how_the_program_is_started():
    for start in (["-m", "data.collect"], ["sample.py"]):
        done = subprocess.run([sys.executable, *start, "--help"], cwd=ROOT, capture_output=True, text=True)
        assert f"\n  python {' '.join(start)} +exp=NAME [key=value ...]" in done.stdout
