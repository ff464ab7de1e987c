"""Definitions first: every number is checked against a worked value, an enumeration, or an identity."""

from fractions import Fraction
from itertools import combinations, product
from math import comb

import numpy as np
import pytest

from data.statistics import (
    bootstrap_interval,
    bootstrap_means,
    compare,
    fixed_and_broken,
    mcnemar,
    paired_bootstrap,
    pass_at_k,
    pass_counts,
    per_problem,
    score,
    sign_flip_p_value,
    summarise,
    wilson_interval,
)


def rows(table: dict[str, str], temperature: float | None = 0.0) -> list[dict]:
    """{"a": "pff"} -> three rows of problem a, the first passing; i is an internal error."""
    verdicts = {"p": "passed", "f": "wrong_answer", "i": "internal_error"}
    return [
        {"task_id": task, "sample": i, "verdict": verdicts[letter], "temperature": temperature}
        for task, letters in table.items()
        for i, letter in enumerate(letters)
    ]


def test_pass_at_k_is_the_share_of_k_subsets_with_a_correct_sample():
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                subsets = list(combinations([1] * c + [0] * (n - c), k))
                assert pass_at_k(n, c, k) == pytest.approx(np.mean([any(s) for s in subsets]), abs=1e-12)


def test_pass_at_k_matches_the_worked_example():
    assert pass_at_k(20, 3, 5) == pytest.approx(0.600877, abs=1e-6)
    assert pass_at_k(200, 0, 100) == 0.0
    assert pass_at_k(200, 101, 100) == 1.0


def test_pass_at_1_is_the_pass_rate():
    assert all(pass_at_k(200, c, 1) == c / 200 for c in range(201))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 5), (4, 5, 1), (4, -1, 1), (4, 2, 0), (0, 0, 1)])
def test_pass_at_k_refuses_impossible_counts(n, c, k):
    with pytest.raises(ValueError, match="samples"):
        pass_at_k(n, c, k)


@pytest.mark.parametrize(
    ("successes", "low", "high"), [(148, 0.847, 0.939), (116, 0.634, 0.772), (0, 0.0, 0.023)]
)
def test_wilson_matches_the_worked_values(successes, low, high):
    assert wilson_interval(successes, 164) == pytest.approx((low, high), abs=5e-4)


def test_bootstrap_means_equal_explicit_resampling():
    values = np.random.default_rng(3).random((7, 2))
    rng = np.random.default_rng(11)
    index = rng.integers(7, size=(50, 7))
    assert np.allclose(bootstrap_means(values, 50, seed=11), values[index].mean(1))


def test_bootstrap_interval_agrees_with_the_normal_approximation():
    values = np.random.default_rng(0).random(400)
    half = 1.96 * values.std() / 20
    assert bootstrap_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=2e-3)


def test_bootstrap_is_reproducible_and_seeded():
    values = list(np.random.default_rng(0).random(30))
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


def test_mcnemar_equals_enumeration_of_all_sign_assignments():
    for fixed, broken in [(0, 0), (1, 0), (5, 1), (3, 3), (2, 7)]:
        n, observed = fixed + broken, abs(fixed - broken)
        signs = [abs(sum(s)) >= observed for s in product([1, -1], repeat=n)]
        assert mcnemar(fixed, broken) == pytest.approx(np.mean(signs))
    assert mcnemar(5, 1) == pytest.approx(0.21875)


def test_sign_flip_equals_mcnemar_on_zero_one_outcomes():
    base, new = [0] * 9 + [1] * 2 + [1] * 5, [1] * 9 + [0] * 2 + [1] * 5
    assert sign_flip_p_value(base, new, replicates=100_000) == pytest.approx(mcnemar(9, 2), abs=5e-3)
    assert sign_flip_p_value(base, base) == 1.0
    assert 0 < sign_flip_p_value([0.0] * 200, [1.0] * 200) < 1e-3


def test_paired_bootstrap_is_narrower_than_the_unpaired_spread():
    rng = np.random.default_rng(0)
    base = rng.random(200)
    mean, low, high = paired_bootstrap(base, base + 0.1)
    assert (mean, low, high) == pytest.approx((0.1, 0.1, 0.1))
    assert paired_bootstrap(base + 0.1, base)[0] == pytest.approx(-0.1)


def test_internal_errors_are_counted_but_are_no_failures():
    some = rows({"a": "pi", "b": "i", "c": "f"})
    assert pass_counts(some) == {"a": (1, 1), "c": (1, 0)}
    summary = summarise(some)
    assert summary["verdicts"]["internal_error"] == 2
    assert summary["greedy"]["pass_at_1"] == 0.5


def test_score_reports_every_k_up_to_the_smallest_n():
    result = score(rows({"a": "ppff", "b": "fff", "c": "ppp"}))
    assert list(result["pass_at_k"]) == ["1", "2", "3"]
    assert result["n_problems"] == 3
    assert result["n_samples"] == 3
    assert result["pass_at_k"]["2"]["mean"] == pytest.approx((pass_at_k(4, 2, 2) + 0 + 1) / 3)
    assert result["pass_at_1"] == result["pass_at_k"]["1"]["mean"] == pytest.approx(0.5)
    assert all(s["ci_low"] <= s["mean"] <= s["ci_high"] for s in result["pass_at_k"].values())


def test_greedy_interval_is_wilson():
    result = score(rows({str(i): "p" if i < 148 else "f" for i in range(164)}))
    assert (result["ci_low"], result["ci_high"]) == wilson_interval(148, 164)


def test_nothing_judged_is_an_error():
    with pytest.raises(ValueError, match="no judged samples"):
        score(rows({"a": "i"}))


def test_summarise_keeps_greedy_and_sampled_apart():
    summary = summarise(
        rows({"a": "p", "b": "f"}) + rows({"a": "pf", "b": "ff"}, 0.8) + rows({"a": "f"}, None)
    )
    assert summary["greedy"]["pass_at_1"] == 0.5
    assert summary["sampled"]["pass_at_1"] == 0.25
    assert summary["unstated"]["pass_at_1"] == 0.0
    assert summary["verdicts"] == {"wrong_answer": 5, "passed": 2}


def test_compare_greedy_is_the_exact_paired_test():
    base = rows({"a": "f", "b": "f", "c": "p", "d": "p", "e": "f"})
    new = rows({"a": "p", "b": "p", "c": "f", "d": "p", "e": "f", "extra": "p"})
    result = compare(base, new)["greedy"]
    assert (result["fixed"], result["broken"], result["n_problems"]) == (2, 1, 5)
    assert result["mean"] == pytest.approx(0.2)
    assert result["p_value"] == mcnemar(2, 1)
    assert fixed_and_broken(base, new) == (["a", "b"], ["c"])


def test_compare_sampled_uses_pass_rates():
    base, new = rows({"a": "fffp", "b": "pppp"}, 0.8), rows({"a": "ppff", "b": "fppp"}, 0.8)
    result = compare(base, new)["sampled"]
    assert result["mean"] == pytest.approx((0.25 - 0.25) / 2)
    assert (result["fixed"], result["broken"]) == (1, 0)


def test_swapping_the_sides_negates_the_difference():
    base, new = rows({"a": "fp", "b": "pp", "c": "ff"}, 0.8), rows({"a": "pp", "b": "pf", "c": "pp"}, 0.8)
    one, other = compare(base, new)["sampled"], compare(new, base)["sampled"]
    assert one["mean"] == -other["mean"]
    assert (one["fixed"], one["broken"]) == (other["broken"], other["fixed"])
    assert one["p_value"] == other["p_value"]


def test_comparing_different_problems_is_refused():
    with pytest.raises(ValueError, match="share no problem"):
        compare(rows({"a": "p"}), rows({"b": "p"}))
    with pytest.raises(ValueError, match="share no problem"):
        compare(rows({"a": "p"}), rows({"a": "p"}, 0.8))


def test_a_file_that_states_no_decoding_is_compared_with_the_only_one_of_the_other():
    stated, unstated = rows({"a": "p", "b": "f"}, 0.0), rows({"a": "p", "b": "p"}, None)
    assert compare(stated, unstated)["unstated"]["fixed"] == 1
    assert compare(unstated, stated)["unstated"]["broken"] == 1
    with pytest.raises(ValueError, match="share no problem"):
        compare([*stated, *rows({"a": "p"}, 0.8)], unstated)  # with which of the two?


def test_every_pass_at_k_equals_the_exact_fraction():
    for n in [*range(1, 25), 64, 200, 1000]:
        some = range(n + 1) if n < 25 else (0, 1, n // 3, n // 2, n - 2, n - 1, n)
        for c in some:
            for k in range(1, n + 1) if n < 25 else (1, 2, 10, n // 2, n - 1, n):
                exact = 1 - Fraction(comb(n - c, k), comb(n, k))
                assert abs(Fraction(pass_at_k(n, c, k)) - exact) < Fraction(1, 10**14), (n, c, k)


def test_every_small_mcnemar_equals_the_sum_over_outcomes():
    for fixed in range(12):
        for broken in range(12):
            n = fixed + broken
            outcomes = [comb(n, i) for i in range(n + 1) if min(i, n - i) <= min(fixed, broken)]
            assert mcnemar(fixed, broken) == pytest.approx(sum(outcomes) / 2**n, abs=1e-15)


@pytest.mark.parametrize("n", [1, 3, 10, 164, 999])
def test_wilson_intervals_hold_their_proportion(n):
    for successes in range(n + 1):
        low, high = wilson_interval(successes, n)
        assert 0 <= low <= successes / n <= high <= 1
    assert wilson_interval(0, n)[0] == 0
    assert wilson_interval(n, n)[1] == 1


def test_problems_are_counted_one_by_one():
    some = [*rows({"a": "ppf", "b": "fi"}, 0.8), *rows({"a": "p"}, 0.0)]
    assert [(r["task_id"], r["decoding"], r["samples"], r["passed"]) for r in per_problem(some)] == [
        ("a", "sampled", 3, 2), ("b", "sampled", 1, 0), ("a", "greedy", 1, 1),
    ]  # fmt: skip
    assert per_problem(some)[1]["verdicts"] == {"wrong_answer": 1, "internal_error": 1}


def test_equal_problems_leave_some_doubt():
    one = score(rows({"a": "pf"}, 0.8))
    alike = wilson_interval(1, 1)[0]
    assert (one["ci_low"], one["ci_high"]) == pytest.approx((alike / 2, 1 - alike / 2))
    always = score(rows({str(i): "pp" for i in range(164)}, 0.8))
    assert (always["ci_low"], always["ci_high"]) == wilson_interval(164, 164)
    never = score(rows({str(i): "ff" for i in range(164)}, 0.8))
    assert (never["ci_low"], never["ci_high"]) == pytest.approx(wilson_interval(0, 164))
    assert [s["ci_low"] < 1 for s in score(rows({"a": "pf", "b": "ff"}))["pass_at_k"].values()] == [
        True,
        True,
    ]
