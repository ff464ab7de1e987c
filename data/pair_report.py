"""What a reader of a pairs file should know: counts, histograms, percentiles, and the same as a table.

The list follows what published pair sets were found to lack: failure kinds, lengths of both sides, edit
distance, pass rates, duplicates, and pairs that differ in layout only (there must be none).
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable

import numpy as np

from data.decontaminate import Hit
from data.pairing import Judged, Pairing, Selection
from data.syntax import without_layout

PERCENTILES = (5, 25, 50, 75, 95)


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
        line("verdicts", report["verdicts"]),
        line("pass rate", {name: count for name, count in report["pass_rate"].items() if count}),
        line("rejected", report["rejected_verdicts"]),
        line("exceptions", report["rejected_exceptions"]),
        line("pairs per problem", report["pairs_per_problem"]),
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
    benchmarks = ", ".join(f"{name} ({n})" for name, n in report.get("decontaminated_against", {}).items())
    hits = len({hit["task_id"] for hit in report["decontamination_hits"]})
    lines.append(
        f"decontamination: {hits} problems repeat one of {benchmarks}"
        if benchmarks
        else "decontamination: none; pairing.benchmarks=[humaneval,mbpp] leaves out what repeats them"
    )
    for hit in report["decontamination_hits"]:
        lines.append(f"  {hit['task_id']} repeats {hit['benchmark']} {hit['benchmark_id']} ({hit['kind']})")
    return "\n".join(lines)


def line(name: str, counts: dict[str, int]) -> str:
    return f"{name:<10} " + (", ".join(f"{key} {count}" for key, count in counts.items()) or "(none)")
