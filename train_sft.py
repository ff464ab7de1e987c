"""Likelihood training: makes the first policy, or fine-tunes one on demonstrations (RFT: on passing samples).

    python train_sft.py +exp=toy_base                          # the checkpoint that ships with the repository
    python train_sft.py +exp=quickstart data.demonstrations.path=FILE      # JSON lines: prompt, completion

The same loop as train_dpo.py with one side, no reference and a mean over completion tokens; with
`model.path: null` it first builds a tokenizer and a new model from `model.architecture`.
"""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf

from conf.objective import claim_output, make_room, reserve, training_objective
from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.audit import check_positions
from data.json_files import read_json
from data.jsonl import digest, iterate_jsonl, write_provenance
from data.pairs import PairBatch, collate, epoch_order, microbatches, split_by_problem, token_count
from data.tokenizer import Tokenizer, check_vocabulary, load_tokenizer, train_tokenizer
from data.toy import demonstrations
from data.types import PreferencePair
from model.checkpoint import weights_digest
from model.distributed import on_first, reshard, share, total
from model.families import parse_config
from model.optim import adamw, clip_grad_norm
from model.training import (
    Compute,
    Interrupt,
    Metrics,
    MetricsLog,
    Plan,
    as_trained,
    check_finite,
    compile_blocks,
    due,
    load_policy,
    load_state,
    progress,
    save_checkpoint,
)
from model.transformer import Transformer
from train_dpo import completion_logps


def read_demonstrations(cfg: Config) -> list[dict]:
    """Rows with task_id, prompt, completion: the toy problems' own, or a JSONL file's."""
    toy = cfg.data.demonstrations
    if toy.path is None:
        return demonstrations(
            toy.count, cfg.data.seed, bug_share=toy.bug_share, bug_rate=toy.bug_rate, bug_seed=toy.bug_seed
        )
    rows = []
    for number, row in iterate_jsonl(toy.path):
        if not (isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str)):
            raise ValueError(f"{toy.path}, line {number}: prompt and completion must be text")
        name = row.get("task_id")
        rows.append(row | {"task_id": f"line-{number}" if name is None else str(name)})
    return rows


def tokenise(rows: list[dict], tokenizer: Tokenizer, cfg: Config) -> tuple[list[PreferencePair], Counter]:
    """Demonstrations as pairs whose rejected side is empty, so that they share the pairs' layout."""
    examples, dropped = [], Counter()
    for row in rows:
        prompt, completion = tokenizer.prompt_ids(row["prompt"]), tokenizer.completion_ids(row["completion"])
        if len(prompt) > cfg.data.max_prompt or len(completion) > cfg.data.max_completion:
            dropped["longer than data.max_prompt or data.max_completion"] += 1
        else:
            examples.append(
                PreferencePair(row["task_id"], row["prompt"], row["completion"], "", prompt, completion, [])
            )
    if not examples:
        raise ValueError(f"no demonstration to train on ({dict(dropped)})")
    return examples, dropped


def own_tokenizer(rows: list[dict], cfg: Config) -> Path:
    """The folder of a tokenizer trained on the demonstrations; made anew when they or its size are others.

    One that lies there without a note of what made it is taken as it is.
    """
    reserve(Path(cfg.run.dir, "sft"))  # whose tokenizer it is
    texts = [row["prompt"] + row["completion"] for row in rows]
    folder, size = Path(cfg.run.dir, "tokenizer"), cfg.data.demonstrations.vocabulary
    meta, made_of = folder.with_name("tokenizer.meta.json"), digest(texts, size)
    if folder.exists() and (not meta.exists() or read_json(meta).get("made_of") == made_of):
        return folder
    staging = folder.with_name(".tokenizer.making")
    shutil.rmtree(staging, ignore_errors=True)
    train_tokenizer(texts, staging, size)
    shutil.rmtree(folder, ignore_errors=True)
    write_provenance(folder, made_of=made_of)
    staging.rename(folder)
    return folder


def new_model(cfg: Config, tokenizer: Tokenizer) -> Transformer:
    """A model with random weights: `model.architecture` is its config.json, less the tokenizer's numbers."""
    ids = {"vocab_size": tokenizer.size, "bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    published = OmegaConf.to_container(cfg.model.architecture) | ids
    model = Transformer(parse_config(published))
    model.source_config = published  # what of config.json the computation does not need is kept when saving
    print(f"new model  {sum(p.numel() for p in model.parameters()):,} parameters")
    return model


def train_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[PairBatch],
    compute: Compute,
    clip: float,
    metrics: Metrics,
) -> None:
    """One optimiser step on the mean over the completion tokens of all its batches."""
    tokens = total(sum(len(batch.target) for batch in batches))
    for batch in batches:
        with compute.cast():
            logps = completion_logps(model, batch)
        (-logps.sum() / tokens).backward()
        metrics.add(loss=-logps)
    metrics.add(grad_norm=clip_grad_norm(model.parameters(), clip))
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def validate(model: Transformer, batches: Sequence[PairBatch], compute: Compute) -> dict[str, float]:
    """Mean loss per held-out completion token."""
    metrics = Metrics()
    for batch in batches:
        with compute.cast():
            metrics.add(loss=-completion_logps(model, batch))
    reshard(model)
    return {"validation/loss": metrics.means()["loss"]}


@program
def main(cfg: Config) -> int | None:
    """Compose, read, load or build, loop, save."""
    torch.manual_seed(cfg.run.seed)
    compute = Compute.choose(cfg.device, cfg.model.dtype).join()

    rows = read_demonstrations(cfg)
    start = checkpoint_folder(cfg, cfg.run.init) if cfg.model.path or cfg.run.init else None
    vocabulary = start or on_first(own_tokenizer, rows, cfg)
    if start is None and cfg.model.lora.rank:
        raise ValueError(
            f"model.lora.rank is {cfg.model.lora.rank}, and there is no checkpoint to adapt: set model.path "
            "or run.init, or train all weights with model.lora.rank=0"
        )
    tokenizer = load_tokenizer(vocabulary)
    examples, dropped = tokenise(rows, tokenizer, cfg)
    train, held_out = split_by_problem(examples, cfg.data.validation_share, cfg.run.seed)
    print(
        f"examples   {len(train)} to train on, {len(held_out)} held out; dropped: {dict(dropped) or 'none'}"
    )

    out = Path(cfg.run.dir, "sft")
    plan = Plan.of(cfg.optim, len(train))
    objective = training_objective(
        cfg,
        compute.dtype,
        None,
        init=weights_digest(start) if start else OmegaConf.to_container(cfg.model.architecture),
        examples=digest([(e.prompt_ids, e.chosen_ids) for e in examples]),
    )
    done = on_first(claim_output, out, objective, plan.last, start)
    if done == plan.last:
        return

    if start or done:
        resumed = out if done else None
        model = load_policy(start or out, resumed, compute, cfg.model.check_weights, **cfg.model.lora)
    else:
        model = as_trained(new_model(cfg, tokenizer).to(compute.device, compute.weights), compute)
    check_vocabulary(tokenizer, model.config.vocab_size)
    check_positions(examples, model.config)
    model.checkpoint_activations = cfg.model.activation_checkpointing
    if cfg.model.compile:
        compile_blocks(model)
    optimizer = adamw(model, cfg.optim.lr, tuple(cfg.optim.betas), cfg.optim.eps, cfg.optim.weight_decay)
    kept = load_state(out, optimizer, compute.device) if done else {}

    def batches(index: Sequence[int]) -> list[PairBatch]:
        """This process's microbatches of the examples at `index`, on the device."""
        groups = share(microbatches([token_count(examples[i]) for i in index], cfg.optim.microbatch))
        return [collate(examples, [index[i] for i in group]).to(compute.device) for group in groups]

    on_first(make_room, out, done)
    log, metrics, interrupt = MetricsLog(out.with_name("sft.metrics.jsonl"), done), Metrics(), Interrupt()
    clock = time.perf_counter() - kept.get("made_by", {"seconds": 0})["seconds"]
    unread, saved = [], done
    bar = progress(range(done, plan.last), initial=done, total=plan.last, desc="train_sft", unit="step")
    for step in bar:
        epoch, places = plan.place(step)
        index = [train[i] for i in epoch_order(len(train), cfg.run.seed, epoch)[places]]
        for group in optimizer.param_groups:
            group["lr"] = plan.schedule(step)
        train_step(model, optimizer, batches(index), compute, cfg.optim.clip, metrics)
        unread += [examples[i].task_id for i in index]

        done, last, stop = step + 1, step + 1 == plan.last, interrupt.signal()
        saving = last or stop or due(done, cfg.optim.save_every)
        if saving or due(done, cfg.optim.log_every):
            values = metrics.means() | {"lr": plan.schedule(step), "epoch": done / plan.per_epoch}
            check_finite(values, done, saved, unread)
            unread = []
            bar.set_postfix(loss=f"{values['loss']:.4f}")
            log.write(done, values | {"seconds": time.perf_counter() - clock})
        if held_out and (last or due(done, cfg.optim.validate_every)):
            log.write(done, validate(model, batches(held_out), compute))
        if saving:
            position = {"step": done, "last_step": plan.last, "objective": objective}
            made_by = {"dropped": dropped, "seconds": time.perf_counter() - clock}
            memory = {"optimizer": optimizer, "made_by": made_by}
            save_checkpoint(model, out, tokenizer_from=vocabulary, **memory, **position)
            saved = done
        if stop and not last:
            print(f"\nstopped after step {done} of {plan.last}; {out} is saved, the same command goes on")
            return 128 + stop

    on_first(write_provenance, out, objective=objective, **made_by)
    print(f"policy     {out}")


if __name__ == "__main__":
    main()
