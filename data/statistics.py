"""What may be said about verdicts: pass@k, its uncertainty, and paired comparison of two policies.

Problems, not samples, are the unit of resampling: the variance between problems dominates, and the
samples of one problem are not independent evidence. Two policies are compared on the same problems, never
by looking whether two marginal intervals overlap.

A result row here is a dict with `task_id`, `sample`, `verdict` and, when known, `temperature`
(0 greedy, above 0 sampled). Rows whose verdict is internal_error are ours, not the program's: they are
counted, and left out of every rate.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import comb, sqrt

import numpy as np

REPLICATES = 10_000
Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased pass@k of one problem with c correct among n samples (Chen et al. 2021, 2107.03374, eq. 1).

    1 - C(n-c, k) / C(n, k), written as a product so that large n neither overflows nor cancels.
    """
    if not 0 <= c <= n:
        raise ValueError(f"{c} correct of {n} samples; between 0 and {n} expected")
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples per problem and k >= 1; {n} found")
    if k == 1:
        return c / n  # the same, without the product's rounding
    if n - c < k:
        return 1.0
    return 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def wilson_interval(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a proportion: for one greedy answer per problem."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} trials; at least one trial expected")
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = max(0.0, centre - half) if successes else 0.0  # the ends are exact, whatever rounding says
    return low, min(1.0, centre + half) if successes < n else 1.0


def bootstrap_means(values: np.ndarray, replicates: int = REPLICATES, seed: int = 0) -> np.ndarray:
    """Means over resampled problems: values [P] or [P, K] -> [replicates] or [replicates, K].

    A replicate is a vector of counts per problem, so all K columns share one matrix product and the same
    resampled problems.
    """
    problems = len(values)
    rng = np.random.default_rng(seed)
    chunk = max(1, 2_000_000 // problems)  # bounds memory to some 16 MB a chunk
    means = []
    for start in range(0, replicates, chunk):
        rows = min(chunk, replicates - start)
        index = rng.integers(problems, size=(rows, problems)) + problems * np.arange(rows)[:, None]
        counts = np.bincount(index.ravel(), minlength=rows * problems).reshape(rows, problems)
        means.append(counts @ values / problems)
    return np.concatenate(means)


def bootstrap_interval(
    values: Sequence[float], level: float = 0.95, replicates: int = REPLICATES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of per-problem values, resampling problems."""
    if not len(values):
        raise ValueError("no problems; an interval needs at least one")
    tail = (1 - level) / 2
    means = bootstrap_means(np.asarray(values, dtype=float), replicates, seed)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def mcnemar(fixed: int, broken: int) -> float:
    """Exact two-sided p-value for `fixed` against `broken` discordant pairs (binomial, one half)."""
    n = fixed + broken
    if n == 0:
        return 1.0
    tail = sum(comb(n, i) for i in range(min(fixed, broken) + 1))
    return min(1.0, 2 * tail / 2**n)


def paired_bootstrap(
    base: Sequence[float], new: Sequence[float], replicates: int = REPLICATES, seed: int = 0
) -> tuple[float, float, float]:
    """(mean, low, high) of `new - base` over the same problems, 95 % percentile interval."""
    difference = np.asarray(new, dtype=float) - np.asarray(base, dtype=float)
    return float(difference.mean()), *bootstrap_interval(difference, replicates=replicates, seed=seed)


def sign_flip_p_value(
    base: Sequence[float], new: Sequence[float], replicates: int = REPLICATES, seed: int = 0
) -> float:
    """Permutation p-value of the mean paired difference: under no effect every sign is a coin toss.

    The observed assignment counts as one of the permutations, so the p-value is never 0.
    """
    difference = np.asarray(new, dtype=float) - np.asarray(base, dtype=float)
    difference = difference[difference != 0]
    if not len(difference):
        return 1.0
    rng = np.random.default_rng(seed)
    observed = abs(difference.sum()) - 1e-12  # ties count as at least as extreme, despite rounding
    extreme = 0
    chunk = max(1, 2_000_000 // len(difference))
    for start in range(0, replicates, chunk):
        rows = min(chunk, replicates - start)
        signs = rng.integers(2, size=(rows, len(difference)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ difference) >= observed).sum())
    return (extreme + 1) / (replicates + 1)


def decoding(row: Mapping) -> str:
    """Which score a row belongs to: "greedy", "sampled", or "unstated" for files that do not say."""
    temperature = row.get("temperature")
    if temperature is None:
        return "unstated"
    return "sampled" if temperature > 0 else "greedy"


def pass_counts(rows: Iterable[Mapping]) -> dict[str, tuple[int, int]]:
    """task_id -> (samples judged, samples passed), in order of appearance; internal errors left out."""
    counts: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row["verdict"] != "internal_error":
            n, c = counts.get(row["task_id"], (0, 0))
            counts[row["task_id"]] = n + 1, c + (row["verdict"] == "passed")
    return counts


def score(rows: Iterable[Mapping]) -> dict:
    """pass@k for every k up to the smallest number of samples of a problem, with 95 % intervals.

    One sample per problem gets a Wilson interval, more get a bootstrap over problems. `n_samples` is the
    number of samples per problem (the smallest, when they differ).
    """
    counts = pass_counts(rows)
    if not counts:
        raise ValueError("no judged samples; nothing to score")
    smallest = min(n for n, _ in counts.values())
    table = np.array([[pass_at_k(n, c, k) for k in range(1, smallest + 1)] for n, c in counts.values()])
    means = table.mean(0)
    if all(n == 1 for n, _ in counts.values()):
        lows, highs = ([edge] for edge in wilson_interval(sum(c for _, c in counts.values()), len(counts)))
    else:
        lows, highs = np.quantile(bootstrap_means(table), [0.025, 0.975], axis=0)
        for k, column in enumerate(table.T):
            if np.all(column == column[0]):  # resampling equal values sees no doubt
                lows[k], highs[k] = without_spread(column[0], len(column))
    every_k = {
        str(k + 1): {"mean": float(means[k]), "ci_low": float(lows[k]), "ci_high": float(highs[k])}
        for k in range(smallest)
    }
    return {
        "pass_at_1": every_k["1"]["mean"],
        "ci_low": every_k["1"]["ci_low"],
        "ci_high": every_k["1"]["ci_high"],
        "n_problems": len(counts),
        "n_samples": smallest,
        "pass_at_k": every_k,
    }


def without_spread(value: float, problems: int) -> tuple[float, float]:
    """Interval of a mean when all problems seen have one value: how many others there are, which may have 0
    or 1, is bounded by Wilson's interval for `problems` of `problems`."""
    alike = wilson_interval(problems, problems)[0]
    return alike * value, alike * value + 1 - alike


def summarise(rows: Sequence[Mapping]) -> dict:
    """{"greedy" | "sampled" | "unstated": score, ..., "verdicts": counts}, for the decodings in `rows`."""
    summary: dict = {}
    for name in ("greedy", "sampled", "unstated"):
        group = [row for row in rows if decoding(row) == name and row["verdict"] != "internal_error"]
        if group:
            summary[name] = score(group)
    verdicts = Counter(str(row["verdict"]) for row in rows)
    return summary | {"verdicts": dict(verdicts.most_common())}


def per_problem(rows: Iterable[Mapping]) -> list[dict]:
    """For each problem and decoding: samples judged, samples passed, verdicts by kind."""
    groups: dict[tuple[str, str], list[Mapping]] = {}
    for row in rows:
        groups.setdefault((row["task_id"], decoding(row)), []).append(row)
    return [
        {
            "task_id": task_id,
            "decoding": name,
            "samples": sum(row["verdict"] != "internal_error" for row in group),
            "passed": sum(row["verdict"] == "passed" for row in group),
            "verdicts": dict(Counter(str(row["verdict"]) for row in group).most_common()),
        }
        for (task_id, name), group in groups.items()
    ]


def shared_rates(
    base: Iterable[Mapping], new: Iterable[Mapping]
) -> tuple[list[str], list[float], list[float]]:
    """(task ids, pass rates under base, pass rates under new) of the problems both have judged."""
    base_counts, new_counts = pass_counts(base), pass_counts(new)
    tasks = [task for task in base_counts if task in new_counts]
    rates = [[counts[task][1] / counts[task][0] for task in tasks] for counts in (base_counts, new_counts)]
    return tasks, rates[0], rates[1]


def fixed_and_broken(base: Iterable[Mapping], new: Iterable[Mapping]) -> tuple[list[str], list[str]]:
    """Problems that turned from mostly failing to mostly passing, and the reverse.

    "Mostly passing" is at least half of the samples; with one greedy answer that is passing.
    """
    tasks, before, after = shared_rates(base, new)
    fixed = [task for task, b, a in zip(tasks, before, after, strict=True) if b < 0.5 <= a]
    broken = [task for task, b, a in zip(tasks, before, after, strict=True) if a < 0.5 <= b]
    return fixed, broken


def comparable(
    base_rows: Sequence[Mapping], new_rows: Sequence[Mapping]
) -> dict[str, tuple[list[Mapping], list[Mapping]]]:
    """The rows of both sides per decoding under which they share a problem.

    Where one side does not state its decoding and the other has only one, they are taken to be the same.
    """
    found = {}
    sides = [{decoding(row) for row in rows} for rows in (base_rows, new_rows)]
    unstated = {"unstated"} in sides and all(len(names) == 1 for names in sides)
    for name in ("unstated",) if unstated else ("greedy", "sampled", "unstated"):
        base, new = (
            [row for row in rows if unstated or decoding(row) == name] for rows in (base_rows, new_rows)
        )
        if shared_rates(base, new)[0]:
            found[name] = base, new
    return found


def compare(base_rows: Sequence[Mapping], new_rows: Sequence[Mapping]) -> dict:
    """The paired difference `new - base` per decoding that both sides have, on the problems both have.

    With one answer per problem the p-value is McNemar's exact test, otherwise a sign-flip permutation.
    """
    difference = {}
    for name, (base, new) in comparable(base_rows, new_rows).items():
        tasks, before, after = shared_rates(base, new)
        fixed, broken = fixed_and_broken(base, new)
        mean, low, high = paired_bootstrap(before, after)
        single = all(n == 1 for rows in (base, new) for n, _ in pass_counts(rows).values())
        difference[name] = {
            "mean": mean,
            "ci_low": low,
            "ci_high": high,
            "p_value": mcnemar(len(fixed), len(broken)) if single else sign_flip_p_value(before, after),
            "fixed": len(fixed),
            "broken": len(broken),
            "n_problems": len(tasks),
            "fixed_problems": fixed,
            "broken_problems": broken,
        }
    if not difference:
        raise ValueError(
            "the two results share no problem under the same decoding, so there is nothing to compare; "
            "evaluate both on the same split with the same decode group"
        )
    return difference


def unlike(theirs: Mapping, ours: Mapping) -> list[str]:
    """A note for each thing, besides the policy, in which two summaries (summary.json) differ.

    `sampler` there is what sample.py noted of the answers. What only one side tells is left out.
    """
    notes = []
    judged, asked = theirs.get("protocol", {}), theirs.get("problems", {})
    if judged.get("digest") != ours["protocol"]["digest"]:
        notes.append(f"judged under protocol {judged.get('name')}, this under {ours['protocol']['name']}")
    if asked.get("digest") != ours["problems"]["digest"]:
        notes.append(f"other problems or tests ({asked.get('source')})")
    for verb, settings in (("judged", limits), ("sampled", sampling)):
        sides = settings(theirs), settings(ours)
        names = [name for name in sides[0] if sides[0][name] != sides[1].get(name, sides[0][name])]
        if names:
            told = (", ".join(f"{name} {side[name]}" for name in names) for side in sides)
            notes.append(f"{verb} with " + ", this with ".join(told))
    return notes


def limits(summary: Mapping) -> dict:
    """The sandbox's settings that may decide a verdict."""
    idle = {"workers", "require", "report"}
    if summary.get("protocol", {}).get("seconds"):  # comes first
        idle.add("seconds")
    return {name: value for name, value in summary.get("sandbox", {}).items() if name not in idle}


def sampling(summary: Mapping) -> dict:
    """The settings that decide what is drawn from a policy."""
    sampler = summary.get("sampler", {})
    return sampler.get("decode", {}) | {name: sampler[name] for name in ("seed", "dtype") if name in sampler}
