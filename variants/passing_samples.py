"""Rejection-sampling fine-tuning (RFT, arXiv:2308.01825): the policy's own passing answers as demonstrations.

    python -m variants.passing_samples +exp=rft            # writes data.demonstrations.path
    python train_sft.py +exp=rft

The main paper's baseline (arXiv:2410.18585): the samples of which DPO's pairs are made, less the failures.
Equal texts of a problem count once; unfinished answers are left out.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.collect import read_completions, read_results
from data.jsonl import file_digest, write_jsonl, write_provenance
from data.problems import load_problems
from data.tokenizer import Tokenizer, load_tokenizer
from data.types import Completion, ExecutionResult, Problem, Verdict
from variants.settings import settings

PROGRAM = "variants.passing_samples"  # as the files it wrote name it


@dataclass
class PassingSettings:
    samples: str  # folder with completions.jsonl and results.jsonl, below out or a path
    split: str  # of data.problems they answer
    per_problem: int | None  # distinct answers of a problem at most; null: all


def passing_samples(
    completions: Sequence[Completion], results: Sequence[ExecutionResult], per_problem: int | None
) -> dict[str, list[str]]:
    """Task id -> distinct passing texts, most often sampled first; among equals the first sampled."""
    passed = {(r.task_id, r.sample) for r in results if r.verdict == Verdict.PASSED}
    texts: dict[str, Counter[str]] = defaultdict(Counter)
    for completion in completions:
        if completion.finished and (completion.task_id, completion.sample) in passed:
            texts[completion.task_id][completion.text] += 1
    return {task: [text for text, _ in counts.most_common(per_problem)] for task, counts in texts.items()}


def demonstrations(
    answers: dict[str, list[str]], problems: Sequence[Problem], asked: dict[str, list[int]], own: Tokenizer
) -> list[dict]:
    """Rows for train_sft.py. `asked`: the prompt ids each task was sampled with; empty where not kept."""
    prompts, rows = {problem.task_id: problem.prompt for problem in problems}, []
    for task, texts in answers.items():
        if task not in prompts:
            raise ValueError(f"{task} is not in data.problems, variant.split")
        if asked.get(task) and asked[task] != own.prompt_ids(prompts[task]):
            raise ValueError(
                f"{task} was not sampled from its prompt's text (but a chat template's, or with another "
                "tokenizer), which train_sft.py cannot repeat"
            )
        rows += [{"task_id": task, "prompt": prompts[task], "completion": text} for text in texts]
    return rows


def samples_in(name: str) -> Path:
    """The folder called `name`, below out or as it is."""
    places = [Path("out", name), Path(name)]
    found = next((place for place in places if (place / "results.jsonl").exists()), None)
    if found is None:
        raise FileNotFoundError(
            f"no results.jsonl in {places[0]} or {places[1]}; sample and judge the training problems first: "
            "python evaluate.py +exp=quickstart run.split=train decode=sample"
        )
    return found


def check_replaceable(path: Path, made_by: str, option: str) -> None:
    """Refuse to write over a file that `made_by` did not write: elsewhere `option` names an input."""
    meta = path.with_name(f"{path.name}.meta.json")
    found = json.loads(meta.read_text()).get("program") if meta.exists() else None
    if path.exists() and found != made_by:
        raise ValueError(
            f"{path} exists, and {meta.name} beside it does not say that {made_by} wrote it; "
            f"give {option} another name to write to, or move the file"
        )


@program
def main(cfg: Config) -> None:
    """Join completions with verdicts, keep what passed, write."""
    wanted = settings(cfg, PassingSettings)
    if not cfg.data.demonstrations.path:
        raise ValueError("data.demonstrations.path is not set: it names the file to write")
    path = Path(cfg.data.demonstrations.path)
    check_replaceable(path, PROGRAM, "data.demonstrations.path")
    folder = samples_in(wanted.samples)
    completions, results = (
        read_completions(folder / "completions.jsonl"),
        read_results(folder / "results.jsonl"),
    )
    count = getattr(cfg.data, wanted.split, None)
    problems = load_problems(cfg.data.problems, wanted.split, count=count, seed=cfg.data.seed)
    answers = passing_samples(completions, results, wanted.per_problem)
    asked = {completion.task_id: completion.prompt_ids for completion in completions}
    rows = demonstrations(answers, problems, asked, load_tokenizer(checkpoint_folder(cfg, cfg.run.init)))
    if not rows:
        raise ValueError(f"{folder}: none of {len(completions)} answers passed")
    write_jsonl(path, rows)
    digests = {name: file_digest(folder / f"{name}.jsonl") for name in ("completions", "results")}
    counts = {"rows": len(rows), "problems": len(answers)}
    write_provenance(path, program=PROGRAM, settings=asdict(wanted), inputs=digests, **counts)
    passed = sum(result.verdict == Verdict.PASSED for result in results)
    print(f"passing    {passed} of {len(results)} answers; {len(rows)} distinct, of {len(answers)} problems")
    print(f"written    {path}")


if __name__ == "__main__":
    main()
