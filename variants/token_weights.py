"""TIS-DPO's token weights: Liu et al. 2024 (arXiv:2410.04350), eq. 19 and its three estimators.

    python -m variants.contrast_sets +exp=tis_dpo          # and the two runs that conf/exp/tis_dpo.yaml names
    python -m variants.token_weights +exp=tis_dpo          # writes data.weights
    python train_dpo.py +exp=tis_dpo                       # trainer and loss as they are

If every token of the data had the same expected reward, DPO's sum over tokens would be right; importance
sampling corrects for tokens that do not. Two models that differ in what they prefer estimate the reward:

    rho_t = log pi_plus(y_t | x, y_<t) - log pi_minus(y_t | x, y_<t)
    w_t   = scale * exp(mu * clamp(rho_t, lower, upper)),    mu = 1 for chosen tokens, -1 for rejected ones

`plus` and `minus` are checkpoints. TIS-DPO(D): DPO on the pairs, and on the swapped pairs (variant=tis_dpo).
(S): fine-tuned on the chosen, and on the rejected completions (tis_sft). (P): the same checkpoint behind two
prefixes (tis_prompt). The bounds -0.5 and 1.5 are the paper's as recalled, not read again.

`transform=rank` is the released code's rank_based variant: ranks within a completion, mapped to [0.7, 1.3].
There the end token counts 0, here 1 (`end_weight`), or the policy would not learn to stop; there rho is
rounded to two decimals, here it is not. The divergence term of the paper is off, as in the released code;
+exp=tis_divergence has it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.columns import write_columns
from data.jsonl import write_provenance
from data.reference_cache import Sides
from data.tokenizer import Tokenizer, load_tokenizer
from data.types import PreferencePair
from model.checkpoint import weights_digest
from variants.scoring import cached_logps, training_pairs
from variants.settings import settings


@dataclass
class TokenWeightSettings:
    plus: str  # checkpoint that likes what chosen completions have
    minus: str  # checkpoint that likes what rejected ones have
    plus_prefix: str  # text put before every prompt when `plus` scores it
    minus_prefix: str
    transform: str  # clamp (the paper), rank (the released code)
    scale: float  # of clamp: w at rho 0
    lower: float  # of clamp: bounds of rho, nats
    upper: float
    rank_range: tuple[float, float]  # of rank: weights of the lowest and the highest token
    end_weight: float | None  # of the end token; null: like any other


def clamp_weights(rho: np.ndarray, sign: int, scale: float, lower: float, upper: float) -> np.ndarray:
    """rho [n] -> weights [n]; sign 1 for a chosen completion, -1 for a rejected one."""
    return scale * np.exp(sign * rho.clip(lower, upper))


def rank_weights(rho: np.ndarray, sign: int, low: float, high: float) -> np.ndarray:
    """rho [n] -> weights [n], linear in the rank of sign * rho; equal values share their mean rank."""
    if len(rho) == 1:
        return np.full(1, (low + high) / 2)
    _, inverse, counts = np.unique(sign * rho, return_inverse=True, return_counts=True)
    mean_rank = counts.cumsum() - (counts + 1) / 2
    return low + (high - low) * mean_rank[inverse] / (len(rho) - 1)


def completion_weights(
    plus: np.ndarray, minus: np.ndarray, sign: int, ended: bool, rule: TokenWeightSettings
) -> np.ndarray:
    """Weights [n] of one completion from its log-probs under both models; `ended`: its last token ends it."""
    rho = plus.astype(np.float64) - minus
    if rule.transform == "clamp":
        weights = clamp_weights(rho, sign, rule.scale, rule.lower, rule.upper)
    else:
        weights = rank_weights(rho, sign, *rule.rank_range)
    if ended and rule.end_weight is not None:
        weights[-1] = rule.end_weight
    return weights


def pair_weights(
    pairs: Sequence[PreferencePair],
    plus: Sequence[Sides],
    minus: Sequence[Sides],
    stop_ids: frozenset[int],
    rule: TokenWeightSettings,
) -> list[Sides]:
    """Weights (chosen [n_w], rejected [n_l]) of every pair."""
    columns = []
    for pair, high, low in zip(pairs, plus, minus, strict=True):
        sides = zip((pair.chosen_ids, pair.rejected_ids), high, low, (1, -1), strict=True)
        columns.append(tuple(completion_weights(p, m, s, i[-1] in stop_ids, rule) for i, p, m, s in sides))
    return columns


def with_prefix(pair: PreferencePair, prefix: str, tokenizer: Tokenizer) -> PreferencePair:
    """The pair behind `prefix`, which goes after the begin token; completion ids stay."""
    begun = int(tokenizer.adds_bos and pair.prompt_ids[:1] == [tokenizer.bos_id])
    ids = pair.prompt_ids
    return replace(pair, prompt_ids=ids[:begun] + tokenizer.encode(prefix) + ids[begun:])


def check(rule: TokenWeightSettings) -> None:
    """Refuse what would not be an estimate."""
    if rule.transform not in ("clamp", "rank"):
        raise ValueError(f"variant.transform is {rule.transform!r}, expected clamp or rank")
    if rule.lower > rule.upper:
        raise ValueError(f"variant.lower ({rule.lower}) is above variant.upper ({rule.upper})")
    if (rule.plus, rule.plus_prefix) == (rule.minus, rule.minus_prefix):
        raise ValueError("variant.plus and variant.minus are the same model behind the same prefix")


def describe(columns: Sequence[Sides]) -> str:
    """What the weights look like: mean and extremes per side."""
    rows = []
    for name, side in (("chosen", 0), ("rejected", 1)):
        weights = np.concatenate([sides[side] for sides in columns])
        rows.append(
            f"{name:10} {len(weights)} tokens: mean weight {weights.mean():.3f}, from {weights.min():.3f} "
            f"({np.isclose(weights, weights.min()).mean():.0%} of them) to {weights.max():.3f} "
            f"({np.isclose(weights, weights.max()).mean():.0%})"
        )
    return "\n".join(rows)


@program
def main(cfg: Config) -> None:
    """Score the pairs under both models, weigh, write."""
    rule = settings(cfg, TokenWeightSettings)
    check(rule)
    if not cfg.data.weights:
        raise ValueError("data.weights is not set: it names the file to write")
    tokenizer = load_tokenizer(checkpoint_folder(cfg, cfg.run.init))
    pairs = training_pairs(cfg, tokenizer)
    checkpoints = [checkpoint_folder(cfg, name) for name in (rule.plus, rule.minus)]
    for checkpoint in checkpoints:
        if load_tokenizer(checkpoint).digest != tokenizer.digest:
            raise ValueError(f"{checkpoint} has another tokenizer than the policy; weights are per token")
    scored = [
        cached_logps(cfg, checkpoint, [with_prefix(pair, prefix, tokenizer) for pair in pairs])
        for checkpoint, prefix in zip(checkpoints, (rule.plus_prefix, rule.minus_prefix), strict=True)
    ]
    columns = pair_weights(pairs, *scored, tokenizer.stop_ids, rule)
    path = Path(cfg.data.weights)
    write_columns(path, pairs, columns)
    digests = {str(checkpoint): weights_digest(checkpoint) for checkpoint in checkpoints}
    write_provenance(path, settings=asdict(rule), checkpoints=digests, pairs=cfg.data.pairs)
    print(describe(columns))
    print(f"written    {path}")


if __name__ == "__main__":
    main()
