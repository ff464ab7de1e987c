"""Does a training problem, or an answer to one, repeat a benchmark's text?

Two published tests: thirteen words in a row in common (as in Brown et al. 2020, 2005.14165, appendix C, which
uses 13-grams of words), and the same function name with the same docstring. A word is a run of letters,
digits and underscores, without case, so layout and punctuation do not hide a copy.
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
    text: str  # the shared words, or the docstring's first line


@dataclass(frozen=True)
class Index:
    """Benchmarks' texts, ready to be looked up: where each run of `n` words and each docstring is from."""

    n: int
    runs: dict[tuple[str, ...], tuple[str, str]]  # words -> (benchmark, task id)
    docstrings: dict[
        tuple[str, str], tuple[str, str]
    ]  # (entry point, docstring's words) -> (benchmark, task id)


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
            described = " ".join(words(docstring(problem)))
            if described:
                docstrings.setdefault((problem.entry_point, described), where)
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
        description = docstring(problem)
        where = index.docstrings.get((problem.entry_point, " ".join(words(description))))
        if where is not None:
            first_line = description.strip().splitlines()[0]
            hits.append(Hit(problem.task_id, *where, "name and docstring", first_line))
    return hits


def shared_run(text: str, index: Index) -> tuple[tuple[str, str], tuple[str, ...]] | None:
    """((benchmark, task id), words) of the first run a text shares with a benchmark."""
    for run in word_runs(text, index.n):
        if run in index.runs:
            return index.runs[run], run
    return None
