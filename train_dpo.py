"""DPO training, top to bottom: pairs, reference log-probs, loop, checkpoint.

    python train_dpo.py +exp=quickstart loss.beta=0.05
    python train_dpo.py +exp=quickstart loss=ipo               # or another of README's losses
    torchrun --nproc-per-node 8 train_dpo.py model=pretrained model.path=...     # model/distributed.py

The reference is never a second model: before its first step the policy *is* the reference, so it scores the
pairs once and the numbers are kept on disk (data/reference_cache.py). Letters: B pairs, T tokens of a batch,
N completion tokens, D width.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from conf.loss_function import loss_function
from conf.objective import claim_output, make_room, training_objective
from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.audit import check_positions, check_whole_steps, print_audit
from data.columns import is_columns, read_columns, read_reference
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
from data.reference_cache import ReferenceCache, Sides, disagreement, fill
from data.tokenizer import check_vocabulary, load_tokenizer
from data.types import PreferencePair
from losses.contract import needs_whole_batch, takes
from losses.logprobs import token_logps
from losses.types import LossFunction, PairLogps, PreferenceLoss
from model.checkpoint import weights_digest
from model.distributed import on_first, require_one_process, reshard, share, total, wait
from model.lora import disabled
from model.optim import adamw, clip_grad_norm
from model.training import (
    Compute,
    Interrupt,
    Metrics,
    MetricsLog,
    Plan,
    check_finite,
    compile_blocks,
    due,
    load_policy,
    load_state,
    progress,
    save_checkpoint,
    save_policy,
)
from model.transformer import Transformer

STEP_0_TOLERANCE = {"fp32": 1e-3, "amp": 0.1, "bf16": 0.3}  # nats per token, policy against reference


def completion_logps(model: Transformer, batch: PairBatch) -> Tensor:
    """Log-prob of every completion token, [N] float32."""
    hidden = model(batch.ids, batch.positions, batch.spans, batch.source)  # [N, D]
    return token_logps(hidden, model.lm_head.weight, batch.target, softcap=model.config.logit_softcap)


def pair_sums(logps: Tensor, batch: PairBatch) -> PairLogps:
    """Weighted sums over each completion: the one place where tokens become sequences."""
    sums = logps.new_zeros(2 * len(batch.spans)).index_add(0, batch.row, logps * batch.weights)
    return PairLogps(*sums.chunk(2), *batch.lengths.chunk(2))


def reference_sums(batch: PairBatch) -> PairLogps:
    """The same sums of the reference, computed from the cache when the batch was laid out."""
    return PairLogps(*batch.reference.chunk(2), *batch.lengths.chunk(2))


@torch.no_grad()
def score(model: Transformer, compute: Compute, pairs: Sequence[PreferencePair]) -> list[Sides]:
    """Per-token log-probs (chosen, rejected) of each pair: what the reference cache stores."""
    batch = collate(pairs, range(len(pairs))).to(compute.device)
    with compute.cast():
        logps = completion_logps(model, batch).cpu().numpy()
    reshard(model)
    ends = np.cumsum([len(ids) for pair in pairs for ids in (pair.chosen_ids, pair.rejected_ids)])
    sides = np.split(logps, ends.astype(int))[:-1]
    return list(zip(sides[::2], sides[1::2], strict=True))


def pair_losses(
    model: Transformer, batch: PairBatch, loss_fn: LossFunction, compute: Compute, metrics: Metrics
) -> PreferenceLoss:
    """The loss of each pair; notes the field's metrics and what rewards hide: log-probs, lengths, P(end)."""
    with compute.cast():
        logps = completion_logps(model, batch)
    policy = pair_sums(logps, batch)
    out = loss_fn(policy, reference_sums(batch))
    noted = {
        "loss": out.losses,
        "rewards/chosen": out.chosen_rewards,
        "rewards/rejected": out.rejected_rewards,
        "rewards/margins": out.chosen_rewards - out.rejected_rewards,
        "rewards/accuracies": (out.chosen_rewards > out.rejected_rewards).float(),
        "logps/chosen": policy.chosen,
        "logps/rejected": policy.rejected,
        "lengths/chosen": policy.chosen_length,
        "lengths/rejected": policy.rejected_length,
        "end_probability/chosen": logps[batch.last[: len(batch.spans)]].exp(),
    }
    metrics.add(**noted)
    return out


def reference_columns(
    cfg: Config,
    pairs: Sequence[PreferencePair],
    start: Path,
    policy: Transformer,
    compute: Compute,
    done: int,
) -> list[Sides]:
    """Per-token reference log-probs of every pair, from the cache, which is filled first where it lacks some.

    Before its first step the policy is the reference; with adapters it is for ever, with them switched off.
    """
    if is_columns(cfg.run.reference):  # none, or made elsewhere, such as a mixture
        return read_reference(cfg.run.reference, pairs)
    reference = checkpoint_folder(cfg, cfg.run.reference) if cfg.run.reference else start
    same = reference == start and (done == 0 or cfg.model.lora.rank > 0)
    where = {"dtype": compute.dtype, "device": compute.device.type}
    cache = ReferenceCache(cfg.run.cache, weights=weights_digest(reference), **where)
    absent = on_first(cache.lacking, pairs)  # others add to the cache meanwhile: one answer for all processes
    cache.read()
    if same or absent:
        model = policy if same else load_policy(reference, None, compute)
        rescore = partial(score, model, compute)
        sample = [pairs[i] for i in epoch_order(len(pairs), cfg.run.seed, 2**31)[:8]]
        with disabled(model):
            bar = partial(progress, desc="reference", unit="batch")
            fill(cache, [pairs[i] for i in absent], rescore, cfg.optim.microbatch, bar, share)
            wait()
            cache.read()  # what the other processes scored
            worst = disagreement(cache, sample, rescore)
        if worst > STEP_0_TOLERANCE[compute.dtype]:  # the loss would not start at log 2
            raise ValueError(
                f"{cache.folder} disagrees with its model by {worst:.3g} nats on a token (rounding explains "
                f"{STEP_0_TOLERANCE[compute.dtype]:g}); delete that folder and run again"
            )
    print(f"reference  {cache.folder}: {len(absent)} pairs scored, {len(pairs) - len(absent)} found")
    return [cache.of(pair) for pair in pairs]


def train_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[PairBatch],
    loss_fn: LossFunction,
    compute: Compute,
    clip: float,
    metrics: Metrics,
) -> Tensor | None:
    """One optimiser step on the mean over all its pairs, wherever they are; returns the loss's own state."""
    if len(batches) > 1 and needs_whole_batch(loss_fn):
        raise ValueError("this loss couples the pairs of a step: raise optim.microbatch or lower optim.batch")
    count = total(sum(len(batch.spans) for batch in batches))
    for batch in batches:
        out = pair_losses(model, batch, loss_fn, compute, metrics)
        (out.losses.sum() / count).backward()
    metrics.add(grad_norm=clip_grad_norm(model.parameters(), clip))
    optimizer.step()
    optimizer.zero_grad()
    return out.state


@torch.no_grad()
@torch.random.fork_rng(devices=[])  # a loss may draw; training draws the same with and without validation
def validate(
    model: Transformer, batches: Sequence[PairBatch], loss_fn: LossFunction, compute: Compute
) -> dict:
    """The metrics of the held-out pairs, named validation/..."""
    metrics = Metrics()
    for batch in batches:
        pair_losses(model, batch, loss_fn, compute, metrics)
    reshard(model)
    return {f"validation/{name}": value for name, value in metrics.means().items()}


@program
def main(cfg: Config) -> int | None:
    """Compose, read, load, score the reference, loop, save."""
    torch.manual_seed(cfg.run.seed)
    compute = Compute.choose(cfg.device, cfg.model.dtype).join()
    loss_fn = loss_function(cfg.loss, sums_only=True)

    start = checkpoint_folder(cfg, cfg.run.init)
    tokenizer = load_tokenizer(start)
    limits = {"max_prompt": cfg.data.max_prompt, "max_completion": cfg.data.max_completion}
    pairs, dropped = read_pairs(cfg.data.pairs, tokenizer, **limits)
    train, held_out = split_by_problem(pairs, cfg.data.validation_share, cfg.run.seed)
    print_audit(cfg.data.pairs, tokenizer, pairs, train, held_out, dropped)

    out = Path(cfg.run.dir, "dpo")
    plan = Plan.of(cfg.optim, len(train))
    if needs_whole_batch(loss_fn):
        require_one_process("this loss couples the pairs of a step")
        check_whole_steps([token_count(pairs[i]) for i in train], plan, cfg.run.seed, cfg.optim.microbatch)
    ids = [(p.prompt_ids, p.chosen_ids, p.rejected_ids) for p in pairs]
    inputs = {"init": weights_digest(start), "pairs": digest(ids)}
    objective = training_objective(cfg, compute.dtype, loss_fn, **inputs)
    done = on_first(claim_output, out, objective, plan.last, start)
    if done == plan.last:
        return

    model = load_policy(start, out if done else None, compute, cfg.model.check_weights, **cfg.model.lora)
    check_vocabulary(tokenizer, model.config.vocab_size)
    check_positions(pairs, model.config)
    model.checkpoint_activations = cfg.model.activation_checkpointing
    if cfg.model.compile:
        compile_blocks(model)
    optimizer = adamw(model, cfg.optim.lr, tuple(cfg.optim.betas), cfg.optim.eps, cfg.optim.weight_decay)
    kept = load_state(out, optimizer, compute.device) if done else {}
    state, best = kept.get("loss_state"), kept.get("best")  # what the loss remembers; loss of dpo-best
    columns = {
        "weights": read_columns(cfg.data.weights, pairs) if cfg.data.weights else None,
        "reference": reference_columns(cfg, pairs, start, model, compute, done),
    }

    def batches(index: Sequence[int]) -> list[PairBatch]:
        """This process's microbatches of the pairs at `index`, on the device."""
        groups = share(microbatches([token_count(pairs[i]) for i in index], cfg.optim.microbatch, plan.batch))
        return [collate(pairs, [index[i] for i in group], **columns).to(compute.device) for group in groups]

    on_first(make_room, out, done)
    log, metrics, interrupt = MetricsLog(out.with_name("dpo.metrics.jsonl"), done), Metrics(), Interrupt()
    clock = time.perf_counter() - kept.get("made_by", {"seconds": 0})["seconds"]
    unread, saved = [], done
    bar = progress(range(done, plan.last), initial=done, total=plan.last, desc="train_dpo", unit="step")
    for step in bar:
        epoch, places = plan.place(step)
        index = [train[i] for i in epoch_order(len(train), cfg.run.seed, epoch)[places]]
        for group in optimizer.param_groups:
            group["lr"] = plan.schedule(step)
        now = partial(loss_fn, state=state) if takes(loss_fn, "state") else loss_fn
        state = train_step(model, optimizer, batches(index), now, compute, cfg.optim.clip, metrics)
        unread += [pairs[i].task_id for i in index]

        done, last, stop = step + 1, step + 1 == plan.last, interrupt.signal()
        saving = last or stop or due(done, cfg.optim.save_every)
        if saving or due(done, cfg.optim.log_every):
            values = metrics.means() | {"lr": plan.schedule(step), "epoch": done / plan.per_epoch}
            check_finite(values, done, saved, unread)
            unread = []
            bar.set_postfix(loss=f"{values['loss']:.4f}", accuracy=f"{values['rewards/accuracies']:.2f}")
            log.write(done, values | {"seconds": time.perf_counter() - clock})
        if held_out and (last or due(done, cfg.optim.validate_every)):
            values = validate(model, batches(held_out), now, compute)
            log.write(done, values)
            loss, limit = values["validation/loss"], float("inf") if best is None else best
            if cfg.optim.validate_every and loss < limit:
                best = loss
                save_policy(model, out.with_name("dpo-best"), tokenizer_from=start)
        if saving:
            memory = {"optimizer": optimizer, "loss_state": state, "best": best}
            position = {"step": done, "last_step": plan.last, "objective": objective}
            made_by = {"pairs": cfg.data.pairs, "dropped": dropped, "seconds": time.perf_counter() - clock}
            save_checkpoint(model, out, tokenizer_from=start, **memory, **position, made_by=made_by)
            saved = done
        if stop and not last:
            print(f"\nstopped after step {done} of {plan.last}; {out} is saved, the same command goes on")
            return 128 + stop

    on_first(write_provenance, out, objective=objective, **made_by)
    print(f"policy     {out}")


if __name__ == "__main__":
    main()
