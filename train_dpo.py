"""DPO training, top to bottom: pairs, reference log-probs, loop, checkpoint.

    python train_dpo.py +exp=quickstart loss.beta=0.05
    python train_dpo.py +exp=quickstart loss=ipo               # any file of conf/loss

The reference is never a second model: before its first step the policy *is* the reference, so it scores the
pairs once and the numbers are kept on disk (data/reference_cache.py). Letters: B pairs, T tokens of a batch,
N completion tokens, D width.
"""

import math
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor
from tqdm import tqdm

from conf.program import checkpoint_folder, claim_output, loss_function, program
from conf.schema import Config
from data.audit import print_audit
from data.jsonl import digest, write_provenance
from data.pairs import (
    PairBatch,
    collate,
    epoch_order,
    microbatches,
    read_pairs,
    split_by_problem,
    token_count,
)
from data.reference_cache import ReferenceCache, Sides, disagreement, fill, read_columns
from data.tokenizer import load_tokenizer
from data.types import PreferencePair
from losses.logprobs import token_logps
from losses.types import LossFunction, PairLogps, PreferenceLoss
from model.checkpoint import load_model, save_model, weights_digest
from model.optim import adamw, clip_grad_norm, learning_rate
from model.training import (
    Interrupt,
    Metrics,
    MetricsLog,
    autocast,
    check_finite,
    choose_device,
    choose_dtype,
    due,
    load_state,
    save_checkpoint,
)
from model.transformer import Transformer

STEP_0_TOLERANCE = {"fp32": 1e-3, "amp": 0.1, "bf16": 0.3}  # nats per token, policy against reference


def completion_logps(model: Transformer, batch: PairBatch) -> Tensor:
    """Log-prob of every completion token, [N] float32."""
    hidden = model(batch.ids, batch.positions, batch.spans)  # [T, D]
    return token_logps(
        hidden.index_select(0, batch.source),
        model.lm_head.weight,
        batch.target,
        softcap=model.config.logit_softcap,
    )


def pair_sums(logps: Tensor, batch: PairBatch) -> PairLogps:
    """Weighted sums over each completion: the one place where tokens become sequences."""
    sums = logps.new_zeros(2 * len(batch.spans)).index_add(0, batch.row, logps * batch.weights)
    return PairLogps(*sums.chunk(2), *batch.lengths.chunk(2))


def reference_sums(batch: PairBatch) -> PairLogps:
    """The same sums of the reference, computed from the cache when the batch was laid out."""
    return PairLogps(*batch.reference.chunk(2), *batch.lengths.chunk(2))


@torch.no_grad()
def score(model: Transformer, cast: partial, pairs: Sequence[PreferencePair]) -> list[Sides]:
    """Per-token log-probs (chosen, rejected) of each pair: what the reference cache stores."""
    device = model.lm_head.weight.device
    batch = collate(pairs, range(len(pairs)))
    with cast():
        logps = completion_logps(model, batch.to(device)).cpu().numpy()
    sides = np.split(
        logps, np.cumsum([len(ids) for p in pairs for ids in (p.chosen_ids, p.rejected_ids)])[:-1]
    )
    return list(zip(sides[::2], sides[1::2], strict=True))


def measure(
    metrics: Metrics, out: PreferenceLoss, policy: PairLogps, logps: Tensor, batch: PairBatch
) -> None:
    """The field's standard names, plus what rewards hide: the log-probs themselves and P(end of text)."""
    metrics.add(
        **{
            "loss": out.losses,
            "rewards/chosen": out.chosen_rewards,
            "rewards/rejected": out.rejected_rewards,
            "rewards/margins": out.chosen_rewards - out.rejected_rewards,
            "rewards/accuracies": (out.chosen_rewards > out.rejected_rewards).float(),
            "logps/chosen": policy.chosen,
            "logps/rejected": policy.rejected,
            "lengths/chosen": policy.chosen_length,
            "lengths/rejected": policy.rejected_length,
            "end_probability/chosen": logps.detach()[batch.last[: len(batch.spans)]].exp(),
        }
    )


def reference_columns(
    cfg: Config, pairs: Sequence[PreferencePair], start: Path, policy: Transformer | None, cast: partial
) -> list[Sides]:
    """Per-token reference log-probs of every pair, from the cache, which is filled first where it lacks some.

    `policy` is the model before its first step, None when resuming: by then it is no longer the reference.
    """
    reference = checkpoint_folder(cfg, cfg.run.reference) if cfg.run.reference else start
    scorer = policy if reference == start else None
    device, dtype = choose_device(cfg.device), choose_dtype(cfg.model.dtype, choose_device(cfg.device))
    cache = ReferenceCache(
        cfg.run.cache, weights=weights_digest(reference), dtype=dtype[0], device=device.type
    )
    absent = sum(not cache.has(pair) for pair in pairs)
    if absent:
        scorer = scorer or load_model(reference, dtype=dtype[1], device=device)
        bar = partial(tqdm, desc="reference", unit="batch")
        fill(cache, pairs, partial(score, scorer, cast), cfg.optim.microbatch, bar)
    print(f"reference  {cache.folder}: {absent} pairs scored, {len(pairs) - absent} found")
    if (
        scorer is not None
    ):  # the step-0 gate: a policy that differs from its reference starts from a wrong loss
        sample = [pairs[i] for i in epoch_order(len(pairs), cfg.run.seed, 2**31)[:8]]
        worst = disagreement(cache, sample, partial(score, scorer, cast))
        if worst > STEP_0_TOLERANCE[dtype[0]]:
            raise ValueError(
                f"{cache.folder} disagrees with its model by {worst:.3g} nats on a token (rounding explains "
                f"{STEP_0_TOLERANCE[dtype[0]]:g}); delete that folder and run again"
            )
    return [cache.of(pair) for pair in pairs]


def train_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[PairBatch],
    loss_fn: LossFunction,
    cast: partial,
    clip: float,
    metrics: Metrics,
) -> None:
    """One optimiser step on the mean over all pairs of the microbatches, however they were cut."""
    count = sum(len(batch.spans) for batch in batches)
    for batch in batches:
        with cast():
            logps = completion_logps(model, batch)
        policy = pair_sums(logps, batch)
        loss = loss_fn(policy, reference_sums(batch))
        (loss.losses.sum() / count).backward()
        measure(metrics, loss, policy, logps, batch)
    metrics.add(grad_norm=clip_grad_norm(model.parameters(), clip))
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def validate(model: Transformer, batches: Sequence[PairBatch], loss_fn: LossFunction, cast: partial) -> dict:
    """The metrics of the held-out pairs, named validation/..."""
    metrics = Metrics()
    for batch in batches:
        with cast():
            logps = completion_logps(model, batch)
        policy = pair_sums(logps, batch)
        measure(metrics, loss_fn(policy, reference_sums(batch)), policy, logps, batch)
    return {f"validation/{name}": value for name, value in metrics.means().items()}


@program
def main(cfg: Config) -> None:
    """Compose, read, load, score the reference, loop, save."""
    torch.manual_seed(cfg.run.seed)
    device = choose_device(cfg.device)
    dtype, weight_dtype = choose_dtype(cfg.model.dtype, device)
    cast = partial(autocast, dtype, device)
    loss_fn = loss_function(cfg.loss)

    start = checkpoint_folder(cfg, cfg.run.init)
    tokenizer = load_tokenizer(start)
    limits = {"max_prompt": cfg.data.max_prompt, "max_completion": cfg.data.max_completion}
    pairs, dropped = read_pairs(cfg.data.pairs, tokenizer, **limits)
    train, held_out = split_by_problem(pairs, cfg.data.validation_share, cfg.run.seed)
    print_audit(cfg.data.pairs, tokenizer, pairs, train, held_out, dropped)

    out = Path(cfg.run.dir, "dpo")
    per_epoch = math.ceil(len(train) / cfg.optim.batch)
    total_steps = per_epoch * cfg.optim.epochs
    last_step = min(total_steps, cfg.optim.max_steps or total_steps)
    objective = {
        "init": weights_digest(start),
        "reference": cfg.run.reference,
        "pairs": digest([(p.prompt_ids, p.chosen_ids, p.rejected_ids) for p in pairs]),
        "loss": OmegaConf.to_container(cfg.loss, resolve=True),
        "optim": {k: v for k, v in OmegaConf.to_container(cfg.optim).items() if not k.endswith("_every")},
        "model": {"dtype": dtype, "lora": OmegaConf.to_container(cfg.model.lora)},
        "data": {"weights": cfg.data.weights, "validation_share": cfg.data.validation_share},
        "seed": cfg.run.seed,
    }
    done = claim_output(out, objective, last_step)
    if done == last_step:
        return

    model = load_model(out if done else start, dtype=weight_dtype, device=device)
    model.checkpoint_activations = cfg.model.activation_checkpointing
    optimizer = adamw(model, cfg.optim.lr, tuple(cfg.optim.betas), cfg.optim.eps, cfg.optim.weight_decay)
    if done:
        load_state(out, optimizer)
    columns = {
        "reference": reference_columns(cfg, pairs, start, None if done else model, cast),
        "weights": read_columns(cfg.data.weights, pairs) if cfg.data.weights else None,
    }

    def batches(index: Sequence[int]) -> list[PairBatch]:
        """The microbatches of the pairs at `index`, on the device."""
        groups = microbatches([token_count(pairs[i]) for i in index], cfg.optim.microbatch)
        return [collate(pairs, [index[i] for i in group], **columns).to(device) for group in groups]

    schedule = partial(
        learning_rate,
        peak=cfg.optim.lr,
        warmup_steps=round(cfg.optim.warmup * total_steps),
        total_steps=total_steps,
        schedule=cfg.optim.schedule,
    )
    log, metrics, interrupt = MetricsLog(out.with_name("dpo.metrics.jsonl"), done), Metrics(), Interrupt()
    best, clock, unread, saved = math.inf, time.perf_counter(), [], done
    bar = tqdm(range(done, last_step), initial=done, total=last_step, desc="train_dpo", unit="step")
    for step in bar:
        epoch, within = divmod(step, per_epoch)
        order = epoch_order(len(train), cfg.run.seed, epoch)[within * cfg.optim.batch :][: cfg.optim.batch]
        index = [train[i] for i in order]
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        train_step(model, optimizer, batches(index), loss_fn, cast, cfg.optim.clip, metrics)
        unread += [pairs[i].task_id for i in index]

        done, last = step + 1, step + 1 == last_step or interrupt.signal is not None
        saving = last or due(done, cfg.optim.save_every)
        if saving or due(done, cfg.optim.log_every):
            values = metrics.means() | {"lr": schedule(step), "epoch": done / per_epoch}
            check_finite(values, done, saved, unread)
            unread = []
            bar.set_postfix(loss=f"{values['loss']:.4f}", accuracy=f"{values['rewards/accuracies']:.2f}")
            log.write(done, values | {"seconds": time.perf_counter() - clock})
        if held_out and (last or due(done, cfg.optim.validate_every)):
            values = validate(model, batches(held_out), loss_fn, cast)
            log.write(done, values)
            if cfg.optim.validate_every and values["validation/loss"] < best:
                best = values["validation/loss"]
                save_model(model, out.with_name("dpo-best"), tokenizer_from=start)
        if saving:
            position = {"step": done, "last_step": last_step, "objective": objective}
            save_checkpoint(model, out, tokenizer_from=start, optimizer=optimizer, **position)
            saved = done
        if interrupt.signal is not None and done < last_step:
            print(f"\nstopped after step {done} of {last_step}; {out} is saved, the same command goes on")
            sys.exit(128 + interrupt.signal)

    seconds = time.perf_counter() - clock
    write_provenance(out, objective=objective, pairs=cfg.data.pairs, dropped=dropped, seconds=seconds)
    print(f"policy     {out}")


if __name__ == "__main__":
    main()
