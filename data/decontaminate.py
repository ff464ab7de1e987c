"""Does a training problem, or an answer to one, repeat a benchmark's text?

Two published tests: thirteen words in a row in common (as in Brown et al. 2020, 2005.14165, appendix C, which
uses 13-grams of words), and the same function name with the same description. A word is a run of letters,
digits and underscores, without case, so layout and punctuation do not hide a copy; examples are no part of a
description, since MBPP's prompts end in an assertion that a copy need not have.
"""

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass

from data.syntax import DEFINITIONS, parse
from data.types import Problem


@dataclass(frozen=True)
class Hit:
    """One training problem that repeats one benchmark problem."""

    task_id: str
    benchmark: str
    benchmark_id: str
    kind: str  # "words in a row" or "name and docstring"
    text: str  # the shared words


@dataclass(frozen=True)
class Index:
    """Benchmarks' texts, ready to be looked up: where each run of `n` words and each docstring is from."""

    n: int
    runs: dict[tuple[str, ...], tuple[str, str]]  # words -> (benchmark, task id)
    docstrings: dict[
        tuple[str, str], tuple[str, str]
    ]  # (entry point, words of its description) -> (benchmark, task id)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def word_runs(text: str, n: int) -> Iterable[tuple[str, ...]]:
    """Every run of n words; a text shorter than n has none."""
    found = words(text)
    return (tuple(found[i : i + n]) for i in range(len(found) - n + 1))


def docstring(problem: Problem) -> str:
    """The description in a prompt: the entry point's docstring, else the module's, else the whole prompt."""
    tree = parse(problem.prompt + "    pass\n") or parse(problem.prompt)
    if tree is None:
        return problem.prompt
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS) and node.name == problem.entry_point:
            return ast.get_docstring(node) or ""
    return ast.get_docstring(tree) or problem.prompt


def description(problem: Problem) -> str:
    """The words of the docstring without examples: `assert` lines, and all from the first `>>>` on."""
    text = docstring(problem).partition(">>>")[0]
    return " ".join(
        words("\n".join(line for line in text.splitlines() if not line.lstrip().startswith("assert ")))
    )


def benchmark_index(benchmarks: dict[str, list[Problem]], n: int) -> Index:
    """Prompts and reference solutions of benchmarks by name; tests are left out, as common inputs repeat."""
    if n < 1:
        raise ValueError(f"n is {n}, at least one word expected")
    runs: dict[tuple[str, ...], tuple[str, str]] = {}
    docstrings: dict[tuple[str, str], tuple[str, str]] = {}
    for name, problems in benchmarks.items():
        for problem in problems:
            where = (name, problem.task_id)
            for run in word_runs(problem.prompt + "\n" + problem.canonical_solution, n):
                runs.setdefault(run, where)
            if description(problem):
                docstrings.setdefault((problem.entry_point, description(problem)), where)
    return Index(n, runs, docstrings)


def problem_hits(problems: Iterable[Problem], index: Index) -> list[Hit]:
    """The training problems that repeat a benchmark, the first evidence of each kind for each."""
    hits = []
    for problem in problems:
        text = problem.prompt + "\n" + problem.canonical_solution
        shared = shared_run(text, index)
        if shared is not None:
            where, run = shared
            hits.append(Hit(problem.task_id, *where, "words in a row", " ".join(run)))
        where = index.docstrings.get((problem.entry_point, description(problem)))
        if where is not None:
            hits.append(Hit(problem.task_id, *where, "name and docstring", description(problem)))
    return hits


def shared_run(text: str, index: Index) -> tuple[tuple[str, str], tuple[str, ...]] | None:
    """((benchmark, task id), words) of the first run a text shares with a benchmark."""
    for run in word_runs(text, index.n):
        if run in index.runs:
            return index.runs[run], run
    return None
