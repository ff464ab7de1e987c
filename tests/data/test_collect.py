"""data/collect.py and data/pairing.py: ten lines by hand, every rule alone, invariants."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from data.collect import (
    check_keys,
    collect_pairs,
    join,
    read_completions,
    read_results,
    text_notes,
    write_pairs,
)
from data.judging import Answer, prepare
from data.pair_report import table
from data.pairing import PairingConfig, choose_pairs, within_quota
from data.protocols import PROTOCOLS
from data.samples import Sample, read_samples
from data.types import Completion, ExecutionResult, Problem, Verdict

PROMPT = 'def {name}(xs):\n    """Largest element, None when there is none."""\n'


def problem(name: str) -> Problem:
    return Problem(f"toy/{name}", PROMPT.format(name=name), "", name)


def completion(name: str, sample: int, text: str, **changes: object) -> Completion:
    ids = [ord(character) % 97 for character in text] + [1]
    values = {"prompt_ids": [2, 3], "ids": ids, "temperature": 0.8, "seed": sample} | changes
    return Completion(f"toy/{name}", sample, text, **values)


def result(name: str, sample: int, verdict: str, **changes: object) -> ExecutionResult:
    return ExecutionResult(f"toy/{name}", sample, Verdict(verdict), **changes)


# What the programs are, in one word.
RIGHT = "    return max(xs) if xs else None\n"
RIGHT_LONGER = "    if not xs:\n        return None\n    return sorted(xs)[-1]\n"
COMMENTED = "    # the largest\n    return max(xs) if xs else None\n"
CRASHES = "    return max(xs)\n"
WRONG = "    return min(xs) if xs else None\n"
LOOPS = "    while xs:\n        best = xs[0]\n    return best\n"
BROKEN = "    return max(xs if xs else None\n"
CONSTANT = "    return None\n"
VERDICTS = {
    RIGHT: "passed", RIGHT_LONGER: "passed", COMMENTED: "passed", CRASHES: "runtime_error",
    WRONG: "wrong_answer", LOOPS: "timeout", BROKEN: "syntax_error", CONSTANT: "wrong_answer",
}  # fmt: skip


def collect(samples: dict[str, list[str]], seed: int = 1, rerun=None, check=None, **settings: object):
    """Texts per problem -> Collection, with the verdict each text has above."""
    rows = [(name, i, text) for name, texts in samples.items() for i, text in enumerate(texts)]
    return collect_pairs(
        [problem(name) for name in samples],
        [completion(*row) for row in rows],
        [result(name, i, VERDICTS[text]) for name, i, text in rows],
        config(**{"quota": {}, **settings}),
        seed=seed,
        rerun=rerun,
        check=check,
    )


def config(**settings: object) -> PairingConfig:
    """The defaults without balance of lengths, which a handful of pairs cannot have."""
    return PairingConfig(**{"length_gap": None, **settings})


def sides(collection) -> list[tuple[str, str]]:
    return [(pair.chosen, pair.rejected) for pair in collection.pairs]


TEN_LINES = [
    # task, sample, text, verdict
    ("a", 0, RIGHT, "passed"),
    ("a", 1, CRASHES, "runtime_error"),
    ("a", 2, COMMENTED, "passed"),  # sample 0 with a comment
    ("a", 3, BROKEN, "syntax_error"),
    ("a", 4, WRONG, "wrong_answer"),
    ("b", 0, RIGHT, "passed"),
    ("b", 1, RIGHT_LONGER, "passed"),  # every sample of b passed
    ("c", 0, CRASHES, "runtime_error"),
    ("c", 1, WRONG, "wrong_answer"),  # none of c did
    ("c", 2, RIGHT, "internal_error"),  # says nothing about the program
]


def ten_lines() -> tuple[list[Problem], list[Completion], list[ExecutionResult]]:
    return (
        [problem(name) for name in "abc"],
        [completion(name, i, text) for name, i, text, _ in TEN_LINES],
        [result(name, i, verdict, kind="E" * (i == 1)) for name, i, _, verdict in TEN_LINES],
    )


def test_ten_lines_worked_out_by_hand():
    """Only a has passes and failures. RIGHT may be used twice, so two of its three failures are taken.

    Both must run (BROKEN does not parse), and the nearer one comes first: WRONG is two letters away
    (max -> min) of the 35 characters, CRASHES fifteen (" if xs else None" less its line end).
    """
    collection = collect_pairs(*ten_lines(), config(quota={}), seed=0, provenance={"checkpoint": "abc"})
    assert sides(collection) == [(RIGHT, WRONG), (RIGHT, CRASHES)]
    assert [pair.meta["edit_distance"] for pair in collection.pairs] == [round(2 / 35, 4), round(16 / 35, 4)]
    assert collection.report["kept"] == 2
    assert collection.report["problems"] == 1
    assert collection.report["dropped"] == {
        "pairs: beyond what a problem or an answer may give": 1,
        "problems: every sample passed": 1,
        "problems: no sample passed": 1,
        "samples: same program as an earlier one": 1,
        "samples: verdict internal_error is no label": 1,
    }
    assert collection.report["rejected_verdicts"] == {"runtime_error": 1, "wrong_answer": 1}
    assert collection.report["pass_rate"]["0.4-0.5"] == 1  # a: 2 of 5
    assert collection.report["duplicate_rate"] == 0.1
    assert collection.report["layout_only"] == 0


def test_a_pair_carries_ids_as_sampled_and_where_it_comes_from():
    pair = collect_pairs(
        *ten_lines(), config(), seed=0, provenance={"tokenizer": "t", "checkpoint": "c"}
    ).pairs[0]
    right, wrong = completion("a", 0, RIGHT), completion("a", 4, WRONG)
    assert (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids) == ([2, 3], right.ids, wrong.ids)
    assert pair.prompt == problem("a").prompt
    assert pair.meta["tokenizer"] == "t"
    assert pair.meta["checkpoint"] == "c"
    assert pair.meta["pass_rate"] == 0.4
    assert pair.meta["length_difference"] == 0
    assert pair.meta["chosen"] == {
        "sample": 0, "verdict": "passed", "kind": "", "tests_passed": 0, "tests_total": 0, "temperature": 0.8,
        "seed": 0, "length": 36, "samples": 2,
    }  # fmt: skip
    assert pair.meta["rejected"]["verdict"] == "wrong_answer"


def test_answers_without_the_ids_of_their_prompt_are_told_of():
    """Their pairs take the problem's prompt as it is, which a chat model was not asked."""
    given = [completion("a", 0, RIGHT), completion("a", 1, WRONG, prompt_ids=[], ids=[])]
    assert text_notes([problem("a")], given[:1]) == []
    (note,) = text_notes([problem("a")], given)
    assert note.startswith(
        "1 completions have no prompt_ids: as prompt their pairs get the problem's, without a chat"
    )
    whole = completion("a", 2, problem("a").prompt + RIGHT, prompt_ids=[], ids=[])
    assert text_notes([problem("a")], [*given, whole])[1].startswith(
        "1 completions repeat the problem's prompt"
    )


def test_an_answer_that_is_no_text_gives_no_pair():
    """Half a surrogate pair, as tools that count in UTF-16 cut it: nothing could train on it."""
    torn = "    return '\ud83d'\n"
    rows = [(0, RIGHT, "passed"), (1, WRONG, "wrong_answer"), (2, torn, "syntax_error")]
    collection = collect_pairs(
        [problem("a")],
        [completion("a", i, text, prompt_ids=[], ids=[]) for i, text, _ in rows],
        [result("a", i, verdict) for i, _, verdict in rows],
        config(quota={}),
        seed=1,
    )
    assert sides(collection) == [(RIGHT, WRONG)]
    assert collection.report["dropped"] == {"samples: half a surrogate pair, which no tokenizer reads": 1}


def test_the_table_names_what_was_kept_and_dropped():
    text = table(collect_pairs(*ten_lines(), config(quota={}), seed=0).report)
    assert "pairs      2 from 1 of 3 problems, 10 samples, 10% of them repeat a program" in text
    assert "problems: every sample passed" in text
    assert "verdicts   passed 4, runtime_error 2, wrong_answer 2, internal_error 1, syntax_error 1" in text


def test_the_written_file_is_whole_and_read_as_the_common_format(tmp_path):
    collection = collect_pairs(*ten_lines(), config(), seed=0)
    write_pairs(tmp_path / "pairs.jsonl", collection, seed=0)
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["chosen"], row["rejected"]) for row in rows] == [
        (p.prompt, p.chosen, p.rejected) for p in collection.pairs
    ]
    meta = json.loads((tmp_path / "pairs.jsonl.meta.json").read_text())
    assert (meta["kept"], meta["problems"], meta["seed"]) == (2, 1, 0)
    assert meta["dropped"]["problems: no sample passed"] == 1


def test_no_pairs_at_all_is_an_error_that_says_why_and_writes_nothing(tmp_path):
    collection = collect({"a": [RIGHT, RIGHT_LONGER]})
    with pytest.raises(ValueError, match=r"no pairs to write .*1 problems: every sample passed"):
        write_pairs(tmp_path / "pairs.jsonl", collection)
    assert list(tmp_path.iterdir()) == []


# Rules, one at a time


@pytest.mark.parametrize(
    "trivial",
    ["", "    pass\n", "    return 0\n", "    # return max(xs)\n", "    return None\n", '    "max(xs)"\n'],
)
def test_a_trivial_program_is_never_chosen_and_unmasks_weak_tests(trivial):
    rows = [(RIGHT, "passed"), (trivial, "passed"), (WRONG, "wrong_answer")]
    collection = collect_pairs(
        [problem("a")],
        [completion("a", i, text) for i, (text, _) in enumerate(rows)],
        [result("a", i, verdict) for i, (_, verdict) in enumerate(rows)],
        config(),
        seed=0,
    )
    assert collection.pairs == []
    assert collection.report["dropped"] == {"problems: a trivial program passes its tests": 1}


def test_a_trivial_program_that_fails_may_be_rejected():
    collection = collect({"a": [RIGHT, CONSTANT]})
    assert sides(collection) == [(RIGHT, CONSTANT)]
    assert collection.report["trivial_rejected"] == 1


def test_truncated_samples_are_dropped():
    rows = [(RIGHT, "passed", True), (CRASHES, "runtime_error", False), (WRONG, "wrong_answer", True)]
    collection = collect_pairs(
        [problem("a")],
        [completion("a", i, text, finished=finished) for i, (text, _, finished) in enumerate(rows)],
        [result("a", i, verdict) for i, (_, verdict, _) in enumerate(rows)],
        config(),
        seed=0,
    )
    assert sides(collection) == [(RIGHT, WRONG)]
    assert collection.report["dropped"]["samples: cut by the length limit"] == 1


@pytest.mark.parametrize("verdict", ["internal_error", "killed", "out_of_memory"])
def test_verdicts_that_are_no_labels_are_left_out(verdict):
    def pairs_with(exclude: list[str]):
        return collect_pairs(
            [problem("a")],
            [completion("a", 0, RIGHT), completion("a", 1, WRONG), completion("a", 2, CRASHES)],
            [result("a", 0, "passed"), result("a", 1, verdict), result("a", 2, "runtime_error")],
            config(exclude=exclude),
            seed=0,
        )

    assert sides(pairs_with(["killed", "out_of_memory"])) == [(RIGHT, CRASHES)]
    asked_for = {(RIGHT, CRASHES)} | ({(RIGHT, WRONG)} if verdict != "internal_error" else set())
    assert set(sides(pairs_with([]))) == asked_for


def test_equal_programs_with_unequal_verdicts_are_flaky_and_go():
    rows = [(RIGHT, "passed"), (COMMENTED, "timeout"), (RIGHT_LONGER, "passed"), (WRONG, "wrong_answer")]
    collection = collect_pairs(
        [problem("a")],
        [completion("a", i, text) for i, (text, _) in enumerate(rows)],
        [result("a", i, verdict) for i, (_, verdict) in enumerate(rows)],
        config(),
        seed=0,
    )
    assert sides(collection) == [(RIGHT_LONGER, WRONG)]
    assert collection.report["dropped"]["samples: equal programs, some passed and some failed"] == 2


def test_syntax_errors_come_last_and_within_their_quota():
    """Two syntax errors and two wrong answers: at a third at most, one syntax error has to go."""
    assert sides(collect({"a": [RIGHT, BROKEN, CRASHES]}, per_problem=1)) == [(RIGHT, CRASHES)]
    samples = {"a": [RIGHT, BROKEN], "b": [RIGHT, BROKEN], "c": [RIGHT, WRONG], "d": [RIGHT, WRONG]}
    kept = collect(samples, quota={"syntax_error": 1 / 3})
    assert kept.report["rejected_verdicts"] == {"wrong_answer": 2, "syntax_error": 1}
    assert kept.report["dropped"]["pairs: syntax_error beyond its share of 0.333333"] == 1
    assert collect(samples, quota={"syntax_error": 0.0}).report["rejected_verdicts"] == {"wrong_answer": 2}
    assert collect(samples, quota={"syntax_error": 0.5}).report["kept"] == 4


def test_quotas_of_two_kinds_hold_together():
    samples = {f"b{i}": [RIGHT, BROKEN] for i in range(9)} | {f"l{i}": [RIGHT, LOOPS] for i in range(6)}
    samples |= {f"w{i}": [RIGHT, WRONG] for i in range(5)}
    counts = collect(samples, quota={"syntax_error": 0.2, "timeout": 0.3}).report["rejected_verdicts"]
    total = sum(counts.values())
    assert counts["wrong_answer"] == 5
    assert counts["syntax_error"] <= 0.2 * total
    assert counts["timeout"] <= 0.3 * total
    assert total == 10  # 2 of 10, 3 of 10, and the 5: the most both shares allow


def test_limits_on_distance_and_length():
    texts = {"a": [RIGHT, WRONG, CRASHES, LOOPS]}
    near = collect(texts, distance=[0.0, 0.1])
    assert sides(near) == [(RIGHT, WRONG)]
    far = collect(texts, distance=[0.5, 1.0])
    assert sides(far) == [(RIGHT, LOOPS)]
    same_length = collect(texts, length_tolerance=0.2)
    assert sides(same_length) == [(RIGHT, WRONG)]
    assert same_length.report["dropped"]["pairs: lengths more than 20% apart"] == 2


def test_pairs_that_differ_in_layout_only_are_dropped():
    spaced = "    return max(xs) if xs else None )\n"
    glued = "    return max(xs)  if xs else None)\n"
    rows = [
        (RIGHT, "passed"),
        (spaced, "syntax_error"),
        ("     " + RIGHT.lstrip() + "   # x\n  ", "syntax_error"),
    ]
    collection = collect_pairs(
        [problem("a")],
        [completion("a", i, text) for i, (text, _) in enumerate(rows)],
        [result("a", i, verdict) for i, (_, verdict) in enumerate(rows)],
        config(quota={}),
        seed=0,
    )
    assert glued not in dict(sides(collection)).values()
    assert sides(collection) == [(RIGHT, spaced)]


def test_mean_length_difference_is_brought_within_the_gap():
    """With the end token RIGHT is 36 long, CRASHES 20 (+16 for the chosen side), LOOPS 52 (-16).

    Three of the first and one of the second: +32 over 4 pairs is 8 of a mean length of 32, 25 %. Less one
    CRASHES: +16 over 3 is 5.3 of 33.3, 16 %. Less two: 0. Three of the first alone never balance.
    """
    crashes, loops = {f"p{i}": [RIGHT, CRASHES] for i in range(3)}, {"q": [RIGHT, LOOPS]}
    assert collect(crashes | loops, length_gap=0.3).report["kept"] == 4
    balanced = collect(crashes | loops, length_gap=0.2)
    assert balanced.report["rejected_verdicts"] == {"runtime_error": 2, "timeout": 1}
    assert balanced.report["dropped"]["pairs: dropped for a mean length difference within 20%"] == 1
    assert collect(crashes | loops, length_gap=0.1).report["kept"] == 2
    assert collect(crashes, length_gap=0.1).report["kept"] == 0


def test_pass_rates_outside_the_limits_are_dropped():
    samples = {"a": [RIGHT, WRONG], "b": [RIGHT, WRONG, CRASHES, LOOPS]}
    kept = collect(samples, pass_rate=[0.3, 1.0])
    assert {pair.task_id for pair in kept.pairs} == {"toy/a"}
    assert kept.report["dropped"]["problems: pass rate outside 0.3 to 1"] == 1


def test_preferences():
    """Distances from RIGHT: WRONG 2, CRASHES 16, LOOPS more; LOOPS was sampled three times."""
    texts = {"a": [RIGHT, WRONG, CRASHES, LOOPS, LOOPS, LOOPS]}
    assert sides(collect(texts, prefer="close", per_problem=1)) == [(RIGHT, WRONG)]
    assert sides(collect(texts, prefer="frequent", per_problem=1)) == [(RIGHT, LOOPS)]
    drawn = {sides(collect(texts, prefer="random", per_problem=1, seed=seed))[0][1] for seed in range(20)}
    assert drawn == {WRONG, CRASHES, LOOPS}


def test_answers_not_used_yet_come_first():
    pairs = sides(collect({"a": [RIGHT, RIGHT_LONGER, WRONG, CRASHES]}, per_problem=2))
    assert {chosen for chosen, _ in pairs} == {RIGHT, RIGHT_LONGER}
    assert {rejected for _, rejected in pairs} == {WRONG, CRASHES}


def scored(passed: list[int | None], config: PairingConfig):
    """One problem of ten tests; program i names its argument i + 1 times and passes passed[i] tests."""
    kept = [(i, n) for i, n in enumerate(passed) if n is not None]
    texts = [f"    return {' + '.join(['xs'] * (i + 1))}\n" for i, _ in kept]
    tests = [n for _, n in kept]
    verdicts = ["passed" if n == 10 else "wrong_answer" for n in tests]
    collection = collect_pairs(
        [problem("a")],
        [completion("a", i, text) for i, text in enumerate(texts)],
        [
            result("a", i, verdict, tests_passed=n, tests_total=10)
            for i, (verdict, n) in enumerate(zip(verdicts, tests, strict=True))
        ],
        config,
        seed=0,
    )
    return [(p.meta["chosen"]["tests_passed"], p.meta["rejected"]["tests_passed"]) for p in collection.pairs]


def test_two_failures_are_ranked_by_tests_passed_only_when_asked_and_far_apart():
    tests = [10, 8, 7, 3]
    with_pass = {(10, 8), (10, 7), (10, 3)}
    assert set(scored(tests, config(uses=9, per_problem=9))) == with_pass
    partial = config(uses=9, per_problem=9, ranking="partial", partial_gap=0.5)
    assert set(scored(tests, partial)) == with_pass | {(8, 3)}
    assert set(scored([10, 8, 8], dataclasses.replace(partial, partial_gap=0.0))) == {(10, 8)}
    assert scored([8, 3], partial) == []  # pass rate 0 stays out
    first = dataclasses.replace(partial, per_problem=1)
    assert scored([8, 3, None, None, None, 10], first) == [(10, 3)]  # though 8 and 3 are closer


def test_a_chosen_program_that_does_not_pass_again_is_replaced():
    calls = []

    def rerun(jobs):
        calls.append([candidate.completion.text for _, candidate in jobs])
        return [Verdict.TIMEOUT if c.completion.text == RIGHT else Verdict.PASSED for _, c in jobs]

    samples = {"a": [RIGHT, WRONG, RIGHT_LONGER], "b": [RIGHT, WRONG], "c": [RIGHT, RIGHT]}
    collection = collect(samples, per_problem=1, rerun=rerun)
    assert sides(collection) == [(RIGHT_LONGER, WRONG)]
    assert calls == [[RIGHT, RIGHT], [RIGHT_LONGER]]  # only what would be chosen is run
    assert collection.report["dropped"]["samples: passed once, then timeout"] == 2
    assert collection.report["dropped"]["problems: no pair left by the rules above"] == 1


def test_a_time_out_that_does_not_come_again_is_no_label():
    calls = []

    def rerun(jobs):
        calls.append([candidate.completion.text for _, candidate in jobs])
        return [Verdict.PASSED for _ in jobs]

    collection = collect({"a": [RIGHT, LOOPS, WRONG], "b": [RIGHT, LOOPS]}, per_problem=1, rerun=rerun)
    assert sides(collection) == [(RIGHT, WRONG)]
    assert calls == [[RIGHT, RIGHT, LOOPS]]  # WRONG, nearer than LOOPS, is taken for a, and not run again
    assert collection.report["dropped"]["samples: timeout once, then passed"] == 1
    stable = collect({"a": [RIGHT, LOOPS]}, rerun=lambda jobs: [c.result.verdict for _, c in jobs])
    assert sides(stable) == [(RIGHT, LOOPS)]


def test_only_problems_that_could_give_pairs_are_checked_and_faulty_ones_dropped():
    asked = []

    def check(problems):
        asked.append([p.task_id for p in problems])
        return {"toy/a": "a program blind to its input passes"}

    samples = {"a": [RIGHT, WRONG], "b": [RIGHT, WRONG], "c": [RIGHT], "d": [WRONG]}
    collection = collect(samples, check=check)
    assert asked == [["toy/a", "toy/b"]]
    assert {pair.task_id for pair in collection.pairs} == {"toy/b"}
    assert collection.report["dropped"]["problems: a program blind to its input passes"] == 1


def test_problems_that_repeat_a_benchmark_are_dropped():
    rows = [("a", 0, RIGHT), ("a", 1, WRONG), ("b", 0, RIGHT), ("b", 1, WRONG)]
    other = dataclasses.replace(problem("b"), prompt='def b(xs):\n    """Top."""\n')
    collection = collect_pairs(
        [problem("a"), other],
        [completion(*row) for row in rows],
        [result(name, i, VERDICTS[text]) for name, i, text in rows],
        config(),
        seed=0,
        benchmarks={"bench": [dataclasses.replace(problem("a"), task_id="bench/7")]},
    )
    assert {pair.task_id for pair in collection.pairs} == {"toy/b"}
    assert collection.report["dropped"]["problems: repeat a benchmark"] == 1
    assert collection.report["decontamination_hits"][0]["benchmark_id"] == "bench/7"
    printed = table(collection.report)
    assert "toy/a repeats bench bench/7 (name and docstring)" in printed
    assert "decontamination: 1 problems repeat one of bench (1)" in printed
    assert "decontamination: none" in table(collect({"a": [RIGHT, WRONG]}).report)


# What holds for any input


def random_input(seed: int):
    """Problems with up to 12 samples of drawn texts, verdicts, lengths and flags."""
    draw = Random(seed)
    problems, completions, results = [], [], []
    for name in "abcdefgh"[: draw.randrange(1, 9)]:
        problems.append(problem(name))
        for sample in range(draw.randrange(1, 13)):
            text = draw.choice([*VERDICTS, *(f"    return {'xs' * 1}[{i}]\n" for i in range(6))])
            verdict = draw.choice([*Verdict]) if draw.random() < 0.3 else VERDICTS.get(text, "wrong_answer")
            finished = draw.random() < 0.9
            completions.append(completion(name, sample, text, finished=finished))
            total = draw.randrange(0, 5)
            results.append(
                result(name, sample, verdict, tests_total=total, tests_passed=draw.randint(0, total))
            )
    return problems, completions, results


@pytest.mark.parametrize("seed", range(40))
def test_what_must_hold_for_any_input(seed):
    problems, completions, results = random_input(seed)
    draw = Random(1000 + seed)
    limits = config(
        per_problem=draw.randrange(1, 6),
        uses=draw.randrange(1, 4),
        prefer=draw.choice(["close", "frequent", "random"]),
        ranking=draw.choice(["pass_fail", "partial"]),
        quota={"syntax_error": draw.random(), "timeout": draw.random()},
        length_gap=draw.choice([None, 0.1]),
    )
    collection = collect_pairs(problems, completions, results, limits, seed=seed)

    shuffled = [list(rows) for rows in (problems, completions, results)]
    for rows in shuffled:
        draw.shuffle(rows)
    again = collect_pairs(*shuffled, limits, seed=seed)
    assert again == collection

    verdict = {(r.task_id, r.sample): r for r in results}
    finished = {(c.task_id, c.sample): c for c in completions}
    per_problem = Counter(pair.task_id for pair in collection.pairs)
    assert all(count <= limits.per_problem for count in per_problem.values())
    uses: Counter = Counter()
    for pair in collection.pairs:
        better = (pair.task_id, pair.meta["chosen"]["sample"])
        worse = (pair.task_id, pair.meta["rejected"]["sample"])
        uses.update([better, worse])
        assert 0 < pair.meta["pass_rate"] < 1
        assert finished[better].finished
        assert finished[worse].finished
        assert verdict[worse].verdict != Verdict.PASSED
        assert limits.ranking == "partial" or verdict[better].verdict == Verdict.PASSED
        assert verdict[worse].verdict.value not in ("internal_error", "killed", "out_of_memory")
        assert pair.chosen != CONSTANT
        assert pair.chosen_ids == finished[better].ids
        assert pair.rejected_ids == finished[worse].ids
        assert pair.chosen_ids != pair.rejected_ids
    assert all(count <= limits.uses for count in uses.values())
    kinds = collection.report["rejected_verdicts"]
    for kind, share in limits.quota.items():
        assert kinds.get(kind, 0) <= share * len(collection.pairs) + 1e-9
    if limits.length_gap and collection.pairs:
        chosen, rejected = (collection.report[f"{side}_length"]["mean"] for side in ("chosen", "rejected"))
        assert abs(chosen - rejected) <= limits.length_gap * (chosen + rejected) / 2 + 0.01
    assert collection.report["layout_only"] == 0
    assert collection.report["kept"] == len(collection.pairs)
    assert sum(collection.report["verdicts"].values()) == len(completions)


def test_the_drawn_inputs_do_give_pairs():
    found = [collect_pairs(*random_input(seed), config(), seed=seed).report["kept"] for seed in range(40)]
    assert sum(kept > 0 for kept in found) > 30


def test_nothing_to_choose_from():
    assert choose_pairs([], config(), 0) == []
    assert within_quota([], {"timeout": 0.1}, 0, Counter()) == []


# Bad input


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


GOOD = json.dumps({"task_id": "toy/a", "sample": 0, "text": RIGHT, "ids": [1]})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "holds no completions; sample first"),
        ([GOOD, "{"], "line 2: not JSON"),
        ([GOOD, "", "[1]"], "line 3: list found, a JSON object expected"),
        (['{"task_id": "toy/a", "sample": 0}'], "line 1: no completion, solution or text; found"),
        (['{"task_id": "toy/a", "sample": "0", "text": ""}'], "line 1: sample is '0', a number expected"),
        (['{"task_id": "toy/a", "sample": 0, "text": null}'], "line 1: text is a NoneType"),
        (
            ['{"task_id": "toy/a", "solution": "x"}'],
            "line 1: solution is a whole program, .* completion or text",
        ),
        ([GOOD, GOOD], "line 2: sample 0 of toy/a appears twice"),
        (
            [GOOD, '{"task_id": "toy/a", "sample": 1, "text": "x"}'],
            "some completions have ids and some have none",
        ),
        (
            ['{"task_id": "toy/a", "sample": 0, "text": "x", "prompt_ids": [3]}'],
            "line 1: prompt_ids without ids; text alone",
        ),
    ],
)
def test_bad_completions_are_named_with_their_line(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read_completions(write_lines(tmp_path / "completions.jsonl", *lines))


def cut_to_nothing(name: str, sample: int) -> Completion:
    """What sample.py writes where the first token completes a stop string."""
    return completion(name, sample, "", ids=[])


def test_an_answer_cut_to_nothing_is_read_beside_others(tmp_path):
    rows = [completion("a", 0, RIGHT), cut_to_nothing("a", 1), completion("a", 2, "")]
    lines = [json.dumps(dataclasses.asdict(row)) for row in rows]
    assert read_completions(write_lines(tmp_path / "completions.jsonl", *lines)) == rows


def test_an_answer_cut_to_nothing_is_dropped_and_counted_and_stands_for_no_other():
    """Sample 1 is the same program with an end token: that one may be rejected. All of b were cut."""
    rows = [
        (cut_to_nothing("a", 0), "wrong_answer"),
        (completion("a", 1, ""), "wrong_answer"),
        (completion("a", 2, RIGHT), "passed"),
        (cut_to_nothing("b", 0), "wrong_answer"),
        (cut_to_nothing("b", 1), "syntax_error"),
    ]
    collection = collect_pairs(
        [problem("a"), problem("b")],
        [row for row, _ in rows],
        [result(row.task_id[-1], row.sample, verdict) for row, verdict in rows],
        config(),
        seed=0,
    )
    assert [(p.chosen_ids, p.rejected_ids) for p in collection.pairs] == [(rows[2][0].ids, [1])]
    assert collection.report["dropped"] == {
        "samples: nothing left before a stop string": 3,
        "problems: no sample with a label": 1,
    }
    assert collection.report["length_unit"] == "tokens"


def test_an_answer_cut_to_nothing_that_passes_unmasks_weak_tests():
    rows = [(cut_to_nothing("a", 0), "passed"), (completion("a", 1, RIGHT), "passed")]
    rows += [(completion("a", 2, WRONG), "wrong_answer")]
    collection = collect_pairs(
        [problem("a")],
        [row for row, _ in rows],
        [result("a", row.sample, verdict) for row, verdict in rows],
        config(),
        seed=0,
    )
    assert collection.pairs == []
    assert collection.report["dropped"] == {
        "samples: nothing left before a stop string": 1,
        "problems: a trivial program passes its tests": 1,
    }


def test_anybodys_completions_are_read_and_numbered_as_evaluate_does(tmp_path):
    rows = [{"task_id": 0, "completion": RIGHT}, {"task_id": "own/0", "text": WRONG, "temperature": None}]
    rows += [{"task_id": "own/1", "text": RIGHT}, {"task_id": "own/0", "completion": LOOPS, "sample": 7}]
    path = write_lines(tmp_path / "completions.jsonl", *map(json.dumps, rows))
    problems = [dataclasses.replace(problem("a"), task_id=f"own/{number}") for number in (0, 1)]
    found = read_completions(path, problems)
    assert found == [
        Completion("own/0", 0, RIGHT), Completion("own/0", 1, WRONG), Completion("own/1", 0, RIGHT),
        Completion("own/0", 7, LOOPS),
    ]  # fmt: skip
    judged, _ = read_samples(path, problems)
    assert [(s.task_id, s.sample, s.text) for s in judged] == [(c.task_id, c.sample, c.text) for c in found]
    with pytest.raises(ValueError, match="line 3: own/1 is not among the 1 problems of own, split train"):
        read_completions(path, problems[:1], "own, split train")


def test_results_of_another_judge_are_to_be_made_again(tmp_path, monkeypatch):
    def prepared() -> dict[tuple[str, int], Answer]:
        tested = dataclasses.replace(problem("a"), test="assert a([1]) == 1")
        (answer,) = prepare([Sample("toy/a", 0, RIGHT)], [tested], PROTOCOLS["plain"], {}, 3.0)
        return {("toy/a", 0): answer}

    row = {"task_id": "toy/a", "sample": 0, "verdict": "passed", "key": prepared()["toy/a", 0].key}
    path = write_lines(tmp_path / "results.jsonl", json.dumps(row))
    check_keys(path, prepared())
    monkeypatch.setattr("data.execution.JUDGE_VERSION", -1)
    with pytest.raises(
        ValueError, match="line 1: judged with another .* judge, .* run python evaluate.py again"
    ):
        check_keys(path, prepared())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "holds no results; run the tests first"),
        (['{"task_id": "toy/a", "sample": 0}'], "line 1: no verdict"),
        (
            ['{"task_id": "toy/a", "sample": 0, "verdict": "okay"}'],
            "line 1: verdict 'okay' is none of passed, wrong",
        ),
        (['{"task_id": "toy/a", "sample": true, "verdict": "passed"}'], "line 1: sample is a bool"),
        (['{"task_id": 1, "sample": 0, "verdict": "passed"}'], "line 1: task_id is a int, a str expected"),
        (['{"task_id": "toy/a", "sample": 0, "verdict": []}'], "line 1: verdict is a list, a str expected"),
        (["nonsense"], "line 1: not JSON"),
    ],
)
def test_bad_results_are_named_with_their_line(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read_results(write_lines(tmp_path / "results.jsonl", *lines))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"completions\.jsonl does not exist"):
        read_completions(tmp_path / "completions.jsonl")


def test_files_are_read_as_records(tmp_path):
    _, completions, results = ten_lines()
    lines = [json.dumps(dataclasses.asdict(row)) for row in completions]
    assert read_completions(write_lines(tmp_path / "c.jsonl", *lines)) == completions
    lines = [json.dumps(dataclasses.asdict(row)) for row in results]
    assert read_results(write_lines(tmp_path / "r.jsonl", *lines)) == results


def test_files_that_do_not_belong_together_are_refused():
    problems, completions, results = ten_lines()
    with pytest.raises(ValueError, match="1 completions have no result, such as toy/c sample 2"):
        join(problems, completions, results[:-1])
    with pytest.raises(ValueError, match="1 results have no completion, such as toy/a sample 0"):
        join(problems, completions[1:], results)
    with pytest.raises(
        ValueError, match="the completions name 1 task ids that are in no problem, such as toy/c"
    ):
        join(problems[:-1], completions, results)
    with pytest.raises(ValueError, match="the completions hold toy/a sample 0 twice"):
        join(problems, [completions[0], *completions], results)
    other_prompt = [dataclasses.replace(completions[0], prompt_ids=[9]), *completions[1:]]
    with pytest.raises(ValueError, match="toy/a was sampled with different prompt_ids"):
        join(problems, other_prompt, results)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prefer": "nearest"}, "pairing.prefer is 'nearest', expected one of close, frequent, random"),
        ({"ranking": "style"}, "pairing.ranking is 'style'"),
        ({"per_problem": 0}, "pairing.per_problem is 0, at least 1"),
        ({"pass_rate": [0.9, 0.1]}, r"pairing.pass_rate is \[0.9, 0.1\]"),
        ({"distance": [0.1]}, r"pairing.distance is \[0.1\], expected \[low, high\]"),
        ({"length_gap": -1.0}, "pairing.length_gap is -1.0"),
        ({"quota": {"sytax_error": 0.1}}, "no failing verdict 'sytax_error'; there are"),
        ({"quota": {"passed": 0.1}}, "no failing verdict 'passed'"),
        ({"quota": {"timeout": 10}}, "pairing.quota.timeout is 10, a share"),
        ({"exclude": ["slow"]}, "no failing verdict 'slow'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        collect({"a": [RIGHT, WRONG]}, **settings)


def test_problems_with_few_tests_are_left_out_and_counted():
    texts = [RIGHT, WRONG]
    rows = [(name, i, text) for name in ("few", "more") for i, text in enumerate(texts)]

    def tested(name: str, number: int) -> Problem:
        return dataclasses.replace(problem(name), test=f"assert {name}([1]) == 1\n" * number)

    arguments = (
        [tested("few", 2), tested("more", 3)],
        [completion(*row) for row in rows],
        [result(name, i, VERDICTS[text]) for name, i, text in rows],
    )
    found = collect_pairs(*arguments, config(quota={}), seed=1)
    assert [pair.task_id for pair in found.pairs] == ["toy/more"]
    assert found.report["dropped"]["problems: fewer than 3 tests"] == 1
    assert "fewer than 3 tests" in table(found.report)
    every = collect_pairs(*arguments, config(quota={}, min_tests=0), seed=1)
    assert [pair.task_id for pair in every.pairs] == ["toy/few", "toy/more"]
