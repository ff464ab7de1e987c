"""One optimiser step of this code, of TRL's DPOTrainer and of the 2023 loop, in turns, on two models.

    python bench/peers.py                      two rounds of four steps on two models; minutes on two cores
    python bench/peers.py --models tiny --rounds 3
    python bench/peers.py --models wide --dtype fp32
    python bench/peers.py --make               only write the models and the pairs, to out/bench

tiny is a Llama of 9 M parameters with a vocabulary of 4,096, 4 pairs a step, float32; wide is a Qwen2 of 71 M
with a vocabulary of 151,936, 2 pairs a step, bfloat16 autocast. Weights and ids are random, from seed 0.
Prompts have 50 to 190 and 100 to 350 tokens, completions 30 to 150 and 100 to 300.

Every run is a process of its own and takes the same pairs in the same order. The first step of a run is left
out. CPU seconds say what a step costs, also on a machine that does other things; ratios are to this code's.
A peer that is not installed is skipped (requirements-bench.txt). The last line is `BENCH {json}`.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from data.jsonl import write_jsonl
from model.checkpoint import save_model
from model.families import parse_config
from model.transformer import Transformer

ROOT = Path(__file__).resolve().parents[1]


class Setting(NamedTuple):
    """A model to train and how."""

    config: dict  # config.json
    batch: int
    dtype: str
    prompt: tuple[int, int]  # tokens, at least and at most
    completion: tuple[int, int]


SHARED = {"max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-6}
SETTINGS = {
    "tiny": Setting(
        SHARED
        | {
            "model_type": "llama",
            "vocab_size": 4096,
            "hidden_size": 256,
            "intermediate_size": 768,
            "num_hidden_layers": 10,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "tie_word_embeddings": True,
        },
        batch=4,
        dtype="fp32",
        prompt=(50, 190),
        completion=(30, 150),
    ),
    "wide": Setting(
        SHARED
        | {
            "model_type": "qwen2",
            "vocab_size": 151_936,
            "hidden_size": 384,
            "intermediate_size": 1024,
            "num_hidden_layers": 8,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        batch=2,
        dtype="amp",
        prompt=(100, 350),
        completion=(100, 300),
    ),
}
PAIRS, SEED = 64, 0

METHODS = {  # name: (program and options, the package it needs)
    "project": (["step.py"], "torch"),
    "trl": (["peer_trl.py"], "trl"),
    "trl precomputed": (["peer_trl.py", "--precompute"], "trl"),
    "2023 loop": (["peer_2023.py"], "transformers"),
}


def make(folder: Path, setting: Setting) -> None:
    """A model with random weights and a file of pairs with random ids; kept when they are there."""
    config = setting.config
    if not (folder / "pairs.jsonl").exists():
        torch.manual_seed(SEED)
        save_model(Transformer(parse_config(config)), folder / "model")
        random = np.random.default_rng(SEED)
        parts = {
            "prompt_ids": setting.prompt,
            "chosen_ids": setting.completion,
            "rejected_ids": setting.completion,
        }
        rows = [
            {
                name: random.integers(3, config["vocab_size"], random.integers(low, high + 1)).tolist()
                for name, (low, high) in parts.items()
            }
            for _ in range(PAIRS)
        ]
        write_jsonl(folder / "pairs.jsonl", rows)


def run(method: str, folder: Path, setting: Setting, steps: int) -> dict:
    """What the BENCH line of one process says. ValueError with the end of its errors when it fails."""
    program, *options = METHODS[method][0]
    command = [sys.executable, ROOT / "bench" / program, *options]
    command += ["--model", folder / "model", "--pairs", folder / "pairs.jsonl", "--steps", str(steps)]
    command += ["--batch", str(setting.batch), "--dtype", setting.dtype]
    done = subprocess.run(command, capture_output=True, text=True)
    last = (done.stdout.splitlines() or [""])[-1]
    if done.returncode or not last.startswith("BENCH "):
        raise ValueError(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return json.loads(last.removeprefix("BENCH "))


def summary(runs: list[dict]) -> dict:
    """Medians over the steps of all runs, their first steps left out; memory of the largest."""
    medians = {
        name: statistics.median([value for one in runs for value in one[name][1:] or one[name]])
        for name in ("step_s", "cpu_s", "sys_s")
    }
    memory = max(one["peak_mb"] - one["base_mb"] for one in runs)
    return medians | {"memory_mb": memory, "losses": runs[0]["losses"], "ref_s": runs[0]["ref_s"]}


def compare(methods: dict[str, dict]) -> None:
    """Add to each summary its ratios to this code's, and how far its first four losses are from TRL's."""
    project, trl = methods["project"], methods.get("trl")
    for row in methods.values():
        for name in ("step_s", "cpu_s", "memory_mb"):
            row[f"{name}_ratio"] = row[name] / project[name]
        if trl is not None:
            row["loss_difference"] = max(
                abs(a - b) for a, b in zip(row["losses"][:4], trl["losses"][:4], strict=True)
            )


def print_table(title: str, methods: dict[str, dict]) -> None:
    columns = [
        ("step_s", "wall s", 9, 2),
        ("step_s_ratio", "ratio", 7, 2),
        ("cpu_s", "CPU s", 9, 2),
        ("cpu_s_ratio", "ratio", 7, 2),
        ("memory_mb", "MB", 7, 0),
        ("memory_mb_ratio", "ratio", 7, 2),
        ("loss_difference", "loss - TRL", 12, 7),
    ]
    print(f"\n{title}\n{'':<16}" + "".join(f"{head:>{width}}" for _, head, width, _ in columns))
    for method, row in methods.items():
        cells = (
            f"{row[key]:>{width}.{digits}f}" if key in row else f"{'-':>{width}}"
            for key, _, width, digits in columns
        )
        print(f"{method:<16}" + "".join(cells), flush=True)


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--dtype", choices=("fp32", "amp", "bf16"), help="instead of each model's own")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="per run; the first is left out")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "bench")
    parser.add_argument("--make", action="store_true", help="write models and pairs, measure nothing")
    args = parser.parse_args()
    settings = {name: SETTINGS[name] for name in args.models}
    if args.dtype:
        settings = {name: setting._replace(dtype=args.dtype) for name, setting in settings.items()}
    for name, setting in settings.items():
        make(args.folder / name, setting)
    if args.make:
        print(f"wrote {', '.join(args.models)} to {args.folder}")
        return

    methods = [m for m in METHODS if m == "project" or (m in args.methods and find_spec(METHODS[m][1]))]
    skipped = [m for m in args.methods if m not in methods]
    if skipped:
        print(f"not installed: {', '.join(skipped)} (pip install -r requirements-bench.txt)")
    results = {}
    for name, setting in settings.items():
        runs: dict[str, list[dict]] = {method: [] for method in methods}
        for turn in range(args.rounds):
            for method in methods if turn % 2 == 0 else methods[::-1]:
                runs[method].append(run(method, args.folder / name, setting, args.steps))
        results[name] = {method: summary(of) for method, of in runs.items()}
        compare(results[name])
        print_table(f"{name}: {setting.batch} pairs a step, {setting.dtype}", results[name])
    where = {name: installed(name) for name in ("torch", "transformers", "trl")}
    where |= {"machine": platform.machine(), "threads": torch.get_num_threads()}
    print("BENCH", json.dumps({"name": "peers", **where, "models": results}))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
