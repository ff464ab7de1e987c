"""The toy problems: right programs pass, every common bug fails, no held-out composition is demonstrated."""

import ast
import collections
import random
import sys
from functools import cache

import pytest

from data import toy, toy_checks, toy_programs
from data.toy_primitives import PRIMITIVES
from data.types import Problem

STEP_LIMIT = 3000  # lines; the right programs need fewer, an endless loop runs into it


class Endless(BaseException):
    """Not an Exception, so that a program under test cannot catch it."""


def outcome(problem: Problem, body: str) -> str:
    """Run the tests: "passed", the name of the exception, or "endless" after STEP_LIMIT lines."""
    namespace: dict = {}
    try:
        exec(problem.prompt + body, namespace)
        exec(problem.test, namespace)
    except SyntaxError:
        return "SyntaxError"
    left = STEP_LIMIT * toy_checks.MOST_TESTS

    def count(frame, event, argument):
        nonlocal left
        left -= 1
        if left < 0:
            raise Endless
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        namespace["check"](namespace[problem.entry_point])
    except Endless:
        return "endless"
    except Exception as error:
        return type(error).__name__
    finally:
        sys.settrace(before)
    return "passed"


@cache
def sample(split: str) -> list[Problem]:
    return toy.toy_problems(split, 250, seed=11)


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return sample("train") + sample("test")


@pytest.fixture(scope="module")
def demonstrations() -> list[dict]:
    return toy.demonstrations(6000, seed=5)


# --- format


def test_problems_have_the_format_of_humaneval(problems):
    for problem in problems:
        function = ast.parse(problem.prompt + problem.canonical_solution).body[0]
        assert isinstance(function, ast.FunctionDef)
        assert function.name == problem.entry_point
        assert ast.get_docstring(function)
        assert problem.prompt.endswith('"""\n')
        assert problem.canonical_solution.endswith("\n")
        assert problem.test.startswith("def check(candidate):\n")
        assert toy_checks.TESTS <= problem.test.count("assert candidate(") <= toy_checks.MOST_TESTS
        assert problem.task_id.startswith(f"toy/{problem.split}/")


def test_there_are_seven_families_and_all_kinds_of_bug(problems):
    families = {primitive.family for primitive in PRIMITIVES.values()}
    assert len(families) == 7
    assert {problem.meta["family"] for problem in problems} == families
    kinds = {bug["kind"] for problem in problems for bug in problem.meta["bugs"]}
    assert kinds == {kind for primitive in PRIMITIVES.values() for kind in primitive.bugs}


def test_docstrings_and_code_leave_no_placeholder(problems):
    for problem in problems:
        bodies = [problem.canonical_solution, *(bug["body"] for bug in problem.meta["bugs"])]
        for text in (problem.prompt, *bodies):
            assert toy_programs.fill(text, tuple(dict.fromkeys("ABKXY", "?").items())) == text


# --- right programs pass, wrong ones fail


def test_every_canonical_solution_passes(problems):
    assert {outcome(p, p.canonical_solution) for p in problems} == {"passed"}


def test_every_right_style_passes(problems):
    """All styles of every step, with reassigned and with fresh variables."""
    styles_seen = collections.defaultdict(set)
    for problem in problems:
        steps = [
            toy_programs.Step(PRIMITIVES[name], tuple(constants.items()))
            for name, constants in zip(problem.meta["composition"], problem.meta["constants"], strict=True)
        ]
        argument = ast.parse(problem.prompt + "    pass").body[0].args.args[0].arg
        for number in range(3):
            templates = []
            for step in steps:
                usable = toy_programs.styles_at(step.primitive.right, step is steps[-1])
                templates.append(usable[number % len(usable)])
                styles_seen[step.primitive.name].add(templates[-1])
            for reassign in (True, False):
                body = toy_programs.write_body(steps, templates, argument, reassign)
                assert outcome(problem, body) == "passed", problem.prompt + body
    missing = {p.name: set(p.right) - styles_seen[p.name] for p in PRIMITIVES.values()}
    assert sum(map(len, missing.values())) <= 5, missing


def test_every_shipped_bug_fails_in_its_own_way(problems):
    outcomes = collections.defaultdict(collections.Counter)
    for problem in problems:
        for bug in problem.meta["bugs"]:
            result = outcome(problem, bug["body"])
            assert result != "passed", problem.prompt + bug["body"]
            outcomes[bug["kind"]][result] += 1
    assert set(outcomes["syntax"]) == {"SyntaxError"}
    assert set(outcomes["endless_loop"]) == {"endless"}
    assert set(outcomes["key"]) == {"KeyError"}
    assert set(outcomes["name"]) <= {"NameError", "UnboundLocalError"}
    assert set(outcomes["method"]) <= {"AttributeError"}
    assert outcomes["operator"]["AssertionError"] > sum(outcomes["operator"].values()) / 2
    assert sum(map(len, outcomes.values())) > len(outcomes)  # an exception class is not the kind itself
    seen = {name for counter in outcomes.values() for name in counter}
    assert {"AssertionError", "TypeError", "IndexError", "ValueError", "ZeroDivisionError"} <= seen


def test_no_other_kind_hangs(problems):
    for problem in problems:
        for bug in problem.meta["bugs"]:
            if bug["kind"] != "endless_loop":
                assert outcome(problem, bug["body"]) != "endless"


def test_trivial_programs_fail(problems):
    for problem in problems:
        function = ast.parse(problem.prompt + "    pass").body[0]
        argument = function.args.args[0].arg
        first, *_ = (node.test for node in ast.walk(ast.parse(problem.test)) if isinstance(node, ast.Assert))
        constants = [
            ast.unparse(first.comparators[0]),
            "None",
            "0",
            "1",
            "''",
            "[]",
            "True",
            "False",
            argument,
        ]
        for body in ["    pass\n", "", *(f"    return {constant}\n" for constant in constants)]:
            assert outcome(problem, body) != "passed", problem.prompt + body


def test_tests_cover_the_empty_argument(problems):
    for problem in problems:
        empty = {"numbers": "[]", "words": "[]", "pairs": "[]", "text": "''", "natural": "0", "integer": "0"}
        takes = PRIMITIVES[problem.meta["composition"][0]].takes
        starts = {empty[takes], "0"} if takes in ("natural", "integer") else {empty[takes]}
        assert any(f"assert candidate({start})" in problem.test for start in starts)


# --- the split


def test_no_held_out_composition_is_trained_on(demonstrations):
    seen = {split: {tuple(p.meta["composition"]) for p in sample(split)} for split in toy.SPLITS}
    shown = {tuple(row["composition"]) for row in demonstrations}
    for split in ("validation", "test"):
        assert not seen[split] & (seen["train"] | shown)
    assert not seen["validation"] & seen["test"]
    assert all(toy.split_of(composition) == "train" for composition in shown)


def test_every_primitive_is_in_the_training_split_alone_and_demonstrated(demonstrations):
    assert all(toy.split_of((name,)) == "train" for name in PRIMITIVES)
    assert {name for row in demonstrations for name in row["composition"]} == set(PRIMITIVES)


def test_split_shares_are_as_declared():
    names = sorted(PRIMITIVES)
    counted = collections.Counter(toy.split_of((a, b)) for a in names for b in names)
    for split, share in toy.SPLITS.items():
        assert counted[split] / len(names) ** 2 == pytest.approx(share, abs=0.03)


# --- numbers of problems


def test_at_least_50000_different_problems():
    """Different docstrings and different semantics (composition and constants), on a stream that is not
    even exhausted: problems are the sound share of it, 1 in 3 at the least."""
    rng, docstrings, meanings = random.Random(0), set(), set()
    sound, drawn = 0, 160_000
    for number in range(drawn):
        composition = toy.draw_composition(rng)
        steps = toy.draw_steps(rng, composition)
        if number < 500:
            sound += toy_checks.choose_tests(rng, steps) is not None
        meanings.add((composition, tuple(step.constants for step in steps)))
        docstrings.add(hash(toy_programs.write_prompt(rng, steps, "f", "x")))
    assert sound / 500 > 0.5
    assert len(docstrings) * sound / 500 > 50_000
    assert len(meanings) > 20_000


def test_a_problem_set_repeats_no_docstring():
    found = [p.prompt.split("\n")[1] for p in sample("train")]
    assert len(set(found)) == len(found)


def test_the_same_arguments_give_the_same_problems_and_another_seed_others():
    first, again, other = (toy.toy_problems("validation", 20, seed) for seed in (3, 3, 4))
    assert first == again
    assert {p.prompt for p in first}.isdisjoint({p.prompt for p in other})
    assert {p.task_id for p in first}.isdisjoint({p.task_id for p in other})
    assert toy.demonstrations(20, seed=1) == toy.demonstrations(20, seed=1) != toy.demonstrations(20, seed=2)


def test_an_unknown_split_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'dev'.*train, validation, test"):
        toy.toy_problems("dev", 1)


# --- demonstrations


def test_common_bugs_are_the_majority_of_their_primitives(demonstrations):
    habits = toy.bug_prone()
    uses, wrong = collections.Counter(), collections.Counter()
    for row in demonstrations:
        bugs = dict(row["bugs"])
        assert row["correct"] == (not bugs)
        for name in row["composition"]:
            uses[name] += 1
            wrong[name] += bugs.get(name) == habits.get(name, "none") or (name not in habits and name in bugs)
    assert len(habits) == pytest.approx(0.4 * len(PRIMITIVES), abs=1)
    prone = sum(wrong[name] for name in habits) / sum(uses[name] for name in habits)
    other = [name for name in PRIMITIVES if name not in habits]
    assert prone == pytest.approx(0.65, abs=0.03)
    assert all(wrong[name] / uses[name] > 0.5 for name in habits if uses[name] >= 60)
    assert sum(wrong[name] for name in other) / sum(uses[name] for name in other) < 0.06


def test_correct_demonstrations_pass_and_the_others_fail():
    """The problems' own tests, on demonstrations written for the same prompt."""
    rng = random.Random(1)
    for problem in sample("train")[:100]:
        steps = [
            toy_programs.Step(PRIMITIVES[name], tuple(constants.items()))
            for name, constants in zip(problem.meta["composition"], problem.meta["constants"], strict=True)
        ]
        argument = ast.parse(problem.prompt + "    pass").body[0].args.args[0].arg
        templates, bugs = toy.draw_templates(rng, steps, toy.bug_prone(), 0.65)
        passed = outcome(problem, toy_programs.write_body(steps, templates, argument)) == "passed"
        if len(bugs) < 2:  # two bugs can undo each other
            assert passed == (not bugs)


def test_demonstrations_without_bugs_or_with_another_mix():
    habits = [toy.bug_prone(bug_seed=seed) for seed in range(3)]
    assert habits[0] != habits[1] != habits[2]
    assert all(set(h.values()) >= {"boundary", "operator", "empty_case", "type", "method"} for h in habits)
    assert all("syntax" not in h.values() for h in habits)
    assert toy.bug_prone(bug_share=0.0) == {}
    assert set(toy.bug_prone(bug_share=1.0)) == set(PRIMITIVES)


# --- the table


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_table_entry(name):
    primitive = PRIMITIVES[name]
    last = not toy.followers(primitive.gives)
    assert len(primitive.phrases) >= 2
    assert toy_programs.styles_at(primitive.right, last)[0] == primitive.right[0]
    assert toy.common_bugs(primitive)
    texts = [*primitive.phrases, *primitive.right, *(s for styles in primitive.bugs.values() for s in styles)]
    for constant in primitive.constants:
        assert all(constant in toy_programs.PLACEHOLDER.findall(phrase) for phrase in primitive.phrases)
    for text in texts:
        assert set(toy_programs.PLACEHOLDER.findall(text)) <= {*primitive.constants, "X", "Y"}


def test_phrases_belong_to_one_primitive():
    counted = collections.Counter((p.takes, phrase) for p in PRIMITIVES.values() for phrase in p.phrases)
    assert max(counted.values()) == 1
