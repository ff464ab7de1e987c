"""train_dpo.py for losses that ask for more than sums of log-probs: TDPO, TIS-DPO's divergence, WPO, KTO.

    python -m variants.train_measured +exp=tdpo            # also wpo, kto, tis_divergence
    diff train_dpo.py variants/train_measured.py           # what such a method changes

Before a loss is called, its measurements are taken (variants/measurements.py) and bound to it. Divergences
and mismatched log-ratios ask a second model, the reference, at every step: its weights stay in memory (none
with adapters) and it costs another forward pass. WPO needs neither. Reference log-probs come from the cache,
as ever; several processes share the work and both models as in train_dpo.py. Letters: B pairs, N completion
tokens, D width.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from conf.loss_function import loss_function
from conf.objective import claim_output, make_room, training_objective
from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.audit import check_positions, check_whole_steps, print_audit
from data.columns import read_columns
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
from data.tokenizer import check_vocabulary, load_tokenizer
from losses.contract import needs_whole_batch, takes
from losses.logprobs import token_logps
from losses.types import LossFunction, PreferenceLoss
from model.checkpoint import weights_digest
from model.distributed import on_first, require_one_process, reshard, share, total
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
from train_dpo import pair_sums, reference_columns, reference_sums
from variants.measurements import MEASURED, asked, completion_hidden, measurements, reference_model

Measure = Callable[[Tensor, PairBatch], dict[str, Tensor]]  # (hidden [N, D], batch) -> the loss's keywords


def pair_losses(
    model: Transformer,
    batch: PairBatch,
    loss_fn: LossFunction,
    measure: Measure,
    compute: Compute,
    metrics: Metrics,
) -> PreferenceLoss:
    """The loss of each pair, and the field's metrics; `measured/` holds what the loss asked for.

    A label without a partner (variants/unpaired.py) has a side of one token with weight 0, which the metrics
    of that side leave out: they are means over the completions that count, 0 where there is none. Its
    accuracy says whether the reward of the other side has the sign of the label.
    """
    with compute.cast():
        hidden = completion_hidden(model, batch)
        head, softcap = model.lm_head.weight, model.config.logit_softcap
        logps = token_logps(hidden, head, batch.target, softcap=softcap)
        measured = measure(hidden, batch)
    policy = pair_sums(logps, batch)
    out = loss_fn(policy, reference_sums(batch), **measured)
    chosen = rejected = slice(None)
    if (batch.spans[:, 2:] == 0).any():  # else no side has one token; the host knows, and waits for nothing
        weight = pair_sums(torch.ones_like(logps), batch)
        chosen, rejected = (side.nonzero().flatten() for side in weight[:2])
    noted = {
        "loss": out.losses,
        "rewards/chosen": out.chosen_rewards[chosen],
        "rewards/rejected": out.rejected_rewards[rejected],
        "rewards/margins": margins(out, chosen, rejected),
        "rewards/accuracies": (out.chosen_rewards > out.rejected_rewards).float(),
        "logps/chosen": policy.chosen[chosen],
        "logps/rejected": policy.rejected[rejected],
        "lengths/chosen": policy.chosen_length[chosen],
        "lengths/rejected": policy.rejected_length[rejected],
        "end_probability/chosen": logps[batch.last[: len(batch.spans)][chosen]].exp(),
    }
    metrics.add(**noted, **{f"measured/{name}": value for name, value in measured.items()})
    return out


def margins(out: PreferenceLoss, chosen: Tensor | slice, rejected: Tensor | slice) -> Tensor:
    """Chosen minus rejected rewards, [B], of a batch in which these rows of the two sides count.

    Where labels lack partners, the mean of these numbers is the difference of the two sides' means; a batch
    without one of the labels has none, [0].
    """
    count, *counted = (len(out.losses[rows]) for rows in (slice(None), chosen, rejected))
    if not all(counted):
        return out.chosen_rewards[:0]
    return out.chosen_rewards * (count / counted[0]) - out.rejected_rewards * (count / counted[1])


def train_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[PairBatch],
    loss_fn: LossFunction,
    measure: Measure,
    compute: Compute,
    clip: float,
    metrics: Metrics,
) -> Tensor | None:
    """One optimiser step on the mean over all its pairs, wherever they are; returns the loss's own state."""
    if len(batches) > 1 and needs_whole_batch(loss_fn):
        raise ValueError("this loss couples the pairs of a step: raise optim.microbatch or lower optim.batch")
    count = total(sum(len(batch.spans) for batch in batches))
    for batch in batches:
        out = pair_losses(model, batch, loss_fn, measure, compute, metrics)
        (out.losses.sum() / count).backward()
    metrics.add(grad_norm=clip_grad_norm(model.parameters(), clip))
    optimizer.step()
    optimizer.zero_grad()
    return out.state


@torch.no_grad()
@torch.random.fork_rng(devices=[])  # a loss may draw; training draws the same with and without validation
def validate(
    model: Transformer,
    batches: Sequence[PairBatch],
    loss_fn: LossFunction,
    measure: Measure,
    compute: Compute,
) -> dict:
    """The metrics of the held-out pairs, named validation/..."""
    metrics = Metrics()
    for batch in batches:
        pair_losses(model, batch, loss_fn, measure, compute, metrics)
    reshard(model)
    return {f"validation/{name}": value for name, value in metrics.means().items()}


@program
def main(cfg: Config) -> int | None:
    """Compose, read, load, score the reference, keep it where the loss asks for it, loop, save."""
    torch.manual_seed(cfg.run.seed)
    compute = Compute.choose(cfg.device, cfg.model.dtype).join()
    loss_fn = loss_function(cfg.loss)
    if not asked(loss_fn):
        raise ValueError(f"loss {cfg.loss._target_} asks for none of {', '.join(MEASURED)}; use train_dpo.py")

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
    inputs = {"init": weights_digest(start), "pairs": digest(ids), "measured": asked(loss_fn)}
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

    reference = reference_model(cfg, start, model, compute, loss_fn)
    measure = partial(measurements, loss_fn, model, reference, pairs, columns["weights"])

    def batches(index: Sequence[int]) -> list[PairBatch]:
        """This process's microbatches of the pairs at `index`, on the device."""
        groups = share(microbatches([token_count(pairs[i]) for i in index], cfg.optim.microbatch, plan.batch))
        return [collate(pairs, [index[i] for i in group], **columns).to(compute.device) for group in groups]

    on_first(make_room, out, done)
    log, metrics, interrupt = MetricsLog(out.with_name("dpo.metrics.jsonl"), done), Metrics(), Interrupt()
    clock = time.perf_counter() - kept.get("made_by", {"seconds": 0})["seconds"]
    unread, saved = [], done
    bar = progress(range(done, plan.last), initial=done, total=plan.last, desc="train_measured", unit="step")
    for step in bar:
        epoch, places = plan.place(step)
        index = [train[i] for i in epoch_order(len(train), cfg.run.seed, epoch)[places]]
        for group in optimizer.param_groups:
            group["lr"] = plan.schedule(step)
        now = partial(loss_fn, state=state) if takes(loss_fn, "state") else loss_fn
        state = train_step(model, optimizer, batches(index), now, measure, compute, cfg.optim.clip, metrics)
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
            values = validate(model, batches(held_out), now, measure, compute)
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
