"""Log-probs of the pairs under any checkpoint, from the reference cache, which is filled where it lacks some.

The cache is the one train_dpo.py uses, with the same keys: what one program scored, the others find.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from conf.schema import Config
from data.pairs import read_pairs
from data.reference_cache import ReferenceCache, Sides, fill
from data.tokenizer import Tokenizer
from data.types import PreferencePair
from model.checkpoint import weights_digest
from model.training import Compute, load_policy
from train_dpo import score


def training_pairs(cfg: Config, tokenizer: Tokenizer) -> list[PreferencePair]:
    """The pairs train_dpo.py would train on or hold out."""
    limits = {"max_prompt": cfg.data.max_prompt, "max_completion": cfg.data.max_completion}
    pairs, dropped = read_pairs(cfg.data.pairs, tokenizer, **limits)
    reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.items()) or "none"
    print(f"pairs      {cfg.data.pairs}: {len(pairs)}; dropped: {reasons}")
    return pairs


def cached_logps(cfg: Config, checkpoint: Path, pairs: Sequence[PreferencePair]) -> list[Sides]:
    """Per-token log-probs (chosen [n_w], rejected [n_l]) of each pair under a checkpoint, float32."""
    compute = Compute.choose(cfg.device, cfg.model.dtype)
    where = {"dtype": compute.dtype, "device": compute.device.type}
    cache = ReferenceCache(cfg.run.cache, weights=weights_digest(checkpoint), **where)
    if absent := cache.lacking(pairs):
        rescore = partial(score, load_policy(checkpoint, None, compute), compute)
        bar = partial(tqdm, desc=str(checkpoint), unit="batch")
        fill(cache, [pairs[i] for i in absent], rescore, cfg.optim.microbatch, bar)
    return [cache.of(pair) for pair in pairs]


def sums(columns: Sequence[Sides]) -> np.ndarray:
    """[2, B] float64: what the chosen and the rejected completions of B pairs sum to."""
    return np.array([[side.sum(dtype=np.float64) for side in sides] for sides in columns]).reshape(-1, 2).T
