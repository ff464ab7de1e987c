"""Before and after in one table: a pure join over the files that a finished line left behind.

python -m data.summary +exp=quickstart        # writes out/quickstart/summary.json
"""

import json
from pathlib import Path

from conf.program import program
from conf.schema import Config
from data.jsonl import read_jsonl, write_json
from data.statistics import compare, decoding, summarise

SCORE = ("pass_at_1", "ci_low", "ci_high", "n_problems", "n_samples")
DIFFERENCE = ("mean", "ci_low", "ci_high", "p_value", "fixed", "broken")


def read_json(path: Path) -> dict:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; run the stage that writes it (see quickstart.sh)")
    return json.loads(path.read_text())


def join_line(collected: Path, before: Path, after: Path, pairs: Path, trained: Path) -> dict:
    """The summary of a line. The first three are evaluate.py's folders; then pairs.jsonl and the policy."""
    rows = {name: read_jsonl(folder / "results.jsonl") for name, folder in (("base", before), ("dpo", after))}
    report, training = (read_json(path.with_name(path.name + ".meta.json")) for path in (pairs, trained))
    seconds = {
        f"{stage}: {name}": value
        for stage, folder in (("collect", collected), ("base", before), ("dpo", after))
        for name, value in read_json(folder / "summary.json")["seconds"].items()
    } | {"training": round(training["seconds"], 2)}
    difference = compare(rows["base"], rows["dpo"])
    return {
        **{name: score(rows[name]) for name in rows},
        "difference": {name: pick(found, DIFFERENCE) for name, found in difference.items()},
        "pairs": pick(report, ("kept", "problems", "dropped")),
        "seconds": seconds | {"total": round(sum(seconds.values()), 2)},
    }


def score(rows: list[dict]) -> dict:
    """pass@1 per decoding, and the verdict kinds of each."""
    found = summarise(rows)
    scores = {name: pick(found[name], SCORE) for name in ("greedy", "sampled") if name in found}
    kinds = {name: summarise([row for row in rows if decoding(row) == name])["verdicts"] for name in scores}
    return scores | {"verdicts": kinds}


def pick(values: dict, names: tuple[str, ...]) -> dict:
    return {name: values[name] for name in names}


def table(summary: dict) -> str:
    """The summary for people."""
    rows = [f"{'pass@1 on held-out problems':34}{'before':>22}{'after':>22}{'difference':>24}{'p':>9}"]
    for name, found in summary["difference"].items():
        before, after = (f"{cell(summary[side][name], 'pass_at_1'):>22}" for side in ("base", "dpo"))
        size = "{n_problems} problems x {n_samples}".format(**summary["dpo"][name])
        rows.append(
            f"{f'{name}, {size}':34}{before}{after}{cell(found, 'mean', sign='+'):>24}{found['p_value']:9.1g}"
        )
    for name, found in summary["difference"].items():
        rows.append(f"{name + ': problems':34}{found['fixed']} fixed, {found['broken']} broken")
    for side, title in (("base", "before"), ("dpo", "after")):
        for name, kinds in summary[side]["verdicts"].items():
            listed = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
            rows.append(f"{f'verdicts {title}, {name}':34}{listed}")
    pairs = summary["pairs"]
    rows.append(f"{'pairs':34}{pairs['kept']} from {pairs['problems']} problems")
    rows += [f"{'  dropped':34}{count} {reason}" for reason, count in pairs["dropped"].items()]
    rows += [
        f"{'seconds' if i == 0 else '':34}{n:7.1f} {name}"
        for i, (name, n) in enumerate(summary["seconds"].items())
    ]
    return "\n".join(rows)


def cell(found: dict, name: str, sign: str = "") -> str:
    return f"{found[name]:{sign}.3f} [{found['ci_low']:{sign}.3f}, {found['ci_high']:{sign}.3f}]"


@program
def main(cfg: Config) -> None:
    """Join what the line left in the run's folder."""
    home = Path(cfg.run.dir)
    before, after = (home / f"{name}-test-evaluation" for name in ("base", "dpo"))
    summary = join_line(home / "base-train-sample", before, after, Path(cfg.data.pairs), home / "dpo")
    write_json(home / "summary.json", summary)
    print(table(summary))
    print(f"written    {home}/summary.json")


if __name__ == "__main__":
    main()
