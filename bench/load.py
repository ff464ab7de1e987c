"""Loading a checkpoint folder: seconds and memory, beside transformers.from_pretrained and reading the file.

    python bench/load.py --model DIR                 a published-layout folder
    python bench/load.py --model DIR --dtype bf16    converted while loading
    python bench/load.py --make 271                  writes a random model of so many MiB there first

Every measurement is a process of its own, in turns, the file in the page cache. `touch` also reads every
weight once, so that mapped pages count. from_pretrained imports the model's classes on first use; `imported`
does that beforehand. Memory is the growth of the process's peak over its imports. A peer that is not
installed is skipped. The last line is `BENCH {json}`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.measure import memory_mb
from model.checkpoint import load_model, save_model
from model.families import parse_config
from model.transformer import Transformer

DEFAULT = Path(__file__).resolve().parents[1] / "out/bench/load"
DTYPES = {"file": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MIB = 1 << 20


def ours(folder: Path, dtype: torch.dtype | None) -> torch.nn.Module:
    return load_model(folder, dtype=dtype)


def ours_and_touch(folder: Path, dtype: torch.dtype | None) -> torch.nn.Module:
    model = load_model(folder, dtype=dtype)
    for parameter in model.parameters():
        parameter.detach().sum()
    return model


def from_pretrained(folder: Path, dtype: torch.dtype | None) -> torch.nn.Module:
    return sys.modules["transformers"].AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or "auto")


def read_file(folder: Path, dtype: torch.dtype | None) -> bytearray:
    """The least a copy can cost: every byte of the weights into memory, once."""
    path = folder / "model.safetensors"
    buffer = bytearray(path.stat().st_size)
    with path.open("rb", buffering=0) as file:
        file.readinto(buffer)
    return buffer


METHODS: dict[str, Callable[[Path, torch.dtype | None], object]] = {
    "load_model": ours,
    "load_model, touch": ours_and_touch,
    "from_pretrained": from_pretrained,
    "from_pretrained, imported": from_pretrained,
    "read the file": read_file,
}


def measure(method: str, folder: Path, dtype: str) -> None:
    """In the child: one load, printed as JSON."""
    if "from_pretrained" in method:
        import transformers

        transformers.logging.disable_progress_bar()
    if "imported" in method:
        with torch.device("meta"):  # imports the classes, which is not loading
            transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    before, start = memory_mb(), time.perf_counter()
    kept = METHODS[method](folder, DTYPES[dtype])
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mib": memory_mb("VmHWM") - before}))
    del kept


def run(method: str, folder: Path, dtype: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--model", str(folder), "--dtype", dtype, "--one", method]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def make(folder: Path, mebibytes: int) -> None:
    """A Llama with a vocabulary of 32,000, as many layers as the size asks for, in float32.

    The tensors lie as in published files, by name, so that q, k and v are apart.
    """
    layer, ends = 512 * (3 * 512 + 512 + 3 * 1376) + 2 * 512, 2 * 32000 * 512 + 512
    config = {
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": max(1, round((mebibytes * MIB / 4 - ends) / layer)),
        "num_attention_heads": 8,
        "max_position_embeddings": 2048,
    }
    save_model(Transformer(parse_config(config)), folder)
    save_file(load_file(folder / "model.safetensors"), folder / "by-name", metadata={"format": "pt"})
    (folder / "by-name").replace(folder / "model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=DEFAULT)
    parser.add_argument("--dtype", choices=DTYPES, default="file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--make", type=int, metavar="MIB")
    parser.add_argument("--one", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.model, arguments.make)
    if arguments.one:
        measure(arguments.one, arguments.model, arguments.dtype)
        return
    names = [name for name in METHODS if "pretrained" not in name or find_spec("transformers")]
    if not (arguments.model / "model.safetensors").is_file():
        names.remove("read the file")
    size = sum(path.stat().st_size for path in arguments.model.glob("*.safetensors")) / MIB
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            results[name].append(run(name, arguments.model, arguments.dtype))
    print(f"{arguments.model}: {size:.0f} MiB of weights, dtype {arguments.dtype}\n")
    print("| method | seconds | times load_model | peak memory / file |\n|---|---|---|---|")
    bench = {"name": "load", "file_mib": size}
    base = statistics.median(r["seconds"] for r in results["load_model"])
    for name in names:
        seconds = statistics.median(r["seconds"] for r in results[name])
        peak = statistics.median(r["peak_mib"] for r in results[name])
        print(f"| {name} | {seconds:.4f} | {seconds / base:.1f} | {peak / size:.2f} |")
        key = "" if name == "load_model" else name.replace(" ", "_").replace(",", "") + "_"
        bench |= {f"{key}load_s": round(seconds, 5), f"{key}peak_mib": round(peak, 1)}
    print("BENCH " + json.dumps(bench))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
