"""Token weights from where two programs differ: LD-DPO, Focused-DPO, Target-DPO (formulas in losses/).

    python -m variants.span_weights +exp=focal             # writes data.weights; also ld_dpo, target_dpo
    python train_dpo.py +exp=focal

No model is needed: the weights are functions of the pair's ids (Target-DPO: of its text). Target-DPO adds the
likelihood of the chosen completion: its experiment uses loss=rpo. There the weights reach that term too; they
are 1 on the chosen side.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.columns import write_columns
from data.jsonl import write_provenance
from data.reference_cache import Sides
from data.tokenizer import Tokenizer, load_tokenizer
from data.types import PreferencePair
from losses.focal import focal_weights, target_weights
from losses.ld_dpo import pair_ld_weights
from variants.scoring import training_pairs
from variants.settings import settings


@dataclass
class SpanSettings:
    method: str  # ld, focal, target
    value: float  # weight of the tail, of the middle, of the lines that differ


def ld(pair: PreferencePair, value: float, tokenizer: Tokenizer) -> Sides:
    return pair_ld_weights(len(pair.chosen_ids), len(pair.rejected_ids), value)


def focal(pair: PreferencePair, value: float, tokenizer: Tokenizer) -> Sides:
    return focal_weights(pair.chosen_ids, pair.rejected_ids, value)


def target(pair: PreferencePair, value: float, tokenizer: Tokenizer) -> Sides:
    sides = (pair.chosen_ids, pair.rejected_ids)
    chosen, rejected = target_weights(*([tokenizer.completion_text([i]) for i in ids] for ids in sides))
    return chosen, rejected * value


METHODS: dict[str, Callable[[PreferencePair, float, Tokenizer], Sides]] = {
    "ld": ld,
    "focal": focal,
    "target": target,
}


def span_columns(pairs: Sequence[PreferencePair], spans: SpanSettings, tokenizer: Tokenizer) -> list[Sides]:
    """Weights (chosen [n_w], rejected [n_l]) float32 of every pair."""
    if spans.method not in METHODS:
        raise ValueError(f"variant.method is {spans.method!r}, expected one of {', '.join(METHODS)}")
    weigh = METHODS[spans.method]
    return [tuple(side.numpy() for side in weigh(pair, spans.value, tokenizer)) for pair in pairs]


@program
def main(cfg: Config) -> None:
    """Read the pairs, weigh, write."""
    spans = settings(cfg, SpanSettings)
    if not cfg.data.weights:
        raise ValueError("data.weights is not set: it names the file to write")
    tokenizer = load_tokenizer(checkpoint_folder(cfg, cfg.run.init))
    pairs = training_pairs(cfg, tokenizer)
    columns, path = span_columns(pairs, spans, tokenizer), Path(cfg.data.weights)
    write_columns(path, pairs, columns)
    write_provenance(path, settings=asdict(spans), pairs=cfg.data.pairs)
    weights = [np.concatenate([sides[side] for sides in columns]) for side in (0, 1)]
    changed = " and ".join(f"{(side != 1).mean():.0%} of {len(side)}" for side in weights)
    print(f"weights    {spans.method}: other than 1 on {changed} tokens, chosen and rejected")
    print(f"written    {path}")


if __name__ == "__main__":
    main()
