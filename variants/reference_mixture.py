"""MRPO's virtual reference: Le et al. 2024 (arXiv:2405.16388), several references in the place of one.

    python -m variants.reference_mixture +exp=mrpo         # writes run.reference
    python train_dpo.py +exp=mrpo                          # loss: dpo

Holding the policy near K references, sum_k alpha_k KL(pi || pi_k), is bounded with Jensen's inequality by one
reference, their weighted harmonic mean:

    log pi_v(y|x) = -logsumexp_k(log alpha_k - log pi_k(y|x))         sums over the tokens of y

The first reference is the anchor, the policy's own start; the others are clipped to a trust region around
it (CTRO), radius eps relative to its log-prob. In the released code the radius is adaptive: with b the mean
over references of a side's log-prob and s = |b_chosen| / (|b_chosen| + |b_rejected|), it is eps * s for the
chosen and eps * (1 - s) for the rejected side. Adaptive weights (ARWC) are each reference's share of the
margins |log pi_k(chosen) - log pi_k(rejected)|, taken before clipping. The released two-reference formula
has its weights swapped; here they are as derived. ARWC's caveat: the weight uses the pair it weighs.

References may have other tokenizers: each scores the text with its own, and only sums meet. The column holds
the anchor's log-probs per token plus, on each token, an equal share of what is missing to log pi_v, so
that a completion sums to the virtual reference. With token weights besides, that share is weighted too.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.columns import write_columns
from data.jsonl import iterate_jsonl, write_provenance
from data.pair_ids import SIDES, pair_with_ids
from data.reference_cache import Sides
from data.tokenizer import Tokenizer, load_tokenizer
from data.types import PreferencePair
from model.checkpoint import weights_digest
from variants.scoring import cached_logps, sums
from variants.settings import settings


@dataclass
class MixtureSettings:
    references: list[str]  # checkpoints; the first is the anchor, with the policy's tokenizer
    weights: list[float] | None  # of the references; null: adaptive, per pair
    radius: float | None  # eps of the trust region around the anchor; null: no clipping
    adaptive_radius: bool  # shared between chosen and rejected as in the released code


def adaptive_weights(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Sums [K, B] per reference and pair -> weights [K, B] summing to 1; equal where no margin is."""
    gap = np.abs(chosen - rejected)
    total = gap.sum(0)
    return np.where(total > 0, gap / np.where(total > 0, total, 1), 1 / len(gap))


def adaptive_radii(chosen: np.ndarray, rejected: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Sums [K, B] -> radii [B] for the chosen and for the rejected side, which add up to `radius`."""
    size, other = np.abs(chosen.mean(0)), np.abs(rejected.mean(0))
    total = size + other
    share = np.where(total > 0, size / np.where(total > 0, total, 1), 0.5)
    return radius * share, radius * (1 - share)


def clip_to_anchor(logps: np.ndarray, radius: np.ndarray | float) -> np.ndarray:
    """Sums [K, B] with every row moved to within radius * |row 0| of row 0."""
    reach = radius * np.abs(logps[0])
    return np.clip(logps, logps[0] - reach, logps[0] + reach)


def virtual_reference(logps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums [K, B] and weights [K, B] or [K, 1] -> log-prob of the weighted harmonic mean, [B]."""
    with np.errstate(divide="ignore"):  # a weight of 0 leaves its reference out
        terms = np.log(weights) - logps
    top = terms.max(0)
    return -(top + np.log(np.exp(terms - top).sum(0)))


def mix(
    chosen: np.ndarray, rejected: np.ndarray, mixture: MixtureSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums [K, B] of K references -> the virtual reference's [B] for both sides, and the weights [K, B]."""
    if mixture.weights is None:
        weights = adaptive_weights(chosen, rejected)
    else:
        given = np.asarray(mixture.weights, float)[:, None] / sum(mixture.weights)
        weights = np.broadcast_to(given, chosen.shape)
    if mixture.radius is not None:
        radii = mixture.radius, mixture.radius
        if mixture.adaptive_radius:
            radii = adaptive_radii(chosen, rejected, mixture.radius)
        chosen, rejected = clip_to_anchor(chosen, radii[0]), clip_to_anchor(rejected, radii[1])
    return virtual_reference(chosen, weights), virtual_reference(rejected, weights), weights


def shifted(token_logps: np.ndarray, total: float) -> np.ndarray:
    """The anchor's log-probs [n] with an equal share added to each, so that they sum to `total`."""
    return token_logps + (total - token_logps.sum(dtype=np.float64)) / len(token_logps)


def without_ids(row: dict) -> dict:
    """A row of pairs.jsonl as text, for a tokenizer that did not make its ids."""
    return {name: value for name, value in row.items() if name not in {f"{side}_ids" for side in SIDES}}


def pairs_under(cfg: Config, tokenizer: Tokenizer, own: Tokenizer) -> list[PreferencePair]:
    """The trainable rows of the pairs file, tokenised by `tokenizer`; `own`, the policy's, decides which."""
    pairs = []
    for number, row in iterate_jsonl(cfg.data.pairs):
        where = f"{cfg.data.pairs}, line {number}"
        pair = pair_with_ids(row, own, where)
        longest = max(len(pair.chosen_ids), len(pair.rejected_ids))
        if len(pair.prompt_ids) <= cfg.data.max_prompt and longest <= cfg.data.max_completion:
            foreign = tokenizer.digest != own.digest
            pairs.append(pair_with_ids(without_ids(row), tokenizer, where) if foreign else pair)
    if not pairs:
        raise ValueError(f"{cfg.data.pairs} holds no pair within data.max_prompt and data.max_completion")
    return pairs


def check(mixture: MixtureSettings) -> None:
    """Refuse what has no virtual reference."""
    if not mixture.references:
        raise ValueError("variant.references is empty; name at least one checkpoint, the anchor first")
    if mixture.weights is not None:
        if len(mixture.weights) != len(mixture.references):
            raise ValueError(
                f"variant.weights has {len(mixture.weights)} numbers for {len(mixture.references)} references"
            )
        if min(mixture.weights) < 0 or sum(mixture.weights) <= 0:
            raise ValueError(
                f"variant.weights are {mixture.weights}; none may be negative, one must be positive"
            )
    if mixture.radius is not None and mixture.radius < 0:
        raise ValueError(
            f"variant.radius is {mixture.radius}; 0 or more, with adaptive_radius=false for a fixed one"
        )


@program
def main(cfg: Config) -> None:
    """Score the pairs under every reference, mix, write."""
    mixture = settings(cfg, MixtureSettings)
    check(mixture)
    if not (cfg.run.reference or "").endswith(".safetensors"):
        raise ValueError(f"run.reference is {cfg.run.reference}; it names the .safetensors file to write")
    own = load_tokenizer(checkpoint_folder(cfg, cfg.run.init))
    checkpoints = [checkpoint_folder(cfg, name) for name in mixture.references]
    tokenizers = [load_tokenizer(checkpoint) for checkpoint in checkpoints]
    if tokenizers[0].digest != own.digest:
        raise ValueError(f"the anchor {checkpoints[0]} must have the policy's tokenizer")
    pairs = pairs_under(cfg, own, own)
    columns = [
        cached_logps(cfg, checkpoint, pairs_under(cfg, tokenizer, own))
        for checkpoint, tokenizer in zip(checkpoints, tokenizers, strict=True)
    ]
    chosen, rejected = np.stack([sums(column) for column in columns], axis=1)  # [K, B] each
    chosen_mix, rejected_mix, weights = mix(chosen, rejected, mixture)
    mixed: list[Sides] = [
        (shifted(sides[0], to_chosen), shifted(sides[1], to_rejected))
        for sides, to_chosen, to_rejected in zip(columns[0], chosen_mix, rejected_mix, strict=True)
    ]
    path = Path(cfg.run.reference)
    write_columns(path, pairs, mixed)
    digests = {str(checkpoint): weights_digest(checkpoint) for checkpoint in checkpoints}
    write_provenance(path, settings=asdict(mixture), references=digests, pairs=cfg.data.pairs)
    print(f"{'reference':40}{'mean weight':>12}{'chosen':>12}{'rejected':>12}   nats per completion")
    rows = [*zip(mixture.references, weights.mean(1), chosen.mean(1), rejected.mean(1), strict=True)]
    for name, *numbers in [*rows, ("virtual", 1.0, chosen_mix.mean(), rejected_mix.mean())]:
        print(f"{name:40}{numbers[0]:12.3f}{numbers[1]:12.3f}{numbers[2]:12.3f}")
    print(f"written    {path}")


if __name__ == "__main__":
    main()
