"""Before and after in one table: a pure join over the files that a finished line left behind.

python -m data.summary +exp=quickstart        # writes out/quickstart/summary.json
"""

from pathlib import Path

from conf.program import program
from conf.schema import Config
from data.json_files import noted, read_json
from data.jsonl import digest, file_digest, read_jsonl, write_json
from data.pair_ids import SIDES
from data.samples import sampler_of
from data.statistics import compare, decoding, summarise, unlike

SCORE = ("pass_at_1", "ci_low", "ci_high", "n_problems", "n_samples")
DIFFERENCE = ("mean", "ci_low", "ci_high", "p_value", "fixed", "broken")
PAIRS = ("kept", "problems", "dropped")


def join_line(before: Path, after: Path, trained: Path) -> dict:
    """The summary of a line: from evaluate.py's folders of base and policy, the policy, and its pairs."""
    for path in (
        trained.with_name(trained.name + ".meta.json"),
        before / "summary.json",
        after / "summary.json",
    ):
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist; run the stage that writes it (see quickstart.sh)"
            )
    training = noted(trained)
    pairs = Path(training["pairs"])
    report = noted(pairs)
    folders = {"base": before, "dpo": after}
    if "results" in report:  # data.collect made them
        folders = {"collect": Path(report["results"]["path"]).parent} | folders
    told = {name: read_json(folder / "summary.json") for name, folder in folders.items()}
    seconds = {
        f"{stage}: {name}": value
        for stage, summary in told.items()
        for name, value in summary.get("seconds", {}).items()
    } | {"training": round(training["seconds"], 2)}
    rows = {name: read_jsonl(folders[name] / "results.jsonl") for name in ("base", "dpo")}
    difference = compare(rows["base"], rows["dpo"])
    unequal = [f"before: {note}" for note in unlike(told["base"], told["dpo"])]
    return {
        **{name: score(rows[name]) for name in rows},
        "difference": {name: pick(found, DIFFERENCE) for name, found in difference.items()},
        "pairs": {"file": str(pairs)} | (pick(report, PAIRS) if "kept" in report else {}),
        "seconds": seconds | {"total": round(sum(seconds.values()), 2)},
        "notes": unequal + doubts(folders, told["base"], training, report, trained),
    }


def doubts(folders: dict[str, Path], base: dict, training: dict, report: dict, trained: Path) -> list[str]:
    """What was made before, or from other things than, what it should follow from.

    training, report: what is noted of the policy at `trained` and of its pairs.
    """
    pairs, notes = Path(training["pairs"]), []
    follow = [(folder / "results.jsonl", folder / "completions.jsonl") for folder in folders.values()]
    for results, source in [*follow, (folders["dpo"] / "results.jsonl", trained)]:
        if noted(results).get("created", "9") < noted(source).get("created", ""):
            notes.append(f"{results} is older than {source}; run evaluate.py again")
    sampler = base.get("sampler", sampler_of(folders["base"] / "completions.jsonl"))
    if sampler.get("weights", training["objective"]["init"]) != training["objective"]["init"]:
        notes.append("before: other weights than those that training began with")
    source = report.get("completions", {})
    if source and Path(source["path"]).exists() and file_digest(source["path"]) != source["digest"]:
        notes.append(f"{pairs} was collected before {source['path']} was sampled; run data.collect again")
    if pairs.exists() and not are_of(training, read_jsonl(pairs), sampler.get("tokenizer")):
        notes.append(f"{pairs} has other pairs than {trained} was trained on; run train_dpo.py again")
    return notes


def are_of(training: dict, pairs: list[dict], tokenizer: str | None) -> bool:
    """Whether a run was trained on these pairs; also where nothing tells, as it left some out."""
    ids = [[row.get(f"{side}_ids") for side in SIDES] for row in pairs]
    own = {(row.get("meta") or {}).get("tokenizer") for row in pairs} == {tokenizer} and all(map(all, ids))
    return bool(training["dropped"]) or not own or digest(ids) == training["objective"]["pairs"]


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
    told = "{kept} from {problems} problems" if "kept" in pairs else "{file}, with no report of data.collect"
    rows.append(f"{'pairs':34}{told.format(**pairs)}")
    rows += [f"{'  dropped':34}{count} {reason}" for reason, count in pairs.get("dropped", {}).items()]
    rows += [
        f"{'seconds' if i == 0 else '':34}{n:7.1f} {name}"
        for i, (name, n) in enumerate(summary["seconds"].items())
    ]
    rows += [f"note: {note}" for note in summary["notes"]]
    return "\n".join(rows)


def cell(found: dict, name: str, sign: str = "") -> str:
    return f"{found[name]:{sign}.3f} [{found['ci_low']:{sign}.3f}, {found['ci_high']:{sign}.3f}]"


@program
def main(cfg: Config) -> None:
    """Join what the line left in the run's folder."""
    home = Path(cfg.run.dir)
    before, after = (home / f"{name}-test-evaluation" for name in ("base", "dpo"))
    summary = join_line(before, after, home / "dpo")
    write_json(home / "summary.json", summary)
    print(table(summary))
    print(f"written    {home}/summary.json")


if __name__ == "__main__":
    main()
