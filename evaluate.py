"""Score a checkpoint, or a file of anyone's samples: completions -> verdicts -> pass@k with intervals.

    python evaluate.py +exp=quickstart                         # the shipped base policy
    python evaluate.py +exp=quickstart run.checkpoint=dpo      # and the paired comparison with base
    python evaluate.py samples=FILE benchmark=humaneval        # no model: task_id and completion or solution
    python evaluate.py samples=FILE benchmark=mbpp_plus compare=OTHER/results.jsonl
    python evaluate.py samples=canonical benchmark=mbpp run.split=all      # checks the set-up: all must pass

Samples first when the completions are not there yet (sample.py) and goes on where it was interrupted; equal
programs are judged once, and verdicts whose program, tests, limits and judge have not changed are reused.
Beside completions.jsonl it writes results.jsonl (a row per sample), problems.jsonl (a row per problem),
summary.json, and samples-*.jsonl for EvalPlus and other tools.
"""

import dataclasses
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path

from omegaconf import OmegaConf

from conf.program import checkpoint_folder, program, samples_folder
from conf.schema import Config
from data.evalplus import with_tests
from data.execution import SandboxConfig, VerdictCache, judge, sandbox_report, zygote_for
from data.json_files import noted, read_json
from data.jsonl import (
    digest,
    iterate_jsonl,
    only_writer,
    read_jsonl,
    write_json,
    write_jsonl,
    write_provenance,
)
from data.judging import Answer, judge_answers, prepare
from data.problems import CACHE, load_problems
from data.protocols import Protocol, choose_protocol
from data.samples import Sample, read_samples, sampler_of, write_samples
from data.score_table import score_table
from data.statistics import comparable, compare, decoding, per_problem, summarise, unlike
from data.tokenizer import load_tokenizer
from data.types import Problem
from model.checkpoint import weights_digest
from sample import sample_completions

CONFIG = ("run", "data", "decode", "sandbox")  # what results depend on


def score_file(cfg: Config) -> dict:
    """`samples=FILE`: somebody's file against a benchmark, without a model.

    `samples=canonical` scores the reference solutions instead: all of them must pass.
    """
    problems = problems_of(cfg)
    if cfg.samples == "canonical":
        lacking = [problem.task_id for problem in problems if not problem.canonical_solution]
        if lacking:
            raise ValueError(
                f"{len(lacking)} of {len(problems)} problems have no canonical_solution ({lacking[0]}); add "
                "them, or give a file as samples"
            )
        samples = [Sample(p.task_id, 0, p.canonical_solution, temperature=0.0) for p in problems]
        facts = {"samples": "canonical", "missing": []}
    else:
        path = Path(cfg.samples).absolute()
        where = f"{source_of(cfg)}, split {cfg.run.split} (run.split=all: every one)"
        samples, missing = read_samples(path, problems, allow_missing=cfg.allow_missing, source=where)
        facts = {
            "samples": str(path),
            "samples_digest": digest(*map(dataclasses.astuple, samples)),
            "sampler": sampler_of(path),
            "missing": missing,
        }
        if missing:
            print(f"missing    {len(missing)} of {len(problems)} problems; the score leaves them out")
    protocol = choose_protocol(cfg.protocol or "plain", source_of(cfg))
    folder = folder_of_file(cfg, facts["samples"])
    with only_writer(folder / "results.jsonl"):
        return score(cfg, folder, problems, samples, protocol, facts)


def folder_of_file(cfg: Config, samples: str) -> Path:
    """Where the results of a file go: named by file, problems, split (but test) and protocol (if given).

    Another file of that name, or other problems, get a folder with a number.
    """
    file = Path(cfg.samples).name.removesuffix(".gz").removesuffix(".jsonl")
    split = None if cfg.run.split == "test" else cfg.run.split
    name = "-".join(part for part in (file, Path(source_of(cfg)).stem, split, cfg.protocol) if part)
    for number in count(1):
        folder = Path(cfg.run.dir, name if number == 1 else f"{name}.{number}")
        found = read_json(folder / "summary.json")
        made_of = found.get("samples"), found.get("problems", {}).get("source")
        if not found or made_of == (samples, source_of(cfg)):
            return folder


def score_checkpoint(cfg: Config) -> dict:
    """Sample what is not sampled yet, then score it."""
    folder = samples_folder(cfg)
    if cfg.compare:
        results_to_compare(cfg, folder)  # its errors before the long part
    problems = problems_of(cfg)
    start = time.perf_counter()
    sample_completions(cfg)
    seconds = {"sampling": longest(time.perf_counter() - start, folder / "completions.jsonl")}
    samples, missing = read_samples(folder / "completions.jsonl", problems, allow_missing=cfg.allow_missing)
    checkpoint = checkpoint_folder(cfg, cfg.run.checkpoint)
    protocol = choose_protocol(cfg.protocol, source_of(cfg), has_chat_template(checkpoint))
    sampler = sampler_of(folder / "completions.jsonl")
    facts = {"checkpoint": str(checkpoint), "sampler": sampler, "missing": missing, "seconds": seconds}
    with only_writer(folder / "results.jsonl"):
        return score(cfg, folder, problems, samples, protocol, facts)


def has_chat_template(checkpoint: Path) -> bool:
    return load_tokenizer(checkpoint).chat_template is not None


def source_of(cfg: Config) -> str:
    return cfg.benchmark or cfg.data.problems


def problems_of(cfg: Config) -> list[Problem]:
    """The problems of `benchmark`, else of `data.problems`, with their tests."""
    number = getattr(cfg.data, cfg.run.split, None)
    problems = load_problems(source_of(cfg), cfg.run.split, count=number, seed=cfg.data.seed)
    return with_tests(problems, CACHE)


def score(
    cfg: Config,
    folder: Path,
    problems: list[Problem],
    samples: list[Sample],
    protocol: Protocol,
    facts: dict,
) -> dict:
    """Judge, summarise, compare, print and write. Returns what summary.json holds."""
    sandbox: SandboxConfig = OmegaConf.to_object(cfg.sandbox)
    facts |= {
        "problems": {"source": source_of(cfg), "split": cfg.run.split, "digest": problems_digest(problems)},
        "protocol": dataclasses.asdict(protocol) | {"digest": protocol.digest},
        "sandbox": dataclasses.asdict(sandbox),
    }
    before = read_json(folder / "summary.json")
    for note in unlike(before, facts) if before else ():
        print(f"replaces   {folder}/summary.json: {note}")
    other = other_results(cfg, folder, samples, facts)
    start = time.perf_counter()
    limits = {name: value for name, value in dataclasses.asdict(sandbox).items() if name != "workers"}
    answers = prepare(samples, problems, protocol, limits, sandbox.seconds)
    report = sandbox_report(sandbox, [job.timeout for answer in answers for job in answer.jobs.values()])
    print(report)
    cache = VerdictCache(cfg.run.verdicts) if cfg.run.verdicts else None
    results, keys = folder / "results.jsonl", digest([answer.key for answer in answers])
    part = results.with_name(results.name + ".partial")
    start -= seconds_of_part(part, keys)
    try:
        rows = judge_answers(answers, partial(judge, config=sandbox, cache=cache), results)
    except KeyboardInterrupt:
        write_provenance(part, identity=keys, counts={"seconds": round(time.perf_counter() - start, 2)})
        raise
    summary = facts | summarise(rows)
    if "base" in rows[0]:  # EvalPlus: the verdicts on the original tests alone
        summary["base"] = summarise([row | {"verdict": row["base"]} for row in rows])
    summary |= {
        "extraction_failed": sum(not row["extracted"] for row in rows),
        "sandbox": facts["sandbox"] | {"report": report},
        "seconds": facts.get("seconds", {}) | {"judging": longest(time.perf_counter() - start, results)},
    }
    if other is not None and comparable(other[1], rows):  # not where the judge failed on all
        summary["difference"] = other[0] | compare(other[1], rows)
    write_sample_files(folder, answers)
    write_jsonl(folder / "problems.jsonl", per_problem(rows))
    write_provenance(
        results,
        config={name: OmegaConf.to_container(cfg[name], resolve=True) for name in CONFIG},
        protocol=protocol.digest,
        counts=summary["verdicts"] | {"seconds": summary["seconds"]["judging"]},
    )
    part.with_name(part.name + ".meta.json").unlink(missing_ok=True)
    write_json(folder / "summary.json", summary)
    print(score_table(summary))
    print(f"written    {folder}/summary.json, results.jsonl, problems.jsonl, samples-*.jsonl")
    return summary


def longest(seconds: float, path: Path) -> float:
    """`seconds`, or what the file at `path` took when it was made: finding it again costs nothing."""
    made = noted(path).get("counts", {}).get("seconds", 0.0)
    return round(max(seconds, made), 2)


def seconds_of_part(part: Path, keys: str) -> float:
    """What was noted when judging the same answers was interrupted; `part` holds the verdicts till then."""
    note = noted(part) if part.exists() else {}
    return note["counts"]["seconds"] if note.get("identity") == keys else 0.0


def problems_digest(problems: list[Problem]) -> str:
    return digest([(p.task_id, p.prompt, p.test, p.entry_point) for p in problems])


def write_sample_files(folder: Path, answers: list[Answer]) -> None:
    """samples-greedy.jsonl and the like: whole programs, as other tools read them."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for answer in answers:
        name = decoding({"temperature": answer.sample.temperature})
        groups.setdefault(name, []).append((answer.sample.task_id, answer.source))
    for name, programs in groups.items():
        write_samples(folder / f"samples-{name}.jsonl", programs)


def other_results(
    cfg: Config, folder: Path, samples: list[Sample], facts: dict
) -> tuple[dict, list[dict]] | None:
    """(what to say of them, rows) of the results to compare with, read before ours may take their place.

    Those that share nothing with ours are an error where `compare` names them.
    """
    path = results_to_compare(cfg, folder)
    if path is None:
        return None
    rows = rows_with_verdicts(path)
    ours = [{"task_id": s.task_id, "temperature": s.temperature, "verdict": None} for s in samples]
    if not comparable(rows, ours):
        if cfg.compare:
            raise ValueError(
                f"{path} shares no problem under the same decoding with what is scored here; evaluate both "
                "on the same split with the same decode group, or leave compare out"
            )
        print(f"compare    with nothing: {path} shares no problem under the same decoding with this")
        return None
    summary = read_json(path.with_name("summary.json"))
    if not summary:
        return {"against": str(path), "notes": []}, rows
    summary = {"sampler": sampler_of(path.with_name("completions.jsonl"))} | summary
    notes, name = unlike(summary, facts), cfg.compare or "base"
    if not cfg.samples and path in results_of(cfg, name):
        weights, found = weights_now(cfg, name, path), summary["sampler"].get("weights")
        if found and weights and found != weights:
            notes.append(f"sampled from other weights than {checkpoint_folder(cfg, name)} has now")
    return {"against": str(path), "notes": notes}, rows


def weights_now(cfg: Config, checkpoint: str, results: Path) -> str | None:
    """The digest of a checkpoint's weights; None where they are gone, as those of a sweep may be, or where
    nothing in their folder has changed since its results were sampled: reading a large model takes a minute.
    """
    try:
        folder = checkpoint_folder(cfg, checkpoint)
        changed = max(file.stat().st_ctime for file in (folder, *folder.iterdir()))
        same = read_json(results.with_name("summary.json")).get("checkpoint") == str(folder)
        if same and changed < results.with_name("completions.jsonl").stat().st_mtime:
            return None
        return weights_digest(folder)
    except (OSError, ValueError):
        return None


def rows_with_verdicts(path: Path) -> list[dict]:
    """The rows of a results file, checked for what a comparison reads."""
    for number, row in iterate_jsonl(path):
        if not {"task_id", "verdict"} <= row.keys():
            raise ValueError(
                f"{path}, line {number}: no task_id or no verdict; give a results.jsonl as compare"
            )
    return read_jsonl(path)


def results_to_compare(cfg: Config, folder: Path) -> Path | None:
    """The results to compare with: `compare` (file, folder or checkpoint), else those of base if there."""
    if cfg.compare:
        places = [Path(cfg.compare), Path(cfg.compare, "results.jsonl")]
        if not cfg.samples:
            places = list(dict.fromkeys([*places, *results_of(cfg, cfg.compare)]))
        found = next((path for path in places if path.is_file()), None)
        if found is None:
            wanted = "give a results.jsonl or its folder as compare"
            if not cfg.samples:
                wanted += f", or score that checkpoint first: run.checkpoint={cfg.compare} without compare"
            raise FileNotFoundError(
                f"nothing to compare with: none of {', '.join(map(str, places))} is a file; {wanted}"
            )
        if found.resolve() == (folder / "results.jsonl").resolve():
            raise ValueError(
                f"{found} is where this evaluation writes its own results; compare with another one"
            )
        return found
    if cfg.samples:
        return None
    places = results_of(cfg, "base")
    found = next((path for path in places if path.is_file() and path.parent != folder), None)
    if found is None and folder not in (path.parent for path in places):
        print(f"compare    with nothing: no {places[-1]}; leave run.checkpoint out to score base")
    return found


def results_of(cfg: Config, checkpoint: str) -> list[Path]:
    """Where a checkpoint's results may lie: in this run's folder or, for a sweep, beside it."""
    own = samples_folder(cfg, checkpoint)
    return [own / "results.jsonl", Path(cfg.run.home, own.name, "results.jsonl")]


def run(cfg: Config) -> None:
    """Score, and fail when the judge did."""
    zygote_for(OmegaConf.to_object(cfg.sandbox))  # what it lacks is told before the long part
    try:
        summary = score_file(cfg) if cfg.samples else score_checkpoint(cfg)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the verdicts that are there")
        sys.exit(130)
    left = summary["verdicts"].get("internal_error", 0)
    if left:
        raise ValueError(
            f"{left} samples could not be judged, twice (internal_error in results.jsonl); "
            "the score leaves them out: run the same command again"
        )


main = program(run)

if __name__ == "__main__":
    main()
