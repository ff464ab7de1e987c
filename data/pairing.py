"""Judged samples of one problem -> preference pairs: the rules, as pure functions.

The pipeline is that of "Aligning CodeLLMs with Direct Preference Optimization" (2024, arXiv 2410.18585):
sample from the policy, run the tests, pair a passing with a failing program. The filters are ours and follow
the evidence published around it: rejected answers that run but fail rather than syntax errors (PLUM,
2406.06887), distinct programs only, intermediate pass rates, lengths in balance. Two failures are never
ranked by anything but the share of tests they pass, and by default not at all.

The result depends on the records and the seed, not on the order of lines in the files.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from random import Random

from data.jsonl import SURROGATE
from data.syntax import is_trivial, normal_form, relative_distance, without_layout
from data.types import Completion, ExecutionResult, PreferencePair, Problem, Verdict


@dataclass
class PairingConfig:
    """What becomes a pair. Shares are 0 to 1; lengths are tokens (characters where a sampler kept no ids)."""

    # completions.jsonl and results.jsonl; null: what evaluate.py wrote for run.checkpoint, run.split, decode
    completions: str | None = None
    results: str | None = None
    per_problem: int = 4  # pairs of one problem at most
    uses: int = 2  # pairs that one answer may be part of
    # Which pairs first: close (small edit distance), frequent (sampled most often), random.
    prefer: str = "close"
    # pass_fail, or partial: two failures form a pair as well if far enough apart in tests passed.
    ranking: str = "pass_fail"
    partial_gap: float = 0.5  # share of the tests that two failures must be apart
    # Problems kept, by share of their samples that passed; 0 and 1 themselves never are.
    pass_rate: list[float] = field(default_factory=lambda: [0.0, 1.0])
    # Edit distance in characters over the longer text: above the first number, up to the second.
    distance: list[float] = field(default_factory=lambda: [0.0, 1.0])
    length_tolerance: float | None = None  # |chosen - rejected| over the longer side at most; null: any
    # |mean of chosen - rejected| over all pairs, as a share of their mean length, at most; null: any
    length_gap: float | None = 0.05
    # Verdict of the rejected side: its largest share of the pairs.
    quota: dict[str, float] = field(default_factory=lambda: {"syntax_error": 0.1})
    # Verdicts that never become a label, besides internal_error.
    exclude: list[str] = field(default_factory=lambda: ["killed", "out_of_memory"])
    rerun: bool = True  # before they form a pair, a passing program must pass again, and a slow one time out
    # Leave out problems whose reference solution fails, or whose tests pass a program that ignores its input.
    check_problems: bool = True
    # Leave out problems with fewer tests (assertions, or what the harness counted): a wrong program may pass.
    min_tests: int = 3
    # Names or files of benchmarks; training problems that repeat one are dropped (data/decontaminate.py).
    benchmarks: list[str] = field(default_factory=list)
    ngram: int = 13  # words in a row that count as the same text


def check_config(config: PairingConfig) -> None:
    """Values that have the right type and still make no sense."""
    for name, value, allowed in (
        ("prefer", config.prefer, ("close", "frequent", "random")),
        ("ranking", config.ranking, ("pass_fail", "partial")),
    ):
        if value not in allowed:
            raise ValueError(f"pairing.{name} is {value!r}, expected one of {', '.join(allowed)}")
    for name in ("per_problem", "uses", "ngram"):
        if getattr(config, name) < 1:
            raise ValueError(f"pairing.{name} is {getattr(config, name)}, at least 1 expected")
    if config.min_tests < 0:
        raise ValueError(f"pairing.min_tests is {config.min_tests}, at least 0 (any) expected")
    for name in ("pass_rate", "distance"):
        limits = list(getattr(config, name))
        if len(limits) != 2 or not 0 <= limits[0] <= limits[1] <= 1:
            raise ValueError(f"pairing.{name} is {limits}, expected [low, high] with 0 <= low <= high <= 1")
    for name in ("length_tolerance", "length_gap", "partial_gap"):
        value = getattr(config, name)
        if value is not None and value < 0:
            raise ValueError(f"pairing.{name} is {value}, not below 0 expected")
    names = {verdict.value for verdict in Verdict} - {Verdict.PASSED.value}
    for name in (*config.exclude, *config.quota):
        if name not in names:
            raise ValueError(f"pairing: no failing verdict {name!r}; there are {', '.join(sorted(names))}")
    for name, share in config.quota.items():
        if not 0 <= share <= 1:
            raise ValueError(f"pairing.quota.{name} is {share}, a share of the pairs from 0 to 1 expected")


@dataclass(frozen=True)
class Candidate:
    """One distinct program of a problem: the first sample that wrote it, and how many did."""

    completion: Completion
    result: ExecutionResult
    source: str  # the whole program, prompt included
    form: str  # equal for programs that differ in layout, comments and docstrings only
    trivial: bool
    count: int = 1

    @property
    def passed(self) -> bool:
        return self.result.verdict == Verdict.PASSED

    @property
    def length(self) -> int:
        return len(self.completion.ids) or len(self.completion.text)

    @property
    def share_passed(self) -> float:
        """Share of the tests passed; 0 where the harness did not count them."""
        return self.result.tests_passed / self.result.tests_total if self.result.tests_total else 0.0


@dataclass(frozen=True)
class Pairing:
    """A possible or selected pair."""

    problem: Problem
    chosen: Candidate
    rejected: Candidate
    distance: float  # edit distance of the completions over the longer one's characters
    pass_rate: float  # of the problem

    @property
    def length_difference(self) -> int:
        return self.chosen.length - self.rejected.length

    @property
    def key(self) -> str:
        return f"{self.problem.task_id}/{self.chosen.completion.sample}/{self.rejected.completion.sample}"


Judged = tuple[Completion, ExecutionResult]
Rerun = Callable[[list[tuple[Problem, Candidate]]], list[Verdict]]
Check = Callable[[list[Problem]], dict[str, str]]  # -> task id: what is wrong with a problem


@dataclass(frozen=True)
class Selection:
    """What `select_pairs` found, and what it left out: reason -> number, each reason with its unit first."""

    pairings: list[Pairing]
    dropped: Counter
    pass_rates: dict[str, float]  # per problem with at least one label


def select_pairs(
    judged: dict[str, list[Judged]],
    problems: dict[str, Problem],
    config: PairingConfig,
    *,
    seed: int,
    source: Callable[[Problem, Completion], str],
    rerun: Rerun | None = None,
    check: Check | None = None,
) -> Selection:
    """All rules in order: labels, distinct programs, problems, pairs, a second run, quotas, lengths.

    `source` gives a sample's whole program; `check` finds fault with problems that could give pairs (None:
    all are sound); `rerun` judges candidates once more (None: trust the first verdict). A program that passes
    or times out only once is dropped and its problem paired anew without it.
    """
    check_config(config)
    dropped: Counter = Counter()
    pass_rates: dict[str, float] = {}
    possible: dict[str, list[Pairing]] = {}
    for task_id in sorted(judged):
        labelled = with_label(judged[task_id], config, dropped)
        if not labelled:
            dropped["problems: no sample with a label"] += 1
            continue
        rate = sum(result.verdict == Verdict.PASSED for _, result in labelled) / len(labelled)
        pass_rates[task_id] = rate
        candidates = distinct_programs(problems[task_id], labelled, source, dropped)
        reason = unfit(candidates, rate, config)
        if reason:
            dropped[f"problems: {reason}"] += 1
            continue
        possible[task_id] = possible_pairs(problems[task_id], candidates, rate, config, dropped)
    for task_id, fault in (check([problems[t] for t in possible]) if check and possible else {}).items():
        del possible[task_id]
        dropped[f"problems: {fault}"] += 1
    selected, idle = choose_all(possible, config, seed, rerun, dropped)
    dropped["problems: no pair left by the rules above"] += idle
    before = -1
    while before != len(selected):  # each of the two can undo the other's work; both only remove
        before = len(selected)
        selected = within_quota(selected, config.quota, seed, dropped)
        if config.length_gap is not None:
            selected = balance_lengths(selected, config.length_gap, dropped)
    return Selection(selected, +dropped, pass_rates)


def with_label(judged: list[Judged], config: PairingConfig, dropped: Counter) -> list[Judged]:
    """Samples, in order, whose verdict says something about the program."""
    excluded = {Verdict.INTERNAL_ERROR.value, *config.exclude}
    kept = []
    for completion, result in sorted(judged, key=lambda row: row[0].sample):
        if result.verdict.value in excluded:
            dropped[f"samples: verdict {result.verdict.value} is no label"] += 1
        elif not completion.ids and SURROGATE.search(completion.text):
            dropped["samples: half a surrogate pair, which no tokenizer reads"] += 1
        else:
            kept.append((completion, result))
    return kept


def distinct_programs(
    problem: Problem,
    labelled: list[Judged],
    source: Callable[[Problem, Completion], str],
    dropped: Counter,
) -> list[Candidate]:
    """One candidate per normal form, the first finished sample standing for all.

    Equal programs of which some passed and some did not are flaky: all of them go.
    """
    classes: dict[str, list[Candidate]] = {}
    for completion, result in labelled:
        if not completion.finished:
            dropped["samples: cut by the length limit"] += 1
            continue
        text = source(problem, completion)
        form = normal_form(text)
        trivial = is_trivial(text, problem.entry_point)
        classes.setdefault(form, []).append(Candidate(completion, result, text, form, trivial))
    candidates = []
    for same in classes.values():
        if len({candidate.passed for candidate in same}) > 1:
            dropped["samples: equal programs, some passed and some failed"] += len(same)
            continue
        dropped["samples: same program as an earlier one"] += len(same) - 1
        candidates.append(replace(same[0], count=len(same)))
    return candidates


def unfit(candidates: list[Candidate], rate: float, config: PairingConfig) -> str:
    """Why a problem can give no pairs; empty when it can. `rate`: share of its labelled samples that pass."""
    low, high = config.pass_rate
    if rate in (0.0, 1.0):
        return f"{'no' if rate == 0.0 else 'every'} sample passed"
    if not low <= rate <= high:
        return f"pass rate outside {low:g} to {high:g}"
    if any(candidate.passed and candidate.trivial for candidate in candidates):
        return "a trivial program passes its tests"
    return ""


def may_rank(better: Candidate, worse: Candidate, config: PairingConfig) -> bool:
    """Whether the verdicts alone say that `better` is to be preferred."""
    if better.trivial or worse.passed:
        return False
    if better.passed:
        return True
    counted = better.result.tests_total > 0 and worse.result.tests_total > 0
    gap = better.share_passed - worse.share_passed
    return config.ranking == "partial" and counted and gap > 0 and gap >= config.partial_gap


def possible_pairs(
    problem: Problem, candidates: list[Candidate], rate: float, config: PairingConfig, dropped: Counter
) -> list[Pairing]:
    """Every pair of a problem that the verdicts and the limits on distance and length allow."""
    low, high = config.distance
    pairings = []
    for better, worse in product(candidates, candidates):
        if not may_rank(better, worse, config):
            continue
        longer = max(better.length, worse.length, 1)
        tolerance = config.length_tolerance
        if tolerance is not None and abs(better.length - worse.length) > tolerance * longer:
            dropped[f"pairs: lengths more than {tolerance:.0%} apart"] += 1
        elif without_layout(better.source) == without_layout(worse.source):
            dropped["pairs: only layout or comments differ"] += 1
        else:
            distance = relative_distance(better.completion.text, worse.completion.text)
            if low < distance <= high:
                pairings.append(Pairing(problem, better, worse, distance, rate))
            else:
                side = f"not above {low:g}" if distance <= low else f"above {high:g}"
                dropped[f"pairs: edit distance {side}"] += 1
    return pairings


def choose_all(
    possible: dict[str, list[Pairing]],
    config: PairingConfig,
    seed: int,
    rerun: Rerun | None,
    dropped: Counter,
) -> tuple[list[Pairing], int]:
    """Pairs of all problems, every chosen program confirmed, and the number of problems left without one."""
    again: dict[tuple[str, int], tuple[Verdict, Verdict]] = {}  # sample -> its two verdicts

    def sides(pairing: Pairing) -> dict[tuple[str, int], Candidate]:
        """The candidates whose first verdict may have been luck or a busy machine."""
        candidates = (pairing.chosen, pairing.rejected)
        doubtful = (Verdict.PASSED, Verdict.TIMEOUT)
        return {
            (pairing.problem.task_id, c.completion.sample): c
            for c in candidates
            if c.result.verdict in doubtful
        }

    while True:
        unstable = {name for name, (first, second) in again.items() if first != second}
        trusted = {
            task_id: [p for p in pairings if not unstable & sides(p).keys()]
            for task_id, pairings in possible.items()
        }
        selected = {task_id: choose_pairs(pairings, config, seed) for task_id, pairings in trusted.items()}
        flat = [pairing for pairings in selected.values() for pairing in pairings]
        pending = {name: (p.problem, c) for p in flat for name, c in sides(p).items() if name not in again}
        if rerun is None or not pending:
            break
        verdicts = rerun(list(pending.values()))
        for (name, (_, candidate)), verdict in zip(pending.items(), verdicts, strict=True):
            again[name] = (candidate.result.verdict, verdict)
    for first, second in again.values():
        if first != second:
            dropped[f"samples: {first.value} once, then {second.value}"] += 1
    left = sum(map(len, trusted.values())) - len(flat)
    dropped["pairs: beyond what a problem or an answer may give"] += left
    return flat, sum(not pairings for pairings in selected.values())


def choose_pairs(possible: list[Pairing], config: PairingConfig, seed: int) -> list[Pairing]:
    """Up to `per_problem` pairs of one problem, no answer in more than `uses` of them.

    First pairs with a passing chosen side, then rejected sides that run, then answers not used yet, then
    `prefer`. Ties are broken by the seed.
    """
    uses: Counter = Counter()
    order = {p.key: Random(f"{seed}/{p.key}").random() for p in possible}

    def preference(pairing: Pairing) -> tuple[float, ...]:
        wanted = {
            "close": pairing.distance,
            "frequent": -pairing.chosen.count * pairing.rejected.count,
            "random": 0.0,
        }[config.prefer]
        used = uses[pairing.chosen.form] + uses[pairing.rejected.form]
        broken = pairing.rejected.result.verdict == Verdict.SYNTAX_ERROR
        return (not pairing.chosen.passed, broken, used, wanted, order[pairing.key])

    chosen: list[Pairing] = []
    left = list(possible)
    while len(chosen) < config.per_problem:
        left = [p for p in left if max(uses[p.chosen.form], uses[p.rejected.form]) < config.uses]
        if not left:
            break
        best = min(left, key=preference)
        left.remove(best)
        chosen.append(best)
        uses.update((best.chosen.form, best.rejected.form))
    return chosen


def within_quota(
    pairings: list[Pairing], quota: dict[str, float], seed: int, dropped: Counter
) -> list[Pairing]:
    """Drop pairs at random until no verdict of the rejected side exceeds its share of what remains."""
    order = sorted(pairings, key=lambda p: Random(f"{seed}/quota/{p.key}").random())
    kept = {verdict: [p for p in order if p.rejected.result.verdict.value == verdict] for verdict in quota}
    total = len(pairings)
    gone: set[str] = set()
    while True:
        excess = {verdict: len(kept[verdict]) - share * total for verdict, share in quota.items()}
        worst = max(excess, key=lambda verdict: (excess[verdict], verdict), default=None)
        if worst is None or excess[worst] <= 1e-9:
            break
        gone.add(kept[worst].pop().key)
        total -= 1
        dropped[f"pairs: {worst} beyond its share of {quota[worst]:g}"] += 1
    return [p for p in pairings if p.key not in gone]


def balance_lengths(pairings: list[Pairing], gap: float, dropped: Counter) -> list[Pairing]:
    """Drop the pairs that differ most in the prevailing direction until the lengths balance.

    They balance when |mean(chosen - rejected)| <= gap * mean length. Pairs that all differ in one direction
    cannot be balanced: none remains, and the table says so.
    """
    kept = sorted(pairings, key=lambda p: (p.length_difference, p.key))
    difference = sum(p.length_difference for p in kept)
    both = sum(p.chosen.length + p.rejected.length for p in kept)
    while kept and abs(difference) > gap * both / 2:
        gone = kept.pop(-1 if difference > 0 else 0)
        difference -= gone.length_difference
        both -= gone.chosen.length + gone.rejected.length
        dropped[f"pairs: dropped for a mean length difference within {gap:.0%}"] += 1
    names = {p.key for p in kept}
    return [p for p in pairings if p.key in names]


def preference_pair(pairing: Pairing, provenance: dict) -> PreferencePair:
    """The row of pairs.jsonl, ids exactly as sampled."""

    def side(candidate: Candidate) -> dict:
        completion, result = candidate.completion, candidate.result
        return {
            "sample": completion.sample,
            "verdict": result.verdict.value,
            "kind": result.kind,
            "tests_passed": result.tests_passed,
            "tests_total": result.tests_total,
            "temperature": completion.temperature,
            "seed": completion.seed,
            "length": candidate.length,
            "samples": candidate.count,
        }

    chosen, rejected = pairing.chosen.completion, pairing.rejected.completion
    return PreferencePair(
        task_id=pairing.problem.task_id,
        prompt=pairing.problem.prompt,
        chosen=chosen.text,
        rejected=rejected.text,
        prompt_ids=list(chosen.prompt_ids),
        chosen_ids=list(chosen.ids),
        rejected_ids=list(rejected.ids),
        meta=provenance
        | {
            "pass_rate": round(pairing.pass_rate, 4),
            "edit_distance": round(pairing.distance, 4),
            "length_difference": pairing.length_difference,
            "chosen": side(pairing.chosen),
            "rejected": side(pairing.rejected),
        },
    )
