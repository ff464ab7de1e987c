"""Judged samples as labels without partners, for KTO (Ethayarajh et al. 2024, arXiv:2402.01306).

    python -m variants.unpaired +exp=kto_unpaired          # writes data.pairs and data.weights
    python -m variants.train_measured +exp=kto_unpaired

A pair needs a passing and a failing answer to one problem; KTO needs only labels, so it also learns from
problems that every sample passed or that none did. Each distinct answer becomes one row: passing answers are
the chosen side, failing ones the rejected side, and the other side is an end token alone whose weight is 0.
Its log-ratio is then 0 under any policy: a constant in the loss, and no gradient (losses/kto.py).

A row counts half in the loss, as a side of a pair does; weights of 2 and 2 make it the paper's mean over
examples. The paper wants (desirable_weight * n_desirable) / (undesirable_weight * n_undesirable) between 1
and 4/3; the range that follows is printed. Other losses must not be given these rows: half of each is empty.
The metrics of variants.train_measured leave the empty sides out; train_dpo.py would average them in.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.collect import join, read_completions, read_results
from data.columns import write_columns
from data.jsonl import file_digest, write_jsonl, write_provenance
from data.pairing import Judged
from data.problems import load_problems
from data.reference_cache import Sides
from data.tokenizer import Tokenizer, load_tokenizer
from data.types import PreferencePair, Verdict
from variants.passing_samples import check_replaceable, samples_in
from variants.scoring import training_pairs
from variants.settings import settings

PROGRAM = "variants.unpaired"  # as the files it wrote name it
SIDES = ("chosen", "rejected")


@dataclass
class UnpairedSettings:
    samples: str  # folder with completions.jsonl and results.jsonl, below out or a path
    split: str  # of data.problems they answer
    per_problem: int | None  # distinct answers of a problem and label at most, most frequent first; null: all


def labelled(judged: dict[str, list[Judged]], per_problem: int | None) -> list[Judged]:
    """Each distinct finished answer once; what the judge itself failed on is no label."""
    kept = []
    for rows in judged.values():
        counts: dict[bool, Counter] = {True: Counter(), False: Counter()}
        first = {}
        for completion, result in rows:
            if completion.finished and result.verdict != Verdict.INTERNAL_ERROR:
                key = completion.text, *completion.ids
                counts[result.verdict == Verdict.PASSED][key] += 1
                first.setdefault(key, (completion, result))
        for side in counts.values():
            kept += [first[key] for key, _ in side.most_common(per_problem)]
    return kept


def one_sided(judged: Judged, prompt: str, tokenizer: Tokenizer) -> PreferencePair:
    """The answer on the side of its label; the other is empty, or a line end where the answer is empty too.

    So the sides differ, as those of a pair must. Sampled ids are kept.
    """
    completion, result = judged
    side, other = SIDES if result.verdict == Verdict.PASSED else SIDES[::-1]
    text = "" if completion.text else "\n"
    row = {side: completion.text, other: text, "meta": {"side": side, "tokenizer": tokenizer.digest}}
    if completion.ids:
        ids = tokenizer.completion_ids(text)
        row |= {"prompt_ids": completion.prompt_ids, f"{side}_ids": completion.ids, f"{other}_ids": ids}
    return PreferencePair(completion.task_id, prompt, **row)


def side_weights(pair: PreferencePair) -> Sides:
    """1 on the labelled side, 0 on the other."""
    return tuple(
        np.full(len(getattr(pair, f"{side}_ids")), float(pair.meta["side"] == side), np.float32)
        for side in SIDES
    )


@program
def main(cfg: Config) -> None:
    """Join completions with verdicts, write rows and their weights."""
    wanted = settings(cfg, UnpairedSettings)
    if not cfg.data.weights:
        raise ValueError("data.weights is not set: it names a file to write, beside data.pairs")
    path = Path(cfg.data.pairs)
    check_replaceable(path, PROGRAM, "data.pairs")
    folder = samples_in(wanted.samples)
    count = getattr(cfg.data, wanted.split, None)
    problems = load_problems(cfg.data.problems, wanted.split, count=count, seed=cfg.data.seed)
    prompts = {problem.task_id: problem.prompt for problem in problems}
    files = [folder / "completions.jsonl", folder / "results.jsonl"]
    kept = labelled(join(problems, read_completions(files[0]), read_results(files[1])), wanted.per_problem)
    if not kept:
        raise ValueError(f"{folder} holds no finished, judged answer")
    tokenizer = load_tokenizer(checkpoint_folder(cfg, cfg.run.init))
    write_jsonl(path, [one_sided(sample, prompts[sample[0].task_id], tokenizer) for sample in kept])
    digests = {file.name: file_digest(file) for file in files}
    write_provenance(path, program=PROGRAM, settings=asdict(wanted), inputs=digests, rows=len(kept))
    pairs = training_pairs(cfg, tokenizer)
    write_columns(cfg.data.weights, pairs, [side_weights(pair) for pair in pairs])
    write_provenance(cfg.data.weights, pairs=str(path))
    print(describe([pair.meta["side"] for pair in pairs]))
    print(f"written    {path}, {cfg.data.weights}")


def describe(sides: Sequence[str]) -> str:
    """How many labels of each kind, and which weights balance them."""
    chosen, rejected = (sides.count(side) for side in SIDES)
    line = f"labels     {chosen} desirable, {rejected} undesirable"
    if chosen and rejected:
        low = rejected / chosen
        line += f"; balanced with desirable_weight {low:.2f} to {low * 4 / 3:.2f} times undesirable_weight"
    return line


if __name__ == "__main__":
    main()
