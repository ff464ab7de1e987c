"""Samples in, a results.jsonl with one verdict each out: equal programs once, resumable, verdicts reused.

A verdict is reused when the digest of everything it depends on (program, tests, limits, versions of judge and
Python) has not changed, so results.jsonl is its own cache. Programs are run by `data.execution.judge`; tests
pass another judge in.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data.execution import Job, judge_identity
from data.jsonl import JsonlAppender, digest, read_jsonl, write_jsonl
from data.protocols import Protocol, answered
from data.samples import Sample
from data.types import ExecutionResult, Problem, Verdict

Judge = Callable[[Iterable[Job]], Iterator[tuple[object, ExecutionResult]]]


@dataclass(frozen=True)
class Answer:
    """One sample, ready for the judge. `jobs` holds one program, or "base" and "plus" for EvalPlus."""

    sample: Sample
    jobs: dict[str, Job]
    extracted: bool  # the entry point was found in it
    key: str  # digest of everything the verdict depends on

    @property
    def source(self) -> str:
        """The whole program."""
        program = next(iter(self.jobs.values())).program
        return program["prompt"] + program["completion"]


def prepare(
    samples: Iterable[Sample],
    problems: Iterable[Problem],
    protocol: Protocol,
    limits: Mapping,
    seconds: float,
) -> list[Answer]:
    """Samples -> what the judge runs. `limits` are the sandbox's, for the digest; `seconds` its CPU limit.

    The limit of a problem or of its test comes before the protocol's, and that before `seconds`. The digest
    holds the sandbox's layers as configured, not those this machine gives: nothing is started to compute it.
    """
    by_id = {problem.task_id: problem for problem in problems}
    judged_by = [judge_identity(), dict(limits)]
    answers = []
    for sample in samples:
        problem = by_id[sample.task_id]
        given = dataclasses.replace(protocol, whole=True) if sample.whole else protocol
        program, extracted = answered(given, problem, sample.text)
        tests = problem.meta.get("tests") or {"": {"test": problem.test}}
        usual = problem.meta.get("seconds") or protocol.seconds or seconds
        timeouts = {name: test.get("timeout") or usual for name, test in tests.items()}
        jobs = {name: Job(name, program | test, timeouts[name]) for name, test in tests.items()}
        what = [program, [test["test"] for test in tests.values()], list(timeouts.values())]
        answers.append(Answer(sample, jobs, extracted, digest(*what, *judged_by)))
    return answers


def judge_answers(answers: list[Answer], judge: Judge, path: Path) -> list[dict]:
    """A row per answer, also written to `path`. An internal error is judged once more.

    Verdicts are appended to `<path>.partial` as they come, so an interrupted run goes on.
    """
    unique = {answer.key: answer for answer in answers}
    with JsonlAppender(path) as log:
        known = dict(verdicts_by_key(read_jsonl(path))) if path.exists() else {}
        known.update(verdicts_by_key(log.done))
        todo = {key: answer.jobs for key, answer in unique.items() if key not in known}
        if len(todo) < len(unique):
            print(f"reused     {len(unique) - len(todo)} of {len(unique)} verdicts in {path}")
        for key, verdict in judge_jobs(todo, judge):
            known[key] = verdict
            log.write(verdict | {"key": key})
        failed = {key: jobs for key, jobs in todo.items() if known[key]["verdict"] == Verdict.INTERNAL_ERROR}
        known.update(judge_jobs(failed, judge))
        rows = [
            known[answer.key]
            | {
                "task_id": answer.sample.task_id,
                "sample": answer.sample.sample,
                "temperature": answer.sample.temperature,
                "extracted": answer.extracted,
                "key": answer.key,
            }
            for answer in answers
        ]
        write_jsonl(path, rows)
        log.partial.unlink()
        return rows


def verdicts_by_key(rows: Iterable[dict]) -> Iterator[tuple[str, dict]]:
    """Rows of an earlier run under the digest of what was judged; internal errors are to be judged again."""
    for row in rows:
        if "key" in row and row["verdict"] != Verdict.INTERNAL_ERROR:
            yield row["key"], row


def judge_jobs(jobs: dict[str, dict[str, Job]], judge: Judge) -> Iterator[tuple[str, dict]]:
    """(key, verdict row) of each entry as soon as all of its programs are judged."""
    if not jobs:
        return
    single = (
        Job((key, name), with_data(job.program), job.timeout)
        for key, programs in jobs.items()
        for name, job in programs.items()
    )
    total = sum(map(len, jobs.values()))
    seen: dict[str, dict[str, ExecutionResult]] = defaultdict(dict)
    for (key, name), result in tqdm(judge(single), total=total, desc="running tests", disable=None):
        seen[key][name] = result
        if len(seen[key]) == len(jobs[key]):
            yield key, verdict_row(seen.pop(key))


def with_data(program: dict) -> dict:
    """Large data of a test are read from their file only when the judge asks for the job."""
    return program | {"data": program["data"].read_bytes()} if "data" in program else program


def verdict_row(results: dict[str, ExecutionResult]) -> dict:
    """One row from one verdict, or from those on EvalPlus's "base" and "plus" tests: plus means both."""
    failed = [results[name] for name in sorted(results) if results[name].verdict != Verdict.PASSED]
    row = dataclasses.asdict(failed[0] if failed else results[max(results)])
    names = {name: str(result.verdict) for name, result in results.items() if name}
    return row | {"verdict": str(row["verdict"])} | names
