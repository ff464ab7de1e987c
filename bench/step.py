"""Seconds, CPU seconds, losses and peak memory of optimiser steps taken by train_dpo.py's own functions.

    python bench/step.py --model DIR --pairs FILE --steps 4 --batch 4 --dtype fp32

Step i uses pairs [i*B, (i+1)*B) of the file in order, wrapping; their prompt_ids, chosen_ids and rejected_ids
are used as they are. Sigmoid DPO with beta 0.1 against the initial weights; AdamW, constant lr 5e-5, betas
0.9 and 0.999, eps 1e-8, no decay; clip 1.0. A step is laying out its batch, forward, backward, update. The
last line is `BENCH {json}`:

    step_s, cpu_s     wall and process seconds of each step
    sys_s             seconds of each step in the kernel (page faults)
    losses            mean loss of each step
    peak_mb, base_mb  largest resident size of the process, and its size once everything was imported
    ref_s, ref_pairs  seconds of the reference pass, and how many pairs it scored: those the steps use
    cuda_mb           most memory allocated on a GPU
"""

import sys
import tempfile
from argparse import Namespace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.measure import (
    BETA,
    BETAS,
    CLIP,
    DECAY,
    EPS,
    LEARNING_RATE,
    Clock,
    Run,
    arguments,
    memory_mb,
    places,
    read_ids,
)
from data.pairs import PairBatch, collate, microbatches, token_count
from data.reference_cache import ReferenceCache, Sides, fill
from data.types import PreferencePair
from losses.dpo import dpo_loss
from model.optim import adamw
from model.training import Compute, Metrics, load_policy
from model.transformer import Transformer
from train_dpo import score, train_step


def score_reference(
    model: Transformer, compute: Compute, pairs: list[PreferencePair], budget: int
) -> list[Sides]:
    """The reference column, filled as train_dpo.py fills it, in a cache that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        cache = ReferenceCache(folder, weights="initial")
        fill(cache, pairs, partial(score, model, compute), budget)
        return [cache.of(pair) for pair in pairs]


def measure(args: Namespace) -> Run:
    """Load, score the reference, take the steps."""
    run = Run("project", base_mb=memory_mb())
    compute = Compute.choose(args.device, args.dtype)
    pairs = read_ids(args.pairs, args.steps * args.batch)

    model = load_policy(args.model, None, compute)
    model.checkpoint_activations = args.checkpoint_activations
    optimizer = adamw(model, LEARNING_RATE, BETAS, EPS, DECAY)
    clock = Clock(args.device)
    reference = score_reference(model, compute, pairs, args.microbatch)
    run.ref_s, run.ref_pairs = clock.lap()[0], len(pairs)

    def batches(index: list[int]) -> list[PairBatch]:
        groups = microbatches([token_count(pairs[i]) for i in index], args.microbatch)
        return [
            collate(pairs, [index[i] for i in group], reference=reference).to(compute.device)
            for group in groups
        ]

    metrics = Metrics()
    for step in range(args.steps):
        clock.lap()
        laid_out = batches(places(step, args.batch, len(pairs)))
        train_step(model, optimizer, laid_out, partial(dpo_loss, beta=BETA), compute, CLIP, metrics)
        run.note(clock.lap(), metrics.means()["loss"])
    return run


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--microbatch", type=int, default=8192, help="tokens at a time, as optim.microbatch")
    parser.add_argument("--checkpoint-activations", action="store_true")
    args = parser.parse_args()
    if args.steps < 1 or args.batch < 1:
        parser.error(f"--steps {args.steps} and --batch {args.batch} must be at least 1")
    try:
        measure(args).report()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
