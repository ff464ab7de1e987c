"""What some losses want to know of a step beyond sums of log-probs; train_measured.py's difference.

A loss asks by its keywords (losses/contract.py):

    forward_kl, reverse_kl   [2, B] KL(reference || policy), KL(policy || reference) of whole distributions,
                             summed over each completion with its token weights (losses/tdpo.py)
    log_weight               [B] how likely the policy is to produce the pair (losses/wpo.py)
    kl                       log-ratios of completions behind prompts they do not answer (losses/kto.py)

All but log_weight need what the reference says now, about whole distributions or about texts that no cache
has seen: a second model in memory, or with adapters the same one with them switched off. Only divergences
have a gradient. Logits exist for a few positions at a time (losses/distribution.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from conf.program import checkpoint_folder
from conf.schema import Config
from data.columns import is_columns
from data.pairs import PairBatch, collate
from data.reference_cache import Sides
from data.types import PreferencePair
from losses.contract import takes
from losses.distribution import token_kl, token_statistics
from losses.types import LossFunction, log_ratios
from losses.wpo import log_weights
from model.lora import disabled
from model.training import Compute, load_policy
from model.transformer import Transformer
from train_dpo import completion_logps, pair_sums

OF_REFERENCE = ("forward_kl", "reverse_kl", "kl")  # measured with the reference in memory
MEASURED = ("log_weight", *OF_REFERENCE)


def asked(loss_fn: LossFunction, names: Sequence[str] = MEASURED) -> list[str]:
    """Which measurements the loss has a keyword for."""
    return [name for name in names if takes(loss_fn, name)]


def reference_model(
    cfg: Config, start: Path, policy: Transformer, compute: Compute, loss_fn: LossFunction
) -> Transformer | None:
    """The reference in memory, frozen; the policy itself when it has adapters; None when nothing asks."""
    if not asked(loss_fn, OF_REFERENCE):
        return None
    if is_columns(cfg.run.reference):
        raise ValueError(
            f"run.reference is {cfg.run.reference}, which is log-probs at most; this loss asks for "
            f"{', '.join(asked(loss_fn, OF_REFERENCE))}, so name a checkpoint"
        )
    folder = checkpoint_folder(cfg, cfg.run.reference) if cfg.run.reference else start
    if folder == start and cfg.model.lora.rank > 0:
        return policy
    model = load_policy(folder, None, compute).requires_grad_(False)
    if model.config.logit_softcap != policy.config.logit_softcap:
        raise ValueError(f"{folder} caps its logits in another way than the policy; they cannot be compared")
    return model


def completion_hidden(model: Transformer, batch: PairBatch) -> Tensor:
    """Hidden states that predict the completion tokens, [N, D]."""
    return model(batch.ids, batch.positions, batch.spans, batch.source)


def measurements(
    loss_fn: LossFunction,
    model: Transformer,
    reference: Transformer | None,
    pairs: Sequence[PreferencePair],
    weights: Sequence[Sides] | None,
    hidden: Tensor,
    batch: PairBatch,
) -> dict[str, Tensor]:
    """Everything `loss_fn` asks for about one batch of `pairs`; hidden [N, D] is the policy's."""
    found = {}
    for name in asked(loss_fn):
        if name == "log_weight":
            found[name] = log_weight(model, hidden, batch)
        elif name == "kl":
            found[name] = mismatched_ratios(model, reference, pairs, weights, batch)
        else:
            found[name] = divergences(model, reference, hidden, batch, policy_first=name == "reverse_kl")
    return found


def log_weight(model: Transformer, hidden: Tensor, batch: PairBatch) -> Tensor:
    """WPO's log w(chosen) + log w(rejected), [B], from one more product with the head and no gradient."""
    softcap = model.config.logit_softcap
    found = token_statistics(hidden.detach(), model.lm_head.weight, batch.target, softcap=softcap)
    return log_weights(found.logps, found.log_collision, batch.row, batch.lengths)


def divergences(
    model: Transformer, reference: Transformer, hidden: Tensor, batch: PairBatch, *, policy_first: bool
) -> Tensor:
    """Sequential KL of both completions, [2, B], weighted as the log-probs are."""
    with torch.no_grad(), disabled(reference):
        other = completion_hidden(reference, batch)
    kl = token_kl(
        hidden,
        other,
        model.lm_head.weight,
        reference.lm_head.weight,
        policy_first=policy_first,
        softcap=model.config.logit_softcap,
    )
    sums = kl.new_zeros(2 * len(batch.spans)).index_add(0, batch.row, kl * batch.weights)
    return sums.view(2, len(batch.spans))


def mismatches(pairs: Sequence[PreferencePair]) -> Iterator[tuple[int, int]]:
    """(i, j): pair i's prompt goes before the completions of j, the next pair that has another prompt."""
    for i, pair in enumerate(pairs):
        following = [*range(i + 1, len(pairs)), *range(i)]
        yield from [(i, j) for j in following if pairs[j].prompt_ids != pair.prompt_ids][:1]


@torch.no_grad()
def mismatched_ratios(
    model: Transformer,
    reference: Transformer,
    pairs: Sequence[PreferencePair],
    weights: Sequence[Sides] | None,
    batch: PairBatch,
) -> Tensor:
    """Log-ratios of the batch's completions behind one another's prompts, [2B]; fewer, even none, where all
    prompts are the same or a side has no weight."""
    places = [(batch.index[i], batch.index[j]) for i, j in mismatches([pairs[i] for i in batch.index])]
    if not places:
        return batch.weights.new_empty(0)
    strangers = [replace(pairs[j], prompt_ids=pairs[i].prompt_ids) for i, j in places]
    columns = None if weights is None else [weights[j] for _, j in places]
    foreign = collate(strangers, range(len(strangers)), weights=columns).to(batch.ids.device)
    policy = pair_sums(completion_logps(model, foreign), foreign)
    with disabled(reference):
        ratios = log_ratios(policy, pair_sums(completion_logps(reference, foreign), foreign))
    present = foreign.weights.new_zeros(2 * len(places)).index_add(0, foreign.row, foreign.weights) > 0
    return torch.cat(ratios)[present]
