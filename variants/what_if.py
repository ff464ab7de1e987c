"""What each loss would do with a pairs file, from cached log-probs, without training.

    python -m variants.what_if +exp=quickstart +variant=what_if
    python -m variants.what_if +exp=quickstart +variant=what_if 'variant.losses=[dpo,ipo]' variant.top=9

For every loss: its mean value, the mean of its derivatives by the two summed log-probs (negative: the side is
pushed up), the share of pairs that count less than a tenth of the one that counts most ("idle"), how many
equally weighted pairs would give the same concentration ("pairs", sum^2 / sum of squares), accuracy, and the
pairs that dominate. A pair counts |d chosen| + |d rejected|. The policy is the reference itself, as at the
first step, or a checkpoint. Token weights and a mixed reference are used where the experiment has them.
Losses that couple a batch see all pairs at once, and those that need more than log-probs are named.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import OmegaConf
from torch import Tensor

from conf.loss_function import loss_function
from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.columns import is_columns, read_columns, read_reference
from data.jsonl import write_json
from data.pairs import collate
from data.reference_cache import Sides
from data.tokenizer import load_tokenizer
from data.types import PreferencePair
from losses.types import LossFunction, PairLogps
from train_dpo import reference_sums
from variants.scoring import cached_logps, training_pairs
from variants.settings import settings

LOSSES = Path(__file__).parent.parent / "conf" / "loss"
IDLE = 0.1  # a pair that counts less than this share of the largest


@dataclass
class WhatIfSettings:
    losses: list[str] | None  # names in conf/loss; null: all
    checkpoint: str | None  # policy; null: the reference itself
    top: int  # pairs that dominate, named for each loss


class Outcome(NamedTuple):
    """One loss on B pairs."""

    value: float
    chosen_gradient: Tensor  # [B] derivative by each chosen sum
    rejected_gradient: Tensor  # [B]
    accuracy: float

    @property
    def influence(self) -> Tensor:
        """How much each pair counts, [B]."""
        return self.chosen_gradient.abs() + self.rejected_gradient.abs()


def evaluate_loss(loss: LossFunction, policy: PairLogps, reference: PairLogps) -> Outcome:
    """Value and derivatives of a loss, from sums [B]."""
    chosen, rejected = (side.detach().clone().requires_grad_() for side in policy[:2])
    out = loss(policy._replace(chosen=chosen, rejected=rejected), reference)
    gradients = torch.autograd.grad(out.losses.sum(), (chosen, rejected), allow_unused=True)
    gradients = [torch.zeros_like(chosen) if g is None else g for g in gradients]
    accuracy = (out.chosen_rewards > out.rejected_rewards).float().mean()
    return Outcome(float(out.losses.detach().mean()), *gradients, float(accuracy))


def summary(outcome: Outcome, task_ids: Sequence[str], top: int) -> dict:
    """The numbers of a row, and the pairs that count most with their share of the total."""
    influence = outcome.influence
    total = influence.sum().clamp(min=1e-30)
    order = influence.argsort(descending=True, stable=True)[:top].tolist()
    return {
        "value": outcome.value,
        "gradient_chosen": float(outcome.chosen_gradient.mean()),
        "gradient_rejected": float(outcome.rejected_gradient.mean()),
        "idle": float((influence < IDLE * influence.max()).float().mean()),
        "pairs": float(total.square() / influence.square().sum().clamp(min=1e-30)),
        "accuracy": outcome.accuracy,
        "dominant": [
            {"pair": i, "task_id": task_ids[i], "share": float(influence[i] / total)} for i in order
        ],
    }


def pair_logps(
    pairs: Sequence[PreferencePair], columns: Sequence[Sides], weights: Sequence[Sides] | None
) -> PairLogps:
    """The sums a trainer would see, of per-token log-probs."""
    return reference_sums(collate(pairs, range(len(pairs)), weights=weights, reference=columns))


def named_losses(cfg: Config, names: Sequence[str] | None) -> dict[str, Callable]:
    """The losses of conf/loss by name, as their files have them, after the run's own."""
    known = sorted(path.stem for path in LOSSES.glob("*.yaml"))
    unknown = set(names or ()) - set(known)
    if unknown:
        raise ValueError(f"no loss {', '.join(sorted(unknown))} in conf/loss; there are {', '.join(known)}")
    losses = {"(this run's)": loss_function(cfg.loss)}
    return losses | {
        name: loss_function(OmegaConf.load(LOSSES / f"{name}.yaml")) for name in (names or known)
    }


def row(name: str, found: dict) -> str:
    numbers = "".join(f"{found[key]:12.4g}" for key in ("value", "gradient_chosen", "gradient_rejected"))
    dominant = ", ".join(f"{pair['task_id']} {pair['share']:.1%}" for pair in found["dominant"])
    return f"{name:18}{numbers}{found['idle']:7.0%}{found['pairs']:8.0f}{found['accuracy']:10.2f}  {dominant}"


@program
def main(cfg: Config) -> None:
    """Read, score what the cache lacks, evaluate every loss, print and write."""
    wanted = settings(cfg, WhatIfSettings)
    torch.manual_seed(cfg.run.seed)  # of losses that draw
    losses = named_losses(cfg, wanted.losses)
    start = checkpoint_folder(cfg, cfg.run.init)
    pairs = training_pairs(cfg, load_tokenizer(start))
    weights = read_columns(cfg.data.weights, pairs) if cfg.data.weights else None
    if is_columns(cfg.run.reference):
        reference_columns = read_reference(cfg.run.reference, pairs)
    else:
        reference_columns = cached_logps(
            cfg, checkpoint_folder(cfg, cfg.run.reference or cfg.run.init), pairs
        )
    policy_columns = cached_logps(cfg, checkpoint_folder(cfg, wanted.checkpoint or cfg.run.init), pairs)
    reference, policy = (
        pair_logps(pairs, columns, weights) for columns in (reference_columns, policy_columns)
    )

    found: dict[str, dict] = {}
    heads = "".join(f"{head:>12}" for head in ("value", "d chosen", "d rejected"))
    print(f"{'loss':18}{heads}{'idle':>7}{'pairs':>8}{'accuracy':>10}  pairs that count most")
    for name, loss in losses.items():
        try:
            outcome = evaluate_loss(loss, policy, reference)
        except ValueError as error:  # WPO, TDPO: a measurement that no cache holds
            found[name] = {"not_from_log_probs": str(error)}
            print(f"{name:18}{error}")
            continue
        found[name] = summary(outcome, [pair.task_id for pair in pairs], wanted.top)
        print(row(name, found[name]))
    path = Path(cfg.run.dir, "what_if.json")
    facts = {"pairs": cfg.data.pairs, "count": len(pairs), "policy": wanted.checkpoint or "the reference"}
    write_json(path, facts | {"losses": found})
    print(f"written    {path}")


if __name__ == "__main__":
    main()
