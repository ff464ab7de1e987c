"""EvalPlus's native files: inputs restored, reference answers computed once, its rules of equality."""

import random
from dataclasses import replace

import numpy as np
import pytest

from data.evalplus import RESTORERS, evalplus_problem, restored, with_tests
from data.evalplus_oracle import check_cases, is_float_like, matches
from data.execution import SandboxConfig, judge
from data.judging import judge_answers, prepare
from data.problems import problem_from_row, program
from data.protocols import PROTOCOLS
from data.samples import Sample

MEAN = {
    "task_id": "HumanEval/4",
    "prompt": "def mean(xs):\n",
    "entry_point": "mean",
    "canonical_solution": "    return sum(xs) / len(xs)\n",
    "contract": "",
    "base_input": [[[1, 2]], [[3]]],
    "plus_input": [[[0.1, 0.2, 0.3]], [[10**20, 1]]],
    "atol": 0,
}
SHARED = {
    "task_id": "Mbpp/2",
    "prompt": '"""\nShared elements.\n"""\n',
    "entry_point": "similar_elements",
    "canonical_solution": "def similar_elements(a, b):\n    a + ()  # tuples\n    return (*{*a} & {*b},)\n",
    "contract": "",
    "base_input": [[[3, 4, 5], [5, 4]]],
    "plus_input": [[[], []], [[1, 2, 3], [3, 1]]],
    "atol": 0,
    "assertion": "",
}


def verdicts(problem, bodies, tmp_path):
    """(base, plus, combined) of each completion."""
    samples = [Sample(problem.task_id, i, body) for i, body in enumerate(bodies)]
    answers = prepare(samples, [problem], PROTOCOLS["plain"], {}, 3.0)
    config = SandboxConfig(workers=2)
    rows = judge_answers(answers, lambda jobs: judge(jobs, config), tmp_path / "results.jsonl")
    return [(row["base"], row["plus"], row["verdict"]) for row in rows]


def test_humaneval_plus_end_to_end(tmp_path):
    (problem,) = with_tests([evalplus_problem(MEAN, "here")], tmp_path)
    assert (
        verdicts(
            problem,
            [
                MEAN["canonical_solution"],
                "    import statistics\n    return statistics.fmean(xs)\n",  # other rounding: within 1e-6
                "    return round(sum(xs) / len(xs), 1)\n",
                "    return sum(xs) // len(xs)\n",
                "    return 1\n",
                "    while len(xs) > 2: pass\n    return sum(xs) / len(xs)\n",
            ][:5],
            tmp_path,
        )
        == [
            ("passed", "passed", "passed"),
            ("passed", "passed", "passed"),
            ("passed", "passed", "passed"),
            ("wrong_answer", "wrong_answer", "wrong_answer"),
            ("wrong_answer", "wrong_answer", "wrong_answer"),
        ]
    )


def test_mbpp_plus_end_to_end(tmp_path):
    (problem,) = with_tests([evalplus_problem(SHARED, "here")], tmp_path)
    assert verdicts(
        problem,
        [
            SHARED["canonical_solution"],
            "def similar_elements(a, b):\n    return [x for x in b if x in a]\n",  # any order, any collection
            "def similar_elements(a, b):\n    return a[1:]\n",
        ],
        tmp_path,
    ) == [
        ("passed", "passed", "passed"),
        ("passed", "passed", "passed"),
        ("passed", "wrong_answer", "wrong_answer"),
    ]


def test_each_input_has_its_own_time_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("data.evalplus.PER_INPUT_SECONDS", 0.2)
    (problem,) = with_tests([evalplus_problem(MEAN, "here")], tmp_path)
    hangs = "    while len(xs) == 1: pass\n    return sum(xs) / len(xs)\n"
    assert verdicts(problem, [hangs], tmp_path) == [("timeout", "passed", "timeout")]
    assert problem.meta["tests"]["plus"]["timeout"] == pytest.approx(1.4)


def test_reference_answers_are_computed_once(tmp_path, monkeypatch):
    problem = evalplus_problem(MEAN, "here")
    (first,) = with_tests([problem], tmp_path)
    monkeypatch.setattr("data.evalplus.run_reference", lambda *arguments: pytest.fail("computed again"))
    (second,) = with_tests([problem], tmp_path)
    assert first == second
    assert with_tests([first], tmp_path) == [first]


@pytest.mark.parametrize(
    "change",
    [
        {"canonical_solution": "    return sum(xs) / len(xs) + 0\n"},
        {"base_input": [[[1, 2]], [(3,)]]},
        {"prompt": "def mean(xs):\n    # x\n"},
    ],
)
def test_other_reference_or_inputs_are_computed_anew(tmp_path, change):
    (first,) = with_tests([evalplus_problem(MEAN, "here")], tmp_path)
    (second,) = with_tests([evalplus_problem(MEAN | change, "here")], tmp_path)
    assert first.meta["tests"]["base"]["data"] != second.meta["tests"]["base"]["data"]


@pytest.mark.parametrize("test", ["", []])
def test_a_problem_with_neither_test_nor_inputs_is_named(test, tmp_path):
    row = {"task_id": "own/7", "prompt": "def f(x):\n", "entry_point": "f", "test": test}
    with pytest.raises(ValueError, match="own/7: test is empty; text that defines check"):
        with_tests([problem_from_row(row, "here")], tmp_path)


def test_a_problem_with_a_test_that_cannot_decide_is_named(tmp_path):
    """Before anything is sampled: all that score or pair samples take their problems from `with_tests`."""
    row = {"task_id": "own/7", "prompt": "def f(x):\n", "entry_point": "f"}
    for test, message in (("def check(:", "does not compile"), ("def chek(c): assert c(1)", "tests nothing")):
        with pytest.raises(
            ValueError, match=f"own/7: the test {message}.*; mend the problem or leave it out"
        ):
            with_tests([problem_from_row(row | {"test": test}, "here")], tmp_path)


def test_without_its_answers_a_problem_is_not_judged():
    with pytest.raises(ValueError, match="HumanEval/4 has no test yet"):
        program(evalplus_problem(MEAN, "here"), "    return 1\n")


@pytest.mark.parametrize(
    ("solution", "message"),
    [
        ("    return undefined\n", "HumanEval/4: the reference solution fails .*NameError"),
        ("    return (x for x in xs)\n", "HumanEval/4: the reference solution fails .*generator"),
        (
            "    import pathlib\n    return pathlib.Path('x')\n",
            "HumanEval/4: .* answers a pathlib.*; plain data",
        ),
    ],
)
def test_a_reference_that_fails_or_answers_objects_is_an_error(tmp_path, solution, message):
    problem = replace(evalplus_problem(MEAN, "here"), canonical_solution=solution)
    with pytest.raises(ValueError, match=message):
        with_tests([problem], tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        "    return [*{str(x) for x in [*xs, 10, 11, 12, 13]}]\n",  # in the order of a set of text
        "    import collections\n    d = collections.defaultdict(int)\n    d[xs[0]] += 1\n    return d\n",
        "    import os\n    os.write(1, b'noise')\n    print('noise')\n    return xs\n",
        "    return 10**5000\n",
    ],
)
def test_a_reference_passes_its_own_test(tmp_path, body):
    problem = replace(evalplus_problem(MEAN, "here"), canonical_solution=body)
    assert verdicts(*with_tests([problem], tmp_path), [body], tmp_path) == [("passed",) * 3]


def test_no_extra_inputs_leave_the_definition_to_be_checked(tmp_path):
    (problem,) = with_tests([evalplus_problem(MEAN | {"plus_input": []}, "here")], tmp_path)
    bodies = [MEAN["canonical_solution"], "    return 0\n", "    return 0\ndel mean\n"]
    assert [pair[:2] for pair in verdicts(problem, bodies, tmp_path)] == [
        ("passed", "passed"), ("wrong_answer", "passed"), ("runtime_error", "runtime_error"),
    ]  # fmt: skip


def test_lost_answers_are_computed_again(tmp_path):
    (problem,) = with_tests([evalplus_problem(MEAN, "here")], tmp_path)
    problem.meta["tests"]["plus"]["data"].unlink()
    with_tests([evalplus_problem(MEAN, "here")], tmp_path)
    assert problem.meta["tests"]["plus"]["data"].exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_id": 4}, "here: task_id is a int"),
        ({"base_input": "[[[1, 2]]]"}, "here: base_input is a str"),
        ({"atol": None}, "here: atol is a NoneType"),
        ({"plus_input": [[1], 2]}, "here: input 1 of HumanEval/4: a list of arguments expected, int found"),
        ({"task_id": "Mbpp/252", "plus_input": [["z"]]}, "here: input 0 of Mbpp/252: complex"),
        ({"task_id": "Mbpp/250", "base_input": [[]]}, "here: input 0 of Mbpp/250: list index"),
    ],
)
def test_a_row_that_no_file_of_evalplus_has_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        evalplus_problem(MEAN | change, "here")


def test_a_failed_case_says_what_was_given_and_what_came_back(tmp_path):
    (problem,) = with_tests([evalplus_problem(MEAN, "here")], tmp_path)
    bodies = ["    return xs[0] * 1.5\n", "    return object()\n", "    return 10 ** 9999\n"]
    answers = prepare(
        [Sample(problem.task_id, i, body) for i, body in enumerate(bodies)],
        [problem],
        PROTOCOLS["plain"],
        {},
        3,
    )
    config = SandboxConfig(workers=1)
    rows = judge_answers(answers, lambda jobs: judge(jobs, config), tmp_path / "results.jsonl")
    assert [row["detail"] for row in rows] == [
        "test 2: mean([3]) gave 4.5, expected 3.0",
        "test 1: mean([1, 2]) gave <object>, expected 1.5",
        "test 1: mean([1, 2]) gave an integer of 33216 bits, expected 1.5",
    ]


@pytest.mark.parametrize(
    ("number", "given", "expected"),
    [
        (1, [[1], [2]], [[1], [2]]),
        (2, [[1], [2]], [(1,), (2,)]),
        (63, [[[1, 2]]], [[(1, 2)]]),
        (75, [[[1, 2]], 3], [[(1, 2)], 3]),
        (106, [[1], [2]], [[1], (2,)]),
        (115, [[[1], [], {}]], [[{1}, {}, {}]]),
        (124, [1, "2j"], [1.0, 2j]),
        (250, [[1], 2], [(1,), 2]),
        (252, ["1+2j"], [1 + 2j]),
        (259, [[[1]], [[2]]], [((1,),), ((2,),)]),
        (278, [[1, [2]]], [(1, (2,))]),
        (307, [[1, []], 0, 50], [(1, []), 0, 50]),
        (580, [[1, [2, [3]]]], [(1, (2, (3,)))]),
        (722, [{"a": [1, 2]}, 3], [{"a": (1, 2)}, 3]),
    ],
)
def test_inputs_get_their_types_back(number, given, expected):
    assert repr(restored(f"Mbpp/{number}", given)) == repr(expected)
    assert restored(f"HumanEval/{number}", given) == given


def test_inputs_are_restored_as_evalplus_does():
    oracle = pytest.importorskip("evalplus.data.mbpp", reason="EvalPlus itself is the oracle")
    shapes = {
        **dict.fromkeys([75, 413, 444, 753], [[[1, 2], [3]], 4]),
        **dict.fromkeys([106, 750], [[1], [2]]),
        **dict.fromkeys([250, 405, 446, 617, 720, 763, 808], [[1, 2], 3]),
        115: [[[1], [], {}]],
        124: ["1", "2j"],
        252: ["1+2j"],
        278: [[1, [2], "a"]],
        307: [[1, []], 0, 50],
        722: [{"a": [1, 2]}, 3],
    }
    for number in range(1, 975):
        given = shapes.get(number, [[[[1], [2]], [[3]]], [[[4]]]])
        (expected,) = oracle.mbpp_deserialize_inputs(f"Mbpp/{number}", [given])
        assert repr(list(restored(f"Mbpp/{number}", given))) == repr(list(expected)), number
    assert len(RESTORERS) == 22 + 15 + 4 + 2 + 1 + 1 + 8 + 1 + 3 + 1 + 3 + 1


class Judge:
    """What the tests find as `__judge__`."""

    def __init__(self, cases):
        self.data = tuple(zip(*cases, strict=True))
        self.limits, self.count = [], 0
        self.total = lambda number: None
        self.limit_call = self.limits.append

    def passed(self):
        self.count += 1


def right(got, expected, *, atol=0.0, benchmark="humaneval", entry_point="f", arguments=()):
    judge = Judge([(list(arguments), expected, 4.0)])
    try:
        check_cases(lambda *given: got, judge, benchmark, entry_point, atol)
    except AssertionError:
        return False
    return judge.count == 1 and judge.limits == [4.0]


@pytest.mark.parametrize(
    ("got", "expected", "atol", "verdict"),
    [
        (1, 1, 0, True),
        (1.0, 1, 0, True),  # == comes first
        (1 + 1e-9, 1, 0, False),  # the expectation is no float
        (1 + 1e-9, 1.0, 0, True),
        (1 + 1e-5, 1.0, 0, False),
        (1 + 1e-5, 1.0, 1e-4, True),
        (1e9 + 50, 1e9, 0, True),  # the relative part, 1e-7
        ([1.0, 2.0 + 1e-9], [1.0, 2.0], 0, True),
        ((1.0, 2.0 + 1e-9), [1.0, 2.0], 0, False),
        ([1.0], [1.0, 2.0], 0, False),
        ([1.0 + 1e-9, 2], [1.0, 2], 0, False),  # not all floats: no tolerance
        ([1.0 + 1e-9, 2], [1.0, 2], 1e-6, True),
        (float("nan"), float("nan"), 0, False),
        (None, 1.0, 0, False),
    ],
)
def test_equality_first_then_a_tolerance_for_floats(got, expected, atol, verdict):
    assert right(got, expected, atol=atol) is verdict


def test_the_tolerance_stays_once_a_float_was_expected():
    cases = [([0], 1.0, 4.0), ([1], [1.0 + 1e-9, 2], 4.0)]
    answers = iter([1.0, [1.0, 2]])
    check_cases(lambda x: next(answers), Judge(cases), "humaneval", "f", 0)


@pytest.mark.parametrize(
    ("entry_point", "arguments", "got", "expected", "verdict"),
    [
        ("similar_elements", (), [2, 1, 1], (1, 2), True),
        ("similar_elements", (), (1,), (1, 2), False),
        ("check_str", (), "a match", True, True),
        ("check_str", (), None, False, True),
        ("check_str", (), None, True, False),
        ("check_str", (), False, True, False),
        ("are_equivalent", (), "anything", True, True),
        ("sum_div", (), 0, 7, True),
        ("sum_div", (), 1, 7, False),
        ("surface_Area", (3, 4), 35, 33, True),
        ("surface_Area", (3, 4), 34, 33, False),
        ("digit_distance_nums", (1, 23), 4, 6, True),
        ("digit_distance_nums", (1, 23), 5, 6, False),
        ("f", (), 0, 7, False),
        ("similar_elements", (), np.array([1, 2, 2]), (1, 2), None),  # == raises before the oracle is asked
        ("are_equivalent", (), np.array([1, 2, 2]), [1, 2, 2], None),
    ],
)
def test_special_oracles_of_mbpp(entry_point, arguments, got, expected, verdict):
    case = {"benchmark": "mbpp", "entry_point": entry_point, "arguments": list(arguments)}
    if verdict is None:
        with pytest.raises(ValueError, match=r"broadcast|ambiguous"):
            right(got, expected, **case)
    else:
        assert right(got, expected, **case) is verdict


def test_any_root_of_the_polynomial_is_right():
    find_zero = {"entry_point": "find_zero", "arguments": [[-4, 0, 1]], "atol": 1e-4}
    assert right(2.0, 1.99, **find_zero)
    assert right(-2.0, 2.0, **find_zero)
    assert not right(1.99, 2.0, **find_zero)


def test_equality_and_oracles_are_evalpluss():
    evaluation = pytest.importorskip("evalplus.eval", reason="EvalPlus itself is the oracle")
    rng = random.Random(0)
    values = [0, 1, 7, 1.0, 1.0 + 1e-8, 2.5, True, False, None, "a", "", [], (), [1, 2], [2, 1], (1, 2)]
    values += [[1.0, 2.0], [1.0, 2.0 + 1e-8], (1.0,), {"a": 1}, {1, 2}, [[1.0], [2.0]]]
    names = [("humaneval", "f"), ("mbpp", "f"), ("mbpp", "similar_elements"), ("mbpp", "check_str")]
    names += [("mbpp", "are_equivalent"), ("mbpp", "sum_div"), ("humaneval", "sum_div")]
    for (benchmark, name), atol in [(names[i], atol) for i in range(len(names)) for atol in (0, 1e-6, 0.1)]:
        cases = [(rng.choice(values), rng.choice(values)) for _ in range(60)]
        code = f"answers = iter({[got for got, _ in cases]!r})\n{name} = lambda x: next(answers)"
        expected = [value for _, value in cases]
        _, details = evaluation.untrusted_check(
            benchmark, code, [[0]] * len(cases), name, expected, atol, [1.0] * len(cases), fast_check=False
        )
        for number, (got, value) in enumerate(cases):
            # A float expected earlier switches the tolerance on, unless that comparison itself raised.
            seen = [case for case in cases[:number] if is_float_like(case[1])]
            before = [([1.0], [1.0]) if name == "similar_elements" else (1.0, 1.0)]
            before *= any(comparable(benchmark, name, *case) for case in seen)
            assert bool(details[number]) == holds([*before, (got, value)], benchmark, name, atol), (
                benchmark,
                name,
                atol,
                got,
                value,
                before,
            )


def comparable(benchmark: str, name: str, got: object, expected: object) -> bool:
    try:
        matches(benchmark, name, [0], got, expected, 0)
    except Exception:
        return False
    return True


def holds(cases: list[tuple], benchmark: str, name: str, atol: float) -> bool:
    answers = iter([got for got, _ in cases])
    judge = Judge([([0], expected, 4.0) for _, expected in cases])
    try:
        check_cases(lambda x: next(answers), judge, benchmark, name, atol)
    except Exception:
        return False
    return True


def test_matches_never_calls_the_oracles_of_another_benchmark():
    assert not matches("humaneval", "are_equivalent", [], 1, 2, 0)
