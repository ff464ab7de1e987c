"""problems + completions + results -> pairs.jsonl, and a table of what was kept and dropped.

    python -m data.collect +exp=quickstart run.split=train decode=sample
    python -m data.collect +exp=quickstart run.split=train decode=sample pairing.prefer=frequent

A join of the files that `python evaluate.py` wrote with the same arguments, then the rules of
data/pairing.py. Needs no model; the programs of the pairs are run once more (pairing.rerun), and problems
whose tests are broken, too weak or too few are left out (pairing.check_problems, pairing.min_tests). Beside
the pairs, pairs.jsonl.meta.json holds the counts and the report on the dataset.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf

from conf.program import program, samples_folder
from conf.schema import Config
from data.decontaminate import Hit, benchmark_index, problem_hits
from data.evalplus import with_tests
from data.execution import judge, judge_identity
from data.json_files import noted, read_json
from data.jsonl import (
    as_record,
    digest,
    file_digest,
    iterate_jsonl,
    only_writer,
    write_jsonl,
    write_provenance,
)
from data.judging import Answer, Judge, judge_jobs, prepare
from data.pair_report import dataset_report, table
from data.pairing import (
    Candidate,
    Check,
    Judged,
    PairingConfig,
    Rerun,
    check_config,
    preference_pair,
    select_pairs,
)
from data.problem_check import faulty_problems, has_few_tests
from data.problems import CACHE, load_problems
from data.protocols import Protocol, choose_protocol
from data.samples import Sample, answer_text, numbered_rows, sampler_of
from data.types import Completion, ExecutionResult, PreferencePair, Problem, Verdict

DIGESTS = {"checkpoint": "weights", "tokenizer": "tokenizer"}  # in a pair's meta: in the sampler's identity


@dataclass(frozen=True)
class Collection:
    """The pairs in order of task id, and what there is to say about them: kept, problems, dropped, ..."""

    pairs: list[PreferencePair]
    report: dict


def read_completions(
    path: Path | str, problems: Iterable[Problem] | None = None, source: str = ""
) -> list[Completion]:
    """completions.jsonl of any sampler, numbered as evaluate.py does; `ids` may be missing, in all rows.

    With `problems`, which messages call `source`, every row must answer one of them.
    """
    known = None if problems is None else {problem.task_id: None for problem in problems}
    completions = []
    for where, task_id, sample, row in numbered_rows(path, known, source):
        if "solution" in row:
            raise ValueError(
                f"{where}: solution is a whole program, and a pair needs what goes on from its prompt; "
                "give that as completion or text"
            )
        text, _ = answer_text(row, where)
        row |= {"task_id": task_id, "sample": sample, "text": text}
        completion = as_record(Completion, row, where)
        if text and completion.prompt_ids and not completion.ids:
            raise ValueError(
                f"{where}: prompt_ids without ids; text alone would be trained on as an answer to the "
                "problem's own prompt: add ids, or leave prompt_ids out if that is what was asked"
            )
        completions.append(completion)
    if not completions:
        raise ValueError(
            f"{path} holds no completions; sample first: python sample.py with the same experiment"
        )
    if len({bool(completion.ids) for completion in completions if not is_empty(completion)}) > 1:
        raise ValueError(f"{path}: some completions have ids and some have none; lengths would not compare")
    return completions


def text_notes(problems: Iterable[Problem], completions: Iterable[Completion]) -> list[str]:
    """What to say of answers without the ids of what was asked, as other samplers write them."""
    prompts = {problem.task_id: problem.prompt for problem in problems}
    text = [c for c in completions if not c.prompt_ids]
    repeats = sum(c.text.startswith(prompts[c.task_id]) for c in text if prompts[c.task_id])
    notes = []
    if text:
        notes.append(
            f"{len(text)} completions have no prompt_ids: as prompt their pairs get the problem's, without a "
            "chat template; add prompt_ids and ids where the sampler asked in another way"
        )
    if repeats:
        notes.append(f"{repeats} completions repeat the problem's prompt, so their pairs hold it twice")
    return notes


def is_empty(completion: Completion) -> bool:
    """Whether a stop string left nothing of an answer, not even an end token: nothing to train on."""
    return not (completion.text or completion.ids)


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
        for name, kind in (("task_id", str), ("sample", int), ("verdict", str)):
            check_type(row[name], kind, name, where)
        if row["verdict"] not in {verdict.value for verdict in Verdict}:
            known = ", ".join(verdict.value for verdict in Verdict)
            raise ValueError(f"{where}: verdict {row['verdict']!r} is none of {known}")
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
    """Task id -> its samples with their verdicts, less empty ones.

    A sample without a verdict, or the reverse, is an error.
    """
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
    return {task_id: [row for row in rows if not is_empty(row[0])] for task_id, rows in judged.items()}


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
    check: Check | None = None,
    benchmarks: dict[str, list[Problem]] | None = None,
    provenance: dict | None = None,
) -> Collection:
    """Records -> pairs and report: a function of its arguments, whatever the order of the records.

    `source` gives a sample's whole program, `rerun` judges programs again, `check` finds faulty problems,
    those that repeat one of `benchmarks` or have few tests are left out, `provenance` (checkpoint and
    tokenizer digests) goes into every pair's meta.
    """
    judged = join(problems, completions, results)
    empty = {(completion.task_id, completion.sample) for completion in completions if is_empty(completion)}
    by_id = {problem.task_id: problem for problem in problems}
    hits: list[Hit] = []
    if benchmarks:
        sampled = [problem for problem in problems if problem.task_id in judged]
        hits = problem_hits(sampled, benchmark_index(benchmarks, config.ngram))
    contaminated = {hit.task_id for hit in hits}
    clean = {task_id: rows for task_id, rows in judged.items() if task_id not in contaminated}
    weak = {task_id for task_id, rows in clean.items() if is_weak(by_id[task_id], rows, config.min_tests)}
    clean = {task_id: rows for task_id, rows in clean.items() if task_id not in weak}
    passed = {(result.task_id, result.sample) for result in results if result.verdict == Verdict.PASSED}
    unmasked = {task_id for task_id, _ in empty & passed} & clean.keys()
    clean = {task_id: rows for task_id, rows in clean.items() if task_id not in unmasked}
    selection = select_pairs(clean, by_id, config, seed=seed, source=source, rerun=rerun, check=check)
    if empty:
        selection.dropped["samples: nothing left before a stop string"] = len(empty)
    if unmasked:
        selection.dropped["problems: a trivial program passes its tests"] += len(unmasked)
    if contaminated:
        selection.dropped["problems: repeat a benchmark"] = len(contaminated)
    if weak:
        selection.dropped[f"problems: fewer than {config.min_tests} tests"] = len(weak)
    report = dataset_report(judged, selection, hits)
    report["decontaminated_against"] = {name: len(found) for name, found in (benchmarks or {}).items()}
    pairs = [preference_pair(pairing, provenance or {}) for pairing in selection.pairings]
    return Collection(pairs, report)


def is_weak(problem: Problem, rows: list[Judged], least: int) -> bool:
    """Whether a problem has fewer tests than a verdict needs to be trusted (pairing.min_tests)."""
    return has_few_tests(problem, max((result.tests_total for _, result in rows), default=0), least)


def write_pairs(path: Path | str, collection: Collection, **facts: object) -> None:
    """pairs.jsonl and, after it, pairs.jsonl.meta.json; an empty collection is an error that says why."""
    if not collection.pairs:
        reasons = "; ".join(f"{number} {reason}" for reason, number in collection.report["dropped"].items())
        raise ValueError(f"no pairs to write to {path} ({reasons}); sample more per problem or relax pairing")
    write_jsonl(path, collection.pairs)
    write_provenance(path, **collection.report, **facts)


# From here on: the program.


def inputs(cfg: Config, config: PairingConfig) -> tuple[Path, Path]:
    """completions.jsonl and results.jsonl, both there."""
    if config.completions is None and cfg.run.split == "test":
        raise ValueError(
            "run.split is test, whose problems score the policy; collect from others: run.split=train, "
            "with which evaluate.py has to be run first"
        )
    run = "run first: python evaluate.py, same arguments"
    score = (
        f"score the completions first: python evaluate.py samples={config.completions}, same data.problems, "
        "run.split and run.name, and give the results.jsonl that it names as pairing.results"
    )
    completions = Path(config.completions or samples_folder(cfg) / "completions.jsonl")
    results = Path(config.results or completions.with_name("results.jsonl"))
    for path, how in ((completions, run), (results, score if config.completions else run)):
        if not path.is_file():
            found = "is a folder, a file expected" if path.exists() else "does not exist"
            raise FileNotFoundError(f"{path} {found}; {how}")
    return completions, results


def protocol_of(cfg: Config, results: Path) -> Protocol:
    """How the answers became programs: as summary.json beside the results says, else the usual way."""
    stored = read_json(results.with_name("summary.json")).get("protocol")
    if stored is None:
        return choose_protocol(cfg.protocol, cfg.benchmark or cfg.data.problems)
    fields = {field.name for field in dataclasses.fields(Protocol)}
    return Protocol(**{k: tuple(v) if k == "stops" else v for k, v in stored.items() if k in fields})


def check_keys(results: Path, answers: dict[tuple[str, int], Answer]) -> None:
    """Verdicts must be those of judge, programs, tests and limits at hand; evaluate.py notes their digest."""
    for number, row in iterate_jsonl(results):
        answer = answers.get((row.get("task_id"), row.get("sample")))
        if answer is not None and row.get("key", answer.key) != answer.key:
            raise ValueError(
                f"{results}, line {number}: judged with another program, test, limit, judge, Python or NumPy "
                f"than {row['task_id']} sample {row['sample']} has now; run python evaluate.py again, "
                "same arguments"
            )


def judge_again(answers: dict[tuple[str, int], Answer], judge: Judge) -> Rerun:
    """A function for `select_pairs` that runs chosen programs once more; EvalPlus's both test sets count."""

    def rerun(jobs: list[tuple[Problem, Candidate]]) -> list[Verdict]:
        names = [(problem.task_id, candidate.completion.sample) for problem, candidate in jobs]
        rows = dict(judge_jobs({name: answers[name].jobs for name in names}, judge))
        return [Verdict(rows[name]["verdict"]) for name in names]

    return rerun


def content_digest(source: str) -> str | None:
    """Of a problem file; what a benchmark's name stands for does not change."""
    return file_digest(source) if Path(source).is_file() else None


def finished_report(out: Path, wanted: str) -> dict | None:
    """The report beside `out` if it was made from the same inputs and settings."""
    report = noted(out) if out.exists() else {}
    return report if report.get("inputs_digest") == wanted else None


@program
def main(cfg: Config) -> None:
    config: PairingConfig = OmegaConf.to_object(cfg.pairing)
    check_config(config)
    files, out = inputs(cfg, config), Path(cfg.run.dir, "pairs.jsonl")
    with only_writer(out):
        collect(cfg, config, *files, out)


def collect(
    cfg: Config, config: PairingConfig, completions_path: Path, results_path: Path, out: Path
) -> None:
    """Find the pairs made from these files with these settings, or make them."""
    protocol = protocol_of(cfg, results_path)
    sandbox = OmegaConf.to_object(cfg.sandbox)
    limits = {name: value for name, value in dataclasses.asdict(sandbox).items() if name != "workers"}
    source = cfg.benchmark or cfg.data.problems
    count = None if cfg.benchmark not in (None, "toy") else getattr(cfg.data, cfg.run.split, None)
    asked = {"split": cfg.run.split, "count": count, "seed": cfg.data.seed}
    settings = {
        "pairing": dataclasses.asdict(config),
        "sources": {name: content_digest(name) for name in (source, *config.benchmarks)} | asked,
        "judge": judge_identity(),
        "seed": cfg.run.seed,
        "protocol": dataclasses.asdict(protocol),
        "sandbox": limits,
        "completions": {"path": str(completions_path), "digest": file_digest(completions_path)},
        "results": {"path": str(results_path), "digest": file_digest(results_path)},
    }
    inputs_digest = digest(settings)
    report = finished_report(out, inputs_digest)
    if report is not None:
        print(f"found      {out}: collected from the same files with the same settings\n{table(report)}")
        return

    problems = with_tests(load_problems(source, cfg.run.split, count=count, seed=cfg.data.seed), CACHE)
    drawn_for = (
        f"{source}, split {cfg.run.split}; give data.problems, data.seed and run.split as for sampling"
    )
    completions = read_completions(completions_path, problems, drawn_for)
    for note in text_notes(problems, completions):
        print(f"note       {note}")
    results = read_results(results_path)
    join(problems, completions, results)  # its errors before those of what follows
    samples = [Sample(c.task_id, c.sample, c.text, temperature=c.temperature) for c in completions]
    prepared = prepare(samples, problems, protocol, limits, sandbox.seconds)
    answers = {(answer.sample.task_id, answer.sample.sample): answer for answer in prepared}
    check_keys(results_path, answers)
    sampler = sampler_of(completions_path)
    run = partial(judge, config=sandbox)
    collection = collect_pairs(
        problems,
        completions,
        results,
        config,
        seed=cfg.run.seed,
        source=lambda problem, completion: answers[problem.task_id, completion.sample].source,
        rerun=judge_again(answers, run) if config.rerun else None,
        check=partial(faulty_problems, judge=run, limits=limits, seconds=protocol.seconds or sandbox.seconds)
        if config.check_problems
        else None,
        benchmarks={name: load_problems(name) for name in config.benchmarks},
        provenance={name: sampler[key] for name, key in DIGESTS.items() if key in sampler},
    )
    print(table(collection.report))
    write_pairs(out, collection, sampler=sampler, **settings, inputs_digest=inputs_digest)
    print(f"written    {out}, {out.name}.meta.json")


if __name__ == "__main__":
    main()
