"""What TIS-DPO's contrastive models are trained on, from a pairs file (see token_weights.py).

    python -m variants.contrast_sets +exp=tis_dpo

Writes into out/<run.name>: swapped.jsonl, the pairs with chosen and rejected exchanged ("reverse DPO");
chosen.jsonl and rejected.jsonl, each side as demonstrations for train_sft.py; and shuffled.jsonl, every pair
swapped or not by a coin toss: a control from which nothing about right and wrong can be learnt.

Pairs whose prompts are conversations give no demonstrations, for train_sft.py reads prompts as text:
TIS-DPO(D) and (P) are for them, (S) is not.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.jsonl import write_jsonl, write_provenance
from data.tokenizer import Tokenizer, load_tokenizer
from data.types import PreferencePair
from variants.scoring import training_pairs

KEPT = ("checkpoint", "tokenizer")  # of a pair's meta: digests that stay true


def swapped(pair: PreferencePair) -> PreferencePair:
    """Chosen and rejected exchanged, text and ids."""
    return replace(
        pair,
        chosen=pair.rejected,
        rejected=pair.chosen,
        chosen_ids=pair.rejected_ids,
        rejected_ids=pair.chosen_ids,
        meta={name: pair.meta[name] for name in KEPT if name in pair.meta} | {"swapped": True},
    )


def conversations(pairs: Sequence[PreferencePair], tokenizer: Tokenizer) -> list[str]:
    """Task ids of the pairs whose prompt ids are not those of the prompt's text."""
    return [pair.task_id for pair in pairs if tokenizer.prompt_ids(pair.prompt) != pair.prompt_ids]


def side_demonstrations(pairs: Sequence[PreferencePair], side: str) -> list[dict]:
    """One side of every pair, each distinct answer once, as prompt and completion."""
    rows = {}
    for pair in pairs:
        completion = getattr(pair, side)
        rows[pair.prompt, completion] = {
            "task_id": pair.task_id,
            "prompt": pair.prompt,
            "completion": completion,
        }
    return list(rows.values())


@program
def main(cfg: Config) -> None:
    """Read the pairs, write the four files, or the two that need no prompts as text."""
    tokenizer = load_tokenizer(checkpoint_folder(cfg, cfg.run.init))
    pairs = training_pairs(cfg, tokenizer)
    coin = random.Random(cfg.run.seed)
    files = {
        "swapped": list(map(swapped, pairs)),
        "shuffled": [swapped(pair) if coin.random() < 0.5 else pair for pair in pairs],
    }
    conversational = conversations(pairs, tokenizer)
    if not conversational:
        files |= {side: side_demonstrations(pairs, side) for side in ("chosen", "rejected")}
    for name, rows in files.items():
        path = Path(cfg.run.home, f"{name}.jsonl")
        write_jsonl(path, rows)
        write_provenance(path, pairs=cfg.data.pairs, rows=len(rows))
        print(f"written    {path}: {len(rows)} rows")
    if conversational:
        print(
            f"skipped    chosen.jsonl, rejected.jsonl: {len(conversational)} of {len(pairs)} prompts are "
            f"conversations (the first: {conversational[0]}), which train_sft.py cannot read as text; "
            "use the estimator of variant=tis_dpo or tis_prompt"
        )


if __name__ == "__main__":
    main()
