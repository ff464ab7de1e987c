"""Are a problem's tests worth learning from? Its reference solution must pass them, and nothing blind may.

A blind program never looks at its input, or hands it back: where one passes, the tests are too weak to tell
right from wrong, and every pair they label would teach by chance.
"""

import dataclasses
from collections.abc import Mapping

from data.judging import Judge, judge_jobs, prepare
from data.protocols import PROTOCOLS
from data.samples import Sample
from data.types import Problem, Verdict

BLIND = (
    "None",
    "True",
    "False",
    "0",
    "1",
    "''",
    "[]",
    "(*arguments, None)[0]",
)  # what a blind program returns


def faulty_problems(problems: list[Problem], judge: Judge, limits: Mapping, seconds: float) -> dict[str, str]:
    """task id -> what is wrong with the problem's tests. `seconds`: CPU limit of a program."""
    samples = [Sample(p.task_id, -1, p.canonical_solution) for p in problems if p.canonical_solution]
    samples += [
        Sample(p.task_id, number, blind_program(p.entry_point, value), whole=True)
        for p in problems
        if p.entry_point.isidentifier()
        for number, value in enumerate(BLIND)
    ]
    protocol = dataclasses.replace(PROTOCOLS["plain"], seconds=seconds)
    answers = prepare(samples, problems, protocol, limits, seconds)
    jobs = {(answer.sample.task_id, answer.sample.sample): answer.jobs for answer in answers}
    faults: dict[str, str] = {}
    for (task_id, number), row in judge_jobs(jobs, judge):
        if number < 0 and row["verdict"] not in (Verdict.PASSED, Verdict.INTERNAL_ERROR):
            faults[task_id] = "the reference solution fails"
        elif number >= 0 and row["verdict"] == Verdict.PASSED:
            faults.setdefault(task_id, "a program blind to its input passes")
    return faults


def blind_program(entry_point: str, value: str) -> str:
    return f"def {entry_point}(*arguments, **keywords):\n    return {value}\n"
