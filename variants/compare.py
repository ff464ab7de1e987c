"""The table of a comparison: methods x seeds, from the files that finished runs left behind.

    python -m variants.compare +exp=quickstart +variant=compare

Runs are the folders out/<folder>/<method>/<seed>, as variants/comparison.py makes them: a checkpoint (dpo or
sft), its results on a split, and the base policy's results in out/<folder>/base.

Intervals are two-way bootstraps, 95 %: problems and training seeds are drawn again with replacement. Problems
are drawn once for all methods, so a difference is paired by problem. They are not corrected for the number of
methods. Drift is the mean change of the summed log-prob, in nats, against the base policy, on pairs of the
problems held out from that seed's training. Accuracy is what the loss reports on the pairs held out from its
own training: the share whose reward is higher on the chosen side. Length is the mean number of tokens of a
sampled answer. Settings are those that tuning chose. Seconds are CPU seconds of training where the comparison
noted them, else wall seconds.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.jsonl import digest, file_digest, iterate_jsonl, read_jsonl, write_json, write_text
from data.pairs import split_by_problem
from data.statistics import REPLICATES, bootstrap_means, decoding, pass_counts
from data.tokenizer import load_tokenizer
from data.types import PreferencePair
from model.checkpoint import weights_digest
from variants.scoring import cached_logps, sums, training_pairs
from variants.settings import settings

STAGES = ("dpo", "sft")
DECODINGS = ("greedy", "sampled")
ACCURACY = "validation/rewards/accuracies"


@dataclass
class CompareSettings:
    folder: str  # below out: <method>/<seed> for each run
    split: str  # whose results are read
    decode: str  # the decode group they were sampled with
    baseline: str  # method the others are compared with
    only: list[str] | None  # methods to show besides base and baseline; null: all
    drift: bool  # score the held-out pairs with every checkpoint (a forward pass each)
    output: str | None  # the table, with its numbers as .json beside; null: table-<split>.md in the folder


class Run(NamedTuple):
    """One finished run: pass rates per decoding and problem, and what else the table shows."""

    checkpoint: Path
    rates: dict[str, dict[str, float]]  # decoding -> task id -> share that passed
    length: float  # tokens of a sampled answer, mean
    seconds: float  # of training
    accuracy: float | None  # of rewards on held-out pairs; None where the program has no rewards


class Interval(NamedTuple):
    mean: float
    low: float
    high: float

    def text(self, sign: str = "") -> str:
        return f"{self.mean:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"


def pass_rates(results: Path) -> dict[str, dict[str, float]]:
    """Decoding -> task id -> share of its answers that passed."""
    rows = read_jsonl(results)
    rates = {}
    for name in DECODINGS:
        counts = pass_counts(row for row in rows if decoding(row) == name)
        if counts:
            rates[name] = {task: passed / judged for task, (judged, passed) in sorted(counts.items())}
    return rates


def mean_length(completions: Path) -> float:
    """Tokens of a sampled answer, on average."""
    rows = (row for _, row in iterate_jsonl(completions))
    return float(np.mean([len(row["ids"]) for row in rows if decoding(row) == "sampled"] or [np.nan]))


def training_seconds(folder: Path, stage: str) -> float:
    """CPU seconds if variants/comparison.py noted them, else the wall seconds the program noted."""
    cost = folder / "cpu.json"
    known = json.loads(cost.read_text()) if cost.exists() else {}
    noted = [seconds for name, seconds in known.items() if name.startswith("train_")]
    return noted[0] if noted else json.loads((folder / f"{stage}.meta.json").read_text())["seconds"]


def reward_accuracy(metrics: Path) -> float | None:
    """The last one on held-out pairs."""
    rows = read_jsonl(metrics) if metrics.exists() else []
    return next((row[ACCURACY] for row in reversed(rows) if ACCURACY in row), None)


def read_run(folder: Path, split: str, decode: str) -> Run | None:
    """A run's numbers; None where training or evaluation has not finished."""
    for stage in STAGES:
        evaluation, meta = folder / f"{stage}-{split}-{decode}", folder / f"{stage}.meta.json"
        if meta.exists() and (evaluation / "summary.json").exists():
            return Run(
                folder / stage,
                pass_rates(evaluation / "results.jsonl"),
                mean_length(evaluation / "completions.jsonl"),
                training_seconds(folder, stage),
                reward_accuracy(folder / f"{stage}.metrics.jsonl"),
            )
    return None


def read_runs(
    home: Path, split: str, decode: str, only: Collection[str] | None = None
) -> dict[str, dict[str, Run]]:
    """Method -> seed -> run, of what has finished below `home`; `only` these methods."""
    runs: dict[str, dict[str, Run]] = {}
    for folder in sorted(home.glob("*/*")):
        is_seed = folder.is_dir() and folder.name.isdigit()  # else a preparation, or moved aside
        wanted = is_seed and (only is None or folder.parent.name in only)
        run = read_run(folder, split, decode) if wanted else None
        if run is not None:
            runs.setdefault(folder.parent.name, {})[folder.name] = run
    if not runs:
        raise FileNotFoundError(
            f"no finished run below {home}; make them first: python -m variants.comparison +exp=comparison"
        )
    return runs


def rate_matrix(runs: Sequence[Run], name: str, tasks: Sequence[str], where: str) -> np.ndarray:
    """[problems, seeds]; every run must have judged the same problems."""
    for run in runs:
        if run.rates.get(name, {}).keys() != set(tasks):
            raise ValueError(f"{where}: a run's {name} results are of other problems; evaluate it again")
    return np.array([[run.rates[name][task] for run in runs] for task in tasks])


def replicates(rates: np.ndarray, seed: int, count: int = REPLICATES) -> np.ndarray:
    """rates [P, S] -> means [count] over problems and seeds drawn with replacement.

    The problems drawn are the same for every method, `seed` decides only which training seeds are drawn.
    """
    per_seed = bootstrap_means(rates, count)  # [count, S]
    drawn = np.random.default_rng([7, seed]).integers(rates.shape[1], size=per_seed.shape)
    return np.take_along_axis(per_seed, drawn, axis=1).mean(1)


def interval(mean: float, draws: np.ndarray) -> Interval:
    return Interval(float(mean), *map(float, np.quantile(draws, [0.025, 0.975])))


def compare_rates(rates: dict[str, np.ndarray], baseline: str) -> dict[str, dict[str, Interval]]:
    """Method -> rates [P, S]  =>  method -> its pass@1, and its paired difference from the baseline."""
    draws = {method: replicates(matrix, i) for i, (method, matrix) in enumerate(rates.items())}
    found = {}
    for method, matrix in rates.items():
        found[method] = {"pass_at_1": interval(matrix.mean(), draws[method])}
        if method != baseline and baseline in rates:
            gain = matrix.mean() - rates[baseline].mean()
            found[method]["difference"] = interval(gain, draws[method] - draws[baseline])
    return found


def drift_of(cfg: Config, run: Run, base: Path, held_out: Sequence[PreferencePair]) -> tuple[float, float]:
    """Mean change of log-prob (chosen, rejected) on a run's held-out pairs, nats.

    It is kept beside the checkpoint (drift.json), which may be deleted afterwards; what training noted of it
    stands for its weights.
    """
    kept = run.checkpoint.with_name("drift.json")
    inputs = {
        "checkpoint": file_digest(f"{run.checkpoint}.meta.json"),
        "base": weights_digest(base),
        "pairs": digest([(p.prompt_ids, p.chosen_ids, p.rejected_ids) for p in held_out]),
    }
    found = json.loads(kept.read_text()) if kept.exists() else {}
    if "inputs" not in found or found["inputs"] != inputs:
        if not run.checkpoint.exists():
            raise ValueError(
                f"{run.checkpoint} is gone and {kept} is not of this run, base policy and pairs; delete "
                f"{kept.parent} and run variants.comparison again, or set variant.drift=false"
            )
        after, before = (sums(cached_logps(cfg, folder, held_out)) for folder in (run.checkpoint, base))
        chosen, rejected = (after - before).mean(1).tolist()
        found = {"chosen": chosen, "rejected": rejected, "inputs": inputs}
        write_json(kept, found)
    return found["chosen"], found["rejected"]


def drifts(cfg: Config, runs: dict[str, dict[str, Run]]) -> dict[str, tuple[float, float]]:
    """Method -> mean change of log-prob (chosen, rejected) over its seeds, each on its own held-out pairs."""
    base = checkpoint_folder(cfg, cfg.run.init)
    pairs = training_pairs(cfg, load_tokenizer(base))
    drift: dict[str, tuple[float, float]] = {}
    for method, seeds in runs.items():
        changes = []
        for seed, run in seeds.items():
            _, held_out = split_by_problem(pairs, cfg.data.validation_share, int(seed))
            changes.append(drift_of(cfg, run, base, [pairs[i] for i in held_out]))
        drift[method] = tuple(np.mean(changes, axis=0).tolist())
    return drift


def summarise(
    runs: dict[str, dict[str, Run]], base: Run | None, baseline: str, drift: dict[str, tuple[float, float]]
) -> dict[str, dict]:
    """Method -> everything the table shows. `base`, the untrained policy, is a method with one seed."""
    groups = {method: list(seeds.values()) for method, seeds in runs.items()}
    if base is not None:
        groups = {"base": [base]} | groups
    rows: dict[str, dict] = {method: {"seeds": len(group)} for method, group in groups.items()}
    for name in DECODINGS:
        tasks = list(next(iter(groups.values()))[0].rates.get(name, {}))
        if tasks:
            matrices = {m: rate_matrix(group, name, tasks, m) for m, group in groups.items()}
            for method, found in compare_rates(matrices, baseline).items():
                rows[method][name] = found
    for method, group in groups.items():
        rows[method]["length"] = float(np.mean([run.length for run in group]))
        rows[method]["seconds"] = float(np.mean([run.seconds for run in group]))
        accuracies = [run.accuracy for run in group if run.accuracy is not None]
        if accuracies:
            rows[method]["accuracy"] = float(np.mean(accuracies))
        if method in drift:
            rows[method]["chosen_drift"], rows[method]["rejected_drift"] = drift[method]
    return rows


def tuned_settings(report: Path) -> str:
    """What tuning chose, in short: `lr=0.0003, beta=0.3`; empty for a method that was not tuned."""
    if not report.exists():
        return ""
    found = json.loads(report.read_text())
    first = found["trials"][0]["overrides"]
    tuned = found["chosen"][len(first) - 1 :]  # what makes it the method comes before the learning rate
    return ", ".join(re.sub(r"^.*\.(?=\w+=)", "", override) for override in tuned)


def markdown(rows: dict[str, dict], baseline: str) -> str:
    """The table, best sampled pass@1 first."""

    def rank(method: str) -> float:
        found = rows[method].get("sampled") or rows[method].get("greedy")
        return -found["pass_at_1"].mean

    def cell(method: str, name: str, key: str, sign: str = "") -> str:
        found = rows[method].get(name, {}).get(key)
        return found.text(sign) if found else ""

    def number(method: str, key: str, form: str) -> str:
        return f"{rows[method][key]:{form}}" if key in rows[method] else ""

    heads = (
        "method", "seeds", "pass@1 sampled", f"minus {baseline}", "pass@1 greedy", f"minus {baseline}",
        "accuracy", "chosen drift", "rejected drift", "length", "seconds", "settings",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for method in sorted(rows, key=rank):
        cells = [
            method,
            str(rows[method]["seeds"]),
            *(
                cell(method, name, key, sign)
                for name in ("sampled", "greedy")
                for key, sign in (("pass_at_1", ""), ("difference", "+"))
            ),
            number(method, "accuracy", ".2f"),
            number(method, "chosen_drift", "+.2f"),
            number(method, "rejected_drift", "+.2f"),
            number(method, "length", ".1f"),
            number(method, "seconds", ".0f"),
            rows[method].get("settings", ""),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def read_base(home: Path, split: str, decode: str) -> Run | None:
    """The untrained policy's results, where there are some."""
    folder = home / "base" / f"base-{split}-{decode}"
    if not (folder / "summary.json").exists():
        return None
    rates = pass_rates(folder / "results.jsonl")
    return Run(folder, rates, mean_length(folder / "completions.jsonl"), 0.0, None)


@program
def main(cfg: Config) -> None:
    """Read every finished run, compare, print, write."""
    wanted = settings(cfg, CompareSettings)
    home = Path("out", wanted.folder)
    only = None if wanted.only is None else {*wanted.only, wanted.baseline}
    runs = read_runs(home, wanted.split, wanted.decode, only)
    if wanted.baseline not in runs:
        raise ValueError(f"no run of the baseline {wanted.baseline!r} in {home}; there are {', '.join(runs)}")
    drift = drifts(cfg, runs) if wanted.drift else {}
    base = read_base(home, wanted.split, wanted.decode)
    rows = summarise(runs, base, wanted.baseline, drift)
    for method in runs:
        rows[method]["settings"] = tuned_settings(home / "tune" / f"{method}.json")
    table = markdown(rows, wanted.baseline)
    print(table)
    output = Path(wanted.output or home / f"table-{wanted.split}.md")
    write_text(output, table)
    write_json(output.with_suffix(".json"), rows)
    print(f"written    {output}, {output.stem}.json")


if __name__ == "__main__":
    main()
