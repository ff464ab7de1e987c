"""problems + completions + results -> pairs.jsonl, and a table of what was kept and dropped.

    python -m data.collect +exp=quickstart

A join of the files that sample.py and evaluate.py wrote, then the rules of data/pairing.py. Needs no model;
chosen programs are run once more (pairing.rerun). Beside the pairs, pairs.jsonl.meta.json holds the counts
and the report on the dataset.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.decontaminate import Hit, benchmark_index, problem_hits
from data.jsonl import as_record, iterate_jsonl, write_jsonl, write_provenance
from data.pairing import Judged, Pairing, PairingConfig, Rerun, Selection, preference_pair, select_pairs
from data.syntax import without_layout
from data.types import Completion, ExecutionResult, PreferencePair, Problem, Verdict

PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Collection:
    """The pairs in order of task id, and what there is to say about them: kept, problems, dropped, ..."""

    pairs: list[PreferencePair]
    report: dict


def read_completions(path: Path | str) -> list[Completion]:
    """completions.jsonl of any sampler; `ids` may be missing, in all rows."""
    completions = []
    for number, row in iterate_jsonl(path):
        where = f"{path}, line {number}"
        completion = as_record(Completion, row, where)
        check_type(completion.text, str, "text", where)
        check_type(completion.sample, int, "sample", where)
        completions.append(completion)
    if not completions:
        raise ValueError(
            f"{path} holds no completions; sample first: python sample.py with the same experiment"
        )
    if len({bool(completion.ids) for completion in completions}) > 1:
        raise ValueError(f"{path}: some completions have ids and some have none; lengths would not compare")
    return completions


def read_results(path: Path | str) -> list[ExecutionResult]:
    """results.jsonl of evaluate.py; every row needs task_id, sample and a known verdict."""
    results = []
    for number, row in iterate_jsonl(path):
        where = f"{path}, line {number}"
        missing = sorted({"task_id", "sample", "verdict"} - row.keys())
        if missing:
            raise ValueError(
                f"{where}: no {', '.join(missing)}; found the keys {', '.join(sorted(row)) or '(none)'}"
            )
        if row["verdict"] not in {verdict.value for verdict in Verdict}:
            known = ", ".join(verdict.value for verdict in Verdict)
            raise ValueError(f"{where}: verdict {row['verdict']!r} is none of {known}")
        check_type(row["sample"], int, "sample", where)
        results.append(as_record(ExecutionResult, row | {"verdict": Verdict(row["verdict"])}, where))
    if not results:
        raise ValueError(
            f"{path} holds no results; run the tests first: python evaluate.py with the same experiment"
        )
    return results


def check_type(value: object, expected: type, name: str, where: str) -> None:
    if not isinstance(value, expected) or isinstance(value, bool):
        raise ValueError(f"{where}: {name} is a {type(value).__name__}, a {expected.__name__} expected")


def join(
    problems: Iterable[Problem], completions: Iterable[Completion], results: Iterable[ExecutionResult]
) -> dict[str, list[Judged]]:
    """Task id -> its samples with their verdicts. A sample without a verdict, or the reverse, is an error."""
    known = {problem.task_id for problem in problems}
    sampled = by_sample(completions, "completions")
    verdicts = by_sample(results, "results")
    for rows, name in ((sampled, "completions"), (verdicts, "results")):
        unknown = sorted({task_id for task_id, _ in rows} - known)
        if unknown:
            raise ValueError(
                f"the {name} name {len(unknown)} task ids that are in no problem, such as {unknown[0]}; "
                "data.problems, data.seed and run.split must be those the samples were drawn for"
            )
    for missing, have, lack in (
        (sampled.keys() - verdicts.keys(), "completions", "result"),
        (verdicts.keys() - sampled.keys(), "results", "completion"),
    ):
        if missing:
            task_id, sample = min(missing)
            raise ValueError(
                f"{len(missing)} {have} have no {lack}, such as {task_id} sample {sample}; both files must "
                "come from the same run: delete the results and run evaluate.py again"
            )
    judged: dict[str, list[Judged]] = defaultdict(list)
    for key in sampled:
        judged[key[0]].append((sampled[key], verdicts[key]))
    for task_id, rows in judged.items():
        if any(completion.prompt_ids != rows[0][0].prompt_ids for completion, _ in rows):
            raise ValueError(
                f"{task_id} was sampled with different prompt_ids; both sides of a pair answer one prompt"
            )
    return dict(judged)


def by_sample(rows: Iterable[Completion | ExecutionResult], name: str) -> dict[tuple[str, int], object]:
    """(task id, sample) -> row; a second row of the same sample is an error."""
    found: dict[tuple[str, int], object] = {}
    for row in rows:
        key = (row.task_id, row.sample)
        if key in found:
            raise ValueError(
                f"the {name} hold {row.task_id} sample {row.sample} twice; one row per sample expected"
            )
        found[key] = row
    return found


def prompt_then_text(problem: Problem, completion: Completion) -> str:
    """The program of a completion that continues its prompt."""
    return problem.prompt + completion.text


def collect_pairs(
    problems: list[Problem],
    completions: list[Completion],
    results: list[ExecutionResult],
    config: PairingConfig,
    *,
    seed: int,
    source: Callable[[Problem, Completion], str] = prompt_then_text,
    rerun: Rerun | None = None,
    benchmarks: dict[str, list[Problem]] | None = None,
    provenance: dict | None = None,
) -> Collection:
    """Records -> pairs and report: a function of its arguments, whatever the order of the records.

    `source` gives a sample's whole program, `rerun` judges chosen programs again, problems that repeat one of
    `benchmarks` are left out, `provenance` (checkpoint and tokenizer digests) goes into every pair's meta.
    """
    judged = join(problems, completions, results)
    by_id = {problem.task_id: problem for problem in problems}
    hits: list[Hit] = []
    if benchmarks:
        sampled = [problem for problem in problems if problem.task_id in judged]
        hits = problem_hits(sampled, benchmark_index(benchmarks, config.ngram))
    contaminated = {hit.task_id for hit in hits}
    clean = {task_id: rows for task_id, rows in judged.items() if task_id not in contaminated}
    selection = select_pairs(clean, by_id, config, seed=seed, source=source, rerun=rerun)
    if contaminated:
        selection.dropped["problems: repeat a benchmark"] = len(contaminated)
    report = dataset_report(judged, selection, hits)
    pairs = [preference_pair(pairing, provenance or {}) for pairing in selection.pairings]
    return Collection(pairs, report)


def dataset_report(judged: dict[str, list[Judged]], selection: Selection, hits: list[Hit]) -> dict:
    """What a reader of the pairs should know, as plain JSON; `kept`, `problems` and `dropped` first."""
    pairings = selection.pairings
    samples = [row for rows in judged.values() for row in rows]
    per_problem = Counter(p.problem.task_id for p in pairings)
    duplicates = selection.dropped["samples: same program as an earlier one"]
    return {
        "kept": len(pairings),
        "problems": len(per_problem),
        "dropped": dict(sorted(selection.dropped.items())),
        "samples": len(samples),
        "sampled_problems": len(judged),
        "verdicts": counted(result.verdict.value for _, result in samples),
        "pass_rate": pass_rate_histogram(selection.pass_rates.values()),
        "pairs_per_problem": {str(n): count for n, count in sorted(Counter(per_problem.values()).items())},
        "chosen_verdicts": counted(p.chosen.result.verdict.value for p in pairings),
        "rejected_verdicts": counted(p.rejected.result.verdict.value for p in pairings),
        "rejected_exceptions": dict(
            Counter(p.rejected.result.kind for p in pairings if p.rejected.result.kind).most_common(10)
        ),
        "length_unit": "tokens" if all(completion.ids for completion, _ in samples) else "characters",
        "chosen_length": spread(p.chosen.length for p in pairings),
        "rejected_length": spread(p.rejected.length for p in pairings),
        "length_difference": spread(p.length_difference for p in pairings),
        "edit_distance": spread(p.distance for p in pairings),
        "layout_only": sum(map(differs_in_layout_only, pairings)),
        "trivial_rejected": sum(p.rejected.trivial for p in pairings),
        "duplicate_rate": round(duplicates / len(samples), 4) if samples else 0.0,
        "temperatures": sorted({completion.temperature for completion, _ in samples}),
        "decontamination_hits": [dataclasses.asdict(hit) for hit in hits],
    }


def differs_in_layout_only(pairing: Pairing) -> bool:
    return pairing.chosen.form == pairing.rejected.form or (
        without_layout(pairing.chosen.source) == without_layout(pairing.rejected.source)
    )


def counted(values: Iterable[str]) -> dict[str, int]:
    """Value -> number, the most frequent first, then by name."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def pass_rate_histogram(rates: Iterable[float]) -> dict[str, int]:
    """Problems per tenth of the pass rate; 0 and 1 have bins of their own."""
    bins = {"0": 0} | {f"{i / 10:g}-{(i + 1) / 10:g}": 0 for i in range(10)} | {"1": 0}
    names = list(bins)
    for rate in rates:
        bins["0" if rate == 0 else "1" if rate == 1 else names[1 + int(rate * 10)]] += 1
    return bins


def spread(values: Iterable[float]) -> dict[str, float]:
    """Mean and percentiles, empty without values."""
    found = np.array(list(values), dtype=np.float64)
    if not found.size:
        return {}
    percentiles = {f"p{p}": round(float(np.percentile(found, p)), 3) for p in PERCENTILES}
    return {"mean": round(float(found.mean()), 3), **percentiles}


def table(report: dict) -> str:
    """The report as text for the terminal."""
    lines = [
        f"pairs      {report['kept']} from {report['problems']} of {report['sampled_problems']} problems, "
        f"{report['samples']} samples, {report['duplicate_rate']:.0%} of them repeat a program",
        row("verdicts", report["verdicts"]),
        row("pass rate", {name: count for name, count in report["pass_rate"].items() if count}),
        row("rejected", report["rejected_verdicts"]),
        row("exceptions", report["rejected_exceptions"]),
        row("pairs per problem", report["pairs_per_problem"]),
    ]
    header = f"{report['length_unit']:<20}{'mean':>9}" + "".join(f"{f'p{p}':>9}" for p in PERCENTILES)
    lines += ["", header]
    for name in ("chosen_length", "rejected_length", "length_difference", "edit_distance"):
        if report[name]:
            lines.append(
                f"{name.replace('_', ' '):<20}" + "".join(f"{v:>9.2f}" for v in report[name].values())
            )
    lines += ["", f"{'dropped':<62}{'number':>8}"]
    lines += [f"  {reason:<60}{number:>8}" for reason, number in report["dropped"].items()]
    for hit in report["decontamination_hits"]:
        lines.append(f"  {hit['task_id']} repeats {hit['benchmark']} {hit['benchmark_id']} ({hit['kind']})")
    return "\n".join(lines)


def row(name: str, counts: dict[str, int]) -> str:
    return f"{name:<10} " + (", ".join(f"{key} {count}" for key, count in counts.items()) or "(none)")


def write_pairs(path: Path | str, collection: Collection, **facts: object) -> None:
    """pairs.jsonl and, after it, pairs.jsonl.meta.json; an empty collection is an error that says why."""
    if not collection.pairs:
        reasons = "; ".join(f"{number} {reason}" for reason, number in collection.report["dropped"].items())
        raise ValueError(f"no pairs to write to {path} ({reasons}); sample more per problem or relax pairing")
    write_jsonl(path, collection.pairs)
    write_provenance(path, **collection.report, **facts)
