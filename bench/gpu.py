"""DPO steps and sampling on one GPU at the shapes of Qwen2.5-Coder 1.5B and 7B, beside TRL and transformers.

    python bench/gpu.py                          all sections; a few minutes on an H200
    python bench/gpu.py ceiling step --models 7b --pairs 8 --prompt 1024 --completion 1024

Weights are random, made on the device; pairs are random ids of fixed lengths. Sections:

    ceiling   a large bfloat16 matrix product and a copy: what utilisation is measured against
    step      optimiser steps by train_dpo.py's own functions (bfloat16 weights, float32 masters), with
              activation checkpointing off and on, and compiled; the last one fails on a host synchronisation
    trl       the same steps by DPOTrainer with precomputed reference (bfloat16 weights, no masters)
    sample    64 samples of one prompt, eager and with CUDA graphs, beside transformers.generate

Tokens per second count what two separate sequences hold, 2 (prompt + completion) a pair, for everyone: a
trainer that computes the prompt once is faster, not slower, by that count. Utilisation counts what our layout
must compute (bench/shapes.py) over the measured ceiling. The last line is `BENCH {json}`.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.measure import BETA, BETAS, CLIP, DECAY, EPS, LEARNING_RATE
from bench.shapes import CONFIGS, random_pairs, random_peer, random_policy, step_flops
from bench.step import score_reference
from data.pairs import collate, microbatches, token_count
from losses.dpo import dpo_loss
from model.cuda_graphs import StepGraphs
from model.generate import Request, generate
from model.optim import adamw
from model.training import Compute, Metrics, compile_blocks
from train_dpo import train_step

SECTIONS = ("ceiling", "step", "trl", "sample")
VARIANTS = {"plain": {}, "checkpoint": {"checkpoint": True}, "compile": {"compile": True}}
GB = 1e9


def clear() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def timed(work: Callable[[], object], repeat: int = 1) -> list[float]:
    """Seconds of each call, the device idle before and after."""
    seconds = []
    for _ in range(repeat):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def ceiling(size: int = 8192) -> dict:
    """TFLOP/s of size^3 products on random data, TB/s of a copy (bytes read and written)."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    timed(lambda: a @ b, 3)
    seconds = statistics.median(timed(lambda: [a @ b for _ in range(10)], 5)) / 10
    large = torch.randn(2**30, device="cuda")
    copy = torch.empty_like(large)
    timed(lambda: copy.copy_(large), 2)
    moved = statistics.median(timed(lambda: copy.copy_(large), 5))
    return {"tflops": 2 * size**3 / seconds / 1e12, "copy_tb_s": 8 * large.numel() / moved / 1e12}


def our_steps(args: argparse.Namespace, name: str, variant: str, peak: float) -> dict:
    """Two steps to warm up, then `--steps`; the last of them under the watch for synchronisation."""
    options, config, compute = VARIANTS[variant], CONFIGS[name], Compute.choose("cuda", "bf16")
    pairs = random_pairs(config, args.pairs, args.prompt, args.completion)
    model = random_policy(config, compute)
    model.checkpoint_activations = options.get("checkpoint", False)
    if options.get("compile"):
        compile_blocks(model)
    optimizer = adamw(model, LEARNING_RATE, BETAS, EPS, DECAY)
    start = time.perf_counter()
    reference = score_reference(model, compute, pairs, args.microbatch)
    scored = time.perf_counter() - start
    groups = list(microbatches([token_count(pair) for pair in pairs], args.microbatch))
    loss, metrics = partial(dpo_loss, beta=BETA), Metrics()

    def step() -> None:
        batches = [collate(pairs, group, reference=reference).to(compute.device) for group in groups]
        train_step(model, optimizer, batches, loss, compute, CLIP, metrics)

    warm = timed(step, 2)
    seconds = timed(step, args.steps)
    batches = [collate(pairs, group, reference=reference).to(compute.device) for group in groups]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        train_step(model, optimizer, batches, loss, compute, CLIP, metrics)
        synchronises = ""
    except RuntimeError as error:
        synchronises = str(error)[:200]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    flops = step_flops(model.config, pairs)
    row = report(args, seconds) | {
        "tflops": flops / statistics.median(seconds) / 1e12,
        "utilisation": flops / statistics.median(seconds) / 1e12 / peak if peak else None,
        "ref_s": scored,
        "warm_s": warm,
        "losses": metrics.means()["loss"],
        "synchronises": synchronises,
    }
    return row


def report(args: argparse.Namespace, seconds: Sequence[float]) -> dict:
    median = statistics.median(seconds)
    tokens = 2 * args.pairs * (args.prompt + args.completion)
    return {
        "step_s": list(seconds),
        "tokens_s": tokens / median,
        "pairs_s": args.pairs / median,
        "gb": torch.cuda.max_memory_allocated() / GB,
    }


def trl_steps(args: argparse.Namespace, name: str, checkpoint: bool) -> dict:
    """bench/peer_trl.py in a process of its own."""
    peer = str(Path(__file__).with_name("peer_trl.py"))
    command = [sys.executable, peer, "--config", name, "--device", "cuda"]
    command += ["--dtype", "bf16", "--precompute", "--steps", str(args.steps + 2), "--batch", str(args.pairs)]
    command += ["--lengths", str(args.prompt), str(args.completion), "--micro", str(args.micro)]
    command += ["--checkpoint-activations"] * checkpoint
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("BENCH ")]
    if not lines:
        return {"error": (done.stderr or done.stdout)[-600:]}
    found = json.loads(lines[-1].removeprefix("BENCH "))
    row = report(args, found["step_s"][2:])
    return row | {"gb": found["cuda_mb"] * 2**20 / GB, "ref_s": found["ref_s"], "losses": found["losses"]}


def samples(args: argparse.Namespace, name: str) -> dict:
    """Tokens per second of `--samples` samples of one prompt; what an eager and a recorded step take."""
    config, compute = CONFIGS[name], Compute.choose("cuda", "bf16")
    model = random_policy(config, compute).eval()
    prompt = random_pairs(config, 1, 256, 1)[0].prompt_ids
    request = Request("prompt", prompt, tuple(range(args.samples)), 0.8, max_new_tokens=args.new)
    tokens, rows = args.samples * args.new, {}
    for method, graphs in (("eager", None), ("graphs", StepGraphs())):
        run = partial(list, generate(model, [request], batch_size=args.samples, graphs=graphs))
        seconds = timed(run)
        again = generate(model, [request], batch_size=args.samples, graphs=graphs and StepGraphs())
        seconds += timed(partial(list, again))
        rows[method] = {"seconds": seconds, "tokens_s": tokens / seconds[-1]}
    del model
    clear()
    try:
        peer = random_peer(config, torch.bfloat16, "cuda").eval()
    except ImportError:
        return rows
    ids = torch.tensor([prompt], device="cuda")
    drawn = partial(
        peer.generate, ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=0.8, top_k=0,
        top_p=1.0, num_return_sequences=args.samples, min_new_tokens=args.new, max_new_tokens=args.new,
        pad_token_id=0,
    )  # fmt: skip
    seconds = timed(drawn, 2)
    rows["transformers"] = {"seconds": seconds, "tokens_s": tokens / seconds[-1]}
    return rows


def attempt(what: str, work: Callable[[], dict]) -> dict:
    """The result, or what went wrong: one section must not cost the others."""
    clear()
    start = time.perf_counter()
    try:
        row = work()
    except Exception as error:
        row = {"error": f"{type(error).__name__}: {str(error)[:400]}"}
    clear()
    row["section_s"] = time.perf_counter() - start
    shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    print(f"{what:28}", json.dumps(shown), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=list(SECTIONS))
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--pairs", type=int, default=16, help="a step")
    parser.add_argument("--prompt", type=int, default=512, help="tokens")
    parser.add_argument("--completion", type=int, default=512, help="tokens, of each side")
    parser.add_argument("--microbatch", type=int, default=12288, help="tokens at a time")
    parser.add_argument("--micro", type=int, default=4, help="TRL's pairs at a time")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--new", type=int, default=256, help="tokens of a sample")
    args = parser.parse_args()
    results = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "settings": vars(args)}
    peak = 0.0
    if "ceiling" in args.sections:
        results["ceiling"] = attempt("ceiling", ceiling)
        peak = results["ceiling"].get("tflops", 0.0)
    for name in args.models:
        if "step" in args.sections:
            for variant in args.variants:
                key = f"step {name} {variant}"
                results[key] = attempt(key, partial(our_steps, args, name, variant, peak))
        if "trl" in args.sections:
            for variant in sorted({"plain", "checkpoint"} & {*args.variants}, reverse=True):
                key = f"trl {name} {variant}"
                results[key] = attempt(key, partial(trl_steps, args, name, variant == "checkpoint"))
        if "sample" in args.sections:
            results[f"sample {name}"] = attempt(f"sample {name}", partial(samples, args, name))
    print("BENCH", json.dumps(results))


if __name__ == "__main__":
    main()
