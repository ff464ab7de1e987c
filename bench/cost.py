"""How the cost of a DPO step grows with what is put into it, and collection with the number of samples.

    python bench/cost.py                    tables, and docs/cost.svg where matplotlib is installed
    python bench/cost.py prompt pairs --plot out/cost.svg

Every point is a process of its own: a random Llama of 9 M parameters unless the point says otherwise, four
optimizer steps by train_dpo.py's own functions, the first left out. Every prompt and every completion of a
point has one length. Seconds are CPU seconds of the process (medians), memory is its peak above what it held
when everything was imported. "twice": tokens, were the prompt computed for both completions. Collection
samples 40 beginner problems with the shipped policy and judges them. The last line is `BENCH {json}`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.measure import BETA, BETAS, CLIP, DECAY, EPS, LEARNING_RATE, Clock, memory_mb
from bench.shapes import random_pairs, random_policy
from bench.step import score_reference
from data.pairs import collate
from losses.dpo import dpo_loss
from model.optim import adamw
from model.training import Compute, Metrics
from train_dpo import train_step

ROOT = Path(__file__).resolve().parents[1]
CONFIG = {  # the rest depends on the point
    "model_type": "llama",
    "num_hidden_layers": 10,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
}
BASE = {"pairs": 4, "prompt": 128, "completion": 96, "vocabulary": 4096, "width": 256}
STEPS = 4
SWEEPS: dict[str, tuple[str, list[int]]] = {  # what is varied: its unit, its values
    "completion": ("tokens of each completion", [32, 64, 128, 256, 512]),
    "prompt": ("tokens of the prompt", [32, 128, 256, 512, 1024]),
    "vocabulary": ("entries", [4096, 16384, 65536, 151936]),
    "pairs": ("pairs a step", [1, 2, 4, 8, 16]),
    "width": ("model width", [128, 256, 512, 768]),
}
SAMPLES = [2, 4, 8, 16, 32]


def point_config(point: dict) -> dict:
    width = point["width"]
    heads = {"num_attention_heads": width // 32, "num_key_value_heads": width // 64}
    shape = {"hidden_size": width, "intermediate_size": 11 * width // 4, "vocab_size": point["vocabulary"]}
    return CONFIG | heads | shape


def measure(point: dict) -> dict:
    """CPU seconds of a step and of the reference pass a pair, peak memory; for a process of its own."""
    base = memory_mb()
    compute = Compute.choose("cpu", "fp32")
    model = random_policy(point_config(point), compute)
    pairs = random_pairs(point_config(point), point["pairs"], point["prompt"], point["completion"])
    optimizer = adamw(model, LEARNING_RATE, BETAS, EPS, DECAY)
    clock = Clock("cpu")
    reference = score_reference(model, compute, pairs, 10**9)
    scored = clock.lap()[1]
    loss, metrics, seconds = partial(dpo_loss, beta=BETA), Metrics(), []
    for _ in range(STEPS):
        clock.lap()
        batch = collate(pairs, range(len(pairs)), reference=reference)
        train_step(model, optimizer, [batch], loss, compute, CLIP, metrics)
        seconds.append(clock.lap()[1])
    return {
        "step_s": statistics.median(seconds[1:]),
        "reference_s": scored,
        "mb": memory_mb("VmHWM") - base,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": len(batch.ids),
        "twice": len(batch.ids) + point["pairs"] * point["prompt"],
    }


def apart(point: dict) -> dict:
    """`measure` in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--point", json.dumps(point)], capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(f"{point} failed:\n{done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def sweep(name: str) -> list[dict]:
    unit, values = SWEEPS[name]
    heads = f"{'step CPU s':>12}{'reference':>11}{'MB':>8}{'parameters':>12}{'tokens':>9}{'twice':>8}"
    print(f"\n{name}: {unit}\n{'':>10}{heads}", flush=True)
    rows = []
    for value in values:
        row = {name: value} | apart(BASE | {name: value})
        rows.append(row)
        print(
            f"{value:>10}{row['step_s']:>12.3f}{row['reference_s']:>11.3f}{row['mb']:>8.0f}"
            f"{row['parameters']:>12,}{row['tokens']:>9,}{row['twice']:>8,}",
            flush=True,
        )
    return rows


def collection() -> list[dict]:
    """Seconds of sampling and of judging as evaluate.py reports them."""
    print(f"\ncollection: samples a problem\n{'':>10}{'sampling s':>12}{'judging s':>11}", flush=True)
    rows = []
    for n in SAMPLES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "evaluate.py", "+exp=quickstart", "run.checkpoint=base"]
            command += ["run.split=train", "data.train=40", "decode=sample", f"decode.n={n}"]
            done = subprocess.run([*command, f"run.home={folder}"], cwd=ROOT, capture_output=True, text=True)
            found = next(Path(folder).rglob("summary.json"), None)
            if done.returncode or found is None:
                raise ValueError(f"{' '.join(command)} failed:\n{done.stderr[-1000:]}")
            seconds = json.loads(found.read_text())["seconds"]
        rows.append({"samples": n} | seconds)
        print(f"{n:>10}{seconds['sampling']:>12.1f}{seconds['judging']:>11.1f}", flush=True)
    return rows


def plot(results: dict[str, list[dict]], path: Path) -> None:
    """One panel a sweep: CPU seconds on the left axis, memory on the right."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4), layout="constrained")
    for axis, (name, rows) in zip(axes.flat, results.items(), strict=False):
        key = "samples" if name == "collection" else name
        x = [row[key] for row in rows]
        axis.set_title(f"{name} ({SWEEPS[name][0]})" if name in SWEEPS else "collection (samples a problem)")
        if name == "collection":
            for part in ("sampling", "judging"):
                axis.plot(x, [row[part] for row in rows], "o-", label=f"{part}, seconds")
        else:
            axis.plot(x, [row["step_s"] for row in rows], "o-", label="step, CPU seconds")
            axis.plot(x, [row["reference_s"] for row in rows], "s--", label="reference pass")
            axis.plot([], [], "^:", color="tab:grey", label="memory, MB (right)")
            memory = axis.twinx()
            memory.plot(x, [row["mb"] for row in rows], "^:", color="tab:grey")
            memory.set_ylim(bottom=0)
        axis.set_ylim(bottom=0)
        axis.locator_params(axis="x", nbins=5)
        axis.legend(loc="upper left", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"\nwritten    {path}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweeps", nargs="*", help=f"of {', '.join(SWEEPS)}, collection; none: all")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "cost.svg")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(measure(args.point)))
        return
    names = args.sweeps or [*SWEEPS, "collection"]
    if unknown := set(names) - set(SWEEPS) - {"collection"}:
        parser.error(f"no sweep {', '.join(sorted(unknown))}; there are {', '.join(SWEEPS)}, collection")
    results = {name: collection() if name == "collection" else sweep(name) for name in names}
    try:
        plot(results, args.plot)
    except ImportError:
        print("\nno plot: pip install matplotlib")
    where = {"torch": torch.__version__, "threads": torch.get_num_threads(), "load": os.getloadavg()[0]}
    print("BENCH", json.dumps({"name": "cost", **where, "machine": platform.machine(), **results}))


if __name__ == "__main__":
    main()
