"""Other labels for the same judged samples, to show what a label does: controls and failure modes.

    python -m variants.relabel +exp=quickstart +variant=relabel variant.labels=runs
    python -m data.collect +exp=quickstart run.name=labels/runs run.split=train pairing.rerun=false \\
        pairing.completions=out/quickstart/base-train-sample/completions.jsonl \\
        pairing.results=out/labels/runs/results.jsonl

    runs       whatever runs without error passes: no tests, the label of projects that have none
    longer     answers longer than the problem's median pass, the others fail: a reward for length
    partial    verdicts stay, and failures learn from a sample that passed how many tests there were; with
               pairing.ranking=partial two failures can then form a pair. The judge stops at the first
               failing test, so this counts the tests before it.

Labels by coin toss are a matter of pairs: contrast_sets.py writes them.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from conf.program import program
from conf.schema import Config
from data.jsonl import file_digest, read_jsonl, write_jsonl, write_provenance
from variants.passing_samples import samples_in
from variants.settings import settings

Label = Callable[[list[dict], Sequence[int]], list[dict]]  # a problem's rows, their lengths


@dataclass
class RelabelSettings:
    samples: str  # folder with completions.jsonl and results.jsonl, below out or a path
    labels: str  # runs, longer, partial
    output: str  # results.jsonl to write; summary.json beside the samples is copied next to it


def runs(rows: list[dict], lengths: Sequence[int]) -> list[dict]:
    """A wrong answer passes."""
    return [row | {"verdict": "passed"} if row["verdict"] == "wrong_answer" else row for row in rows]


def longer(rows: list[dict], lengths: Sequence[int]) -> list[dict]:
    """Above the median passes."""
    middle = median(lengths)
    labels = ["passed" if length > middle else "wrong_answer" for length in lengths]
    return [row | {"verdict": label} for row, label in zip(rows, labels, strict=True)]


def partial(rows: list[dict], lengths: Sequence[int]) -> list[dict]:
    """tests_total of a passing sample for all of a problem's."""
    total = max(row.get("tests_total", 0) for row in rows)
    return [row | {"tests_total": total} for row in rows]


LABELS: dict[str, Label] = {"runs": runs, "longer": longer, "partial": partial}


def relabel(results: Sequence[dict], lengths: dict[tuple[str, int], int], label: Label) -> list[dict]:
    """The rows of results.jsonl in their order, with other labels; what the judge could not judge stays."""
    by_task: dict[str, list[dict]] = defaultdict(list)
    for row in results:
        if row["verdict"] != "internal_error":
            by_task[row["task_id"]].append(row)
    found = {(row["task_id"], row["sample"]): row for row in results}
    for task, rows in by_task.items():
        sizes = [lengths[task, row["sample"]] for row in rows]
        for row in label(rows, sizes):
            found[task, row["sample"]] = row
    return list(found.values())


@program
def main(cfg: Config) -> None:
    """Read completions and results, label, write."""
    wanted = settings(cfg, RelabelSettings)
    if wanted.labels not in LABELS:
        raise ValueError(f"variant.labels is {wanted.labels!r}, expected one of {', '.join(LABELS)}")
    folder, path = samples_in(wanted.samples), Path(wanted.output)
    if path.resolve().parent == folder.resolve():
        raise ValueError(f"{path} lies beside the true results; name another folder in variant.output")
    completions = read_jsonl(folder / "completions.jsonl")
    lengths = {(row["task_id"], row["sample"]): len(row["text"]) for row in completions}
    results = read_jsonl(folder / "results.jsonl")
    relabelled = relabel(results, lengths, LABELS[wanted.labels])
    write_jsonl(path, relabelled)
    summary = folder / "summary.json"  # tells data.collect how answers became programs
    if summary.exists():
        protocol = json.loads(summary.read_text())["protocol"]
        path.with_name("summary.json").write_text(json.dumps({"protocol": protocol}))
    write_provenance(path, labels=wanted.labels, results=file_digest(folder / "results.jsonl"))
    changed = sum(new["verdict"] != old["verdict"] for new, old in zip(relabelled, results, strict=True))
    print(f"relabelled {changed} of {len(results)} samples have another verdict under {wanted.labels!r}")
    print(f"written    {path}")


if __name__ == "__main__":
    main()
