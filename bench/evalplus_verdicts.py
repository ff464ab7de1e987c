"""Per-task verdicts of data/evalplus.py beside EvalPlus's own, on reference solutions and mutants of them.

    python -m bench.evalplus_verdicts humaneval          # or mbpp_sanitized; needs the evalplus package

The native files of EvalPlus are not needed: inputs are recorded while the benchmark's own tests run, the
first half plays "base", the second "plus". Mutants change an operator, a comparison, a number or a result.
"""

import ast
import contextlib
import copy
import io
import random
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from evalplus.eval import untrusted_check
from evalplus.gen.util import trusted_exec

from data.evalplus import NOT_NONE, evalplus_problem, with_tests
from data.execution import SandboxConfig, judge
from data.judging import judge_answers, prepare
from data.problems import load_problems
from data.protocols import PROTOCOLS
from data.samples import Sample
from data.types import Problem

MUTANTS = 3
INPUTS = 40
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.FloorDiv,
    ast.Mod: ast.FloorDiv,
}
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq}


class Mutation(ast.NodeTransformer):
    """Changes the n-th place that can be changed."""

    def __init__(self, n: int, rng: random.Random) -> None:
        self.left, self.rng = n, rng

    def here(self) -> bool:
        self.left -= 1
        return self.left == 0

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if self.here():
            node.op = OPERATORS.get(type(node.op), ast.Add)()
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if self.here():
            node.ops[0] = COMPARISONS.get(type(node.ops[0]), ast.Eq)()
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(node.value + 1) if type(node.value) is int and self.here() else node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if node.value is not None and self.here():
            wrap = self.rng.choice(["list", "str", ""])
            call = ast.Call(ast.Name(wrap, ast.Load()), [node.value], [])
            node.value = call if wrap else ast.Constant(None)
        return node


def mutant(source: str, rng: random.Random) -> str:
    return ast.unparse(ast.fix_missing_locations(Mutation(rng.randrange(1, 8), rng).visit(ast.parse(source))))


def recorded_inputs(problem: Problem) -> list[list]:
    """Arguments with which the problem's test calls the function. The reference solution runs in here."""
    inputs: list[list] = []
    namespace: dict = {"__name__": "recorded"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(problem.prompt + problem.canonical_solution, namespace)
        function = namespace[problem.entry_point]

        def recorder(*arguments: object) -> object:
            if len(inputs) < INPUTS:
                inputs.append(copy.deepcopy(list(arguments)))
            return function(*arguments)

        exec(problem.test, namespace)
        namespace["check"](recorder)
    return inputs


def native(problem: Problem, inputs: list[list]) -> Problem:
    """The problem as it would come out of one of EvalPlus's files."""
    row = {
        "task_id": problem.task_id,
        "prompt": problem.prompt,
        "entry_point": problem.entry_point,
        "canonical_solution": problem.canonical_solution,
        "contract": "",
        "base_input": [],
        "plus_input": [],
        "atol": 1e-4 if problem.entry_point == "find_zero" else 0,
    }
    half = (len(inputs) + 1) // 2
    found = evalplus_problem(row, problem.task_id)
    found.meta["inputs"] = {"base": inputs[:half], "plus": inputs[half:] or inputs[:1]}
    return found


def their_verdict(problem: Problem, inputs: list[list], source: str) -> str:
    only_not_none = problem.meta["benchmark"] == "mbpp" and problem.entry_point in NOT_NONE
    reference = problem.prompt + problem.canonical_solution
    expected, seconds = trusted_exec(
        reference, copy.deepcopy(inputs), problem.entry_point, record_time=True, output_not_none=only_not_none
    )
    status, _ = untrusted_check(
        problem.meta["benchmark"], source, copy.deepcopy(inputs), problem.entry_point, expected,
        problem.meta["atol"], seconds, fast_check=True,
    )  # fmt: skip
    return status


def main(name: str) -> None:
    rng = random.Random(0)
    problems = [native(problem, recorded_inputs(problem)) for problem in load_problems(name)]
    inputs = {problem.task_id: problem.meta["inputs"] for problem in problems}
    samples = [
        Sample(problem.task_id, i, mutant(source, rng) if i else source, whole=True)
        for problem in problems
        for source in [problem.prompt + problem.canonical_solution]
        for i in range(1 + MUTANTS)
    ]
    with tempfile.TemporaryDirectory() as folder:
        tested = with_tests(problems, Path(folder))
        answers = prepare(samples, tested, PROTOCOLS["solution"], {}, 3.0)
        start = time.perf_counter()
        rows = judge_answers(answers, partial(judge, config=SandboxConfig()), Path(folder, "results.jsonl"))
        ours = time.perf_counter() - start
    print(f"{name}: {len(rows)} programs, {dict(Counter(str(row['verdict']) for row in rows))}, {ours:.0f} s")
    right = sum(row["verdict"] == "passed" for row in rows if row["sample"] == 0)
    print(f"reference solutions: {right} of {len(problems)} pass base and plus")
    by_id = {problem.task_id: problem for problem in problems}
    differing = []
    for answer, row in zip(answers, rows, strict=True):
        for kind, given in inputs[row["task_id"]].items():
            theirs = their_verdict(by_id[row["task_id"]], given, answer.source)
            if (theirs == "pass") != (row[kind] == "passed"):
                differing.append(
                    f"  {row['task_id']} sample {row['sample']} {kind}: {theirs} there, {row[kind]} here"
                )
    print(f"verdicts that differ from EvalPlus: {len(differing)} of {2 * len(rows)}", *differing, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "humaneval")
