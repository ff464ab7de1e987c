"""Are a problem's tests worth learning from? Its reference solution must pass them, and nothing blind may.

A blind program never looks at its input, or hands it back: where one passes, the tests are too weak to tell
right from wrong, and every pair they label would teach by chance. Tests that are few let wrong programs pass.
"""

import ast
import dataclasses
import math
from collections.abc import Mapping

from data.judging import Judge, judge_jobs, prepare
from data.protocols import PROTOCOLS
from data.samples import Sample
from data.syntax import parse
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


LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.comprehension)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def has_few_tests(problem: Problem, counted: int, least: int) -> bool:
    """Whether a problem is tested in fewer than `least` places. `counted`: tests the harness has counted.

    False where nothing can be counted: the tests then check in a way of their own.
    """
    return 0 < max(counted, count_assertions(problem.test)) < least


def count_assertions(test: str) -> float:
    """Assertions in a test text; what stands in a loop, or in a function that may be called more than once,
    counts without end. 0 for what does not parse."""
    tree = parse(test)
    todo: list[tuple[ast.AST, float]] = [(tree, 1)] if tree else []
    total = 0.0
    while todo:
        node, times = todo.pop()
        once = isinstance(node, FUNCTIONS) and not node.decorator_list and is_test_name(node.name)
        if isinstance(node, LOOPS) or (isinstance(node, (*FUNCTIONS, ast.Lambda)) and not once):
            times = math.inf
        if is_assertion(node):
            repeats = any(isinstance(part, LOOPS) for part in ast.walk(node))
            total += math.inf if repeats else times * len(conditions(node))
        else:
            todo += [(child, times) for child in ast.iter_child_nodes(node)]
    return total


def is_test_name(name: str) -> bool:
    return name == "check" or name.startswith("test")


def conditions(node: ast.AST) -> list:
    """`assert a and b` makes two."""
    test = getattr(node, "test", None)
    return test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]


def is_assertion(node: ast.AST) -> bool:
    """`assert`, a call of something named so (`self.assertEqual`), or raising AssertionError."""
    if isinstance(node, ast.Raise):
        return node.exc is not None and "AssertionError" in ast.unparse(node.exc)
    name = ""
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    return isinstance(node, ast.Assert) or name.startswith("assert")


def blind_program(entry_point: str, value: str) -> str:
    return f"def {entry_point}(*arguments, **keywords):\n    return {value}\n"
