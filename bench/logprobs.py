"""Forward and backward of token_logps beside the matrix products it cannot avoid, and beside others.

    python bench/logprobs.py                    sizes up to N 8192, D 2048, V 151936, fp32 and bf16
    python bench/logprobs.py --sizes small      a minute on two cores
    python bench/logprobs.py --sizes gpu --dtypes bf16 --limit-gb 40       heads of Qwen2.5-Coder 1.5B and 7B

"recomputed" has no budget for tiles; a CPU still keeps those that fit the memory of the gradient.
Columns: median seconds, the ratio to the three bare products (X W^T, G W, G^T X, all in that dtype, with
their logits-sized results), and memory beyond inputs and gradients (a CPU's in a process of its own). Rounds
are interleaved: every method once, then every method again. A dash: the method is not installed, or would
hold more than --limit-gb of logits. The last line is `BENCH {json}`.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from losses.logprobs import token_logps
from model.memory import keep_freed_memory

SIZES = {  # tokens, width, vocabulary
    "small": [(1024, 512, 32768)],
    "all": [(1024, 512, 32768), (512, 1536, 151936), (2048, 2048, 151936), (8192, 2048, 151936)],
    "gpu": [(2048, 1536, 151936), (8192, 1536, 151936), (4096, 3584, 152064), (8192, 3584, 152064)],
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LogProb = Callable[[Tensor, Tensor, Tensor], Tensor]  # hidden [N, D], weight [V, D], target [N] -> [N]


def naive(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """What most trainers did: logits, upcast, log-softmax, gather."""
    return (hidden @ weight.T).float().log_softmax(-1).gather(1, target[:, None]).squeeze(1)


def torch_linear_cross_entropy(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """torch's own loss, with chunking on; for reduction "none" it may fall back to whole logits."""
    options = torch.nn.LinearCrossEntropyOptions()
    return -F.linear_cross_entropy(hidden, weight, target, reduction="none", options=options)


def trl_chunked(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """The fused head of TRL's trainers, without its optional outputs."""
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    return ChunkedLogProbFunction.apply(hidden, weight, None, target, 1.0, 32768, None, 1.0, ())[0]


def liger(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Liger's fused linear cross-entropy (CUDA only)."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    return -liger_fused_linear_cross_entropy(hidden, weight, target, reduction="none")


METHODS: dict[str, tuple[LogProb, bool]] = {  # name: function, whether it holds [N, V] tensors
    "token_logps": (token_logps, False),
    "token_logps, recomputed": (partial(token_logps, budget_bytes=0), False),
    "token_logps, kept": (partial(token_logps, budget_bytes=2**40), True),
    "naive": (naive, True),
    "linear_cross_entropy": (torch_linear_cross_entropy, True),
    "trl": (trl_chunked, False),
    "liger": (liger, False),
}
PRODUCTS = "three products"


def inputs(
    size: tuple[int, int, int], dtype: torch.dtype, device: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden and weight (leaves), target, and the gradient of the log-probs."""
    n, d, v = size
    torch.manual_seed(0)
    hidden = torch.empty(n, d, dtype=dtype, device=device).normal_().requires_grad_()
    weight = torch.empty(v, d, dtype=dtype, device=device).normal_(std=d**-0.5).requires_grad_()
    return hidden, weight, torch.randint(v, (n,), device=device), torch.randn(n, device=device)


def three_products(hidden: Tensor, weight: Tensor) -> None:
    """X W^T, G W, G^T X; the logits stand in for their gradient G."""
    logits = hidden @ weight.T
    logits @ weight
    logits.T @ hidden


def step(method: str, hidden: Tensor, weight: Tensor, target: Tensor, grad: Tensor) -> None:
    """One forward and backward into fresh gradients."""
    hidden.grad = weight.grad = None
    if method == PRODUCTS:
        three_products(hidden.detach(), weight.detach())
    else:
        METHODS[method][0](hidden, weight, target).backward(grad)


def available(method: str, size: tuple[int, int, int], limit_gb: float, device: str) -> bool:
    """Whether the method is installed here and its logits (three copies, 4 bytes each) fit the limit."""
    n, _, v = size
    holds_logits = method == PRODUCTS or METHODS[method][1]
    if holds_logits and n * v * 12 > limit_gb * 1e9:
        return False
    if method == PRODUCTS:
        return True
    try:
        step(method, *inputs((8, 16, 64), torch.float32, device))
    except (ImportError, AttributeError, RuntimeError, TypeError):
        return False
    return True


def products_seconds(size: tuple[int, int, int], dtype: torch.dtype, device: str, limit_gb: float) -> float:
    """Where whole logits do not fit: the three products on a share of the tokens, times the inverse share."""
    n, d, v = size
    rows = max(256, int(limit_gb * 1e9 / 12 / v))
    hidden, weight, _, _ = inputs((rows, d, v), dtype, device)
    return clock(partial(three_products, hidden.detach(), weight.detach()), device) * n / rows


def clock(work: Callable[[], None], device: str) -> float:
    """Wall seconds."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def seconds(
    methods: list[str], size: tuple[int, int, int], dtype: torch.dtype, device: str, rounds: int
) -> dict[str, float]:
    """Median wall seconds of each method, interleaved, after one round to warm up."""
    data = inputs(size, dtype, device)
    times: dict[str, list[float]] = {method: [] for method in methods}
    for number in range(rounds + 1):
        for method in methods:
            elapsed = clock(partial(step, method, *data), device)
            if number or rounds == 0:
                times[method].append(elapsed)
    return {method: statistics.median(values) for method, values in times.items()}


def resident(key: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def extra_memory(method: str, size: tuple[int, int, int], dtype: torch.dtype, device: str) -> float:
    """Megabytes at the peak of one step, beyond inputs and gradients. For a process of its own."""
    step(method, *inputs((64, 64, 128), dtype, device))  # libraries, thread pools
    data = inputs(size, dtype, device)
    gradients = sum(tensor.numel() * tensor.element_size() for tensor in data[:2])
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(method, *data)
        return (torch.cuda.max_memory_allocated() - before - gradients) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making the inputs
    before = resident("VmRSS")
    step(method, *data)
    return (resident("VmHWM") - before - gradients) / 1e6


def extra_memory_apart(method: str, size: tuple[int, int, int], dtype: str, device: str) -> float | None:
    """The same, measured in a new process where the system counts it; None where that fails."""
    if device == "cuda":
        return extra_memory(method, size, DTYPES[dtype], device)
    spec = json.dumps([method, size, dtype, device])
    done = subprocess.run([sys.executable, __file__, "--memory", spec], capture_output=True, text=True)
    return float(done.stdout) if done.returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", choices=SIZES, default="all")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit-gb", type=float, default=4.0, help="most that logits-sized tensors may take")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        method, size, dtype, device = json.loads(args.memory)
        print(extra_memory(method, tuple(size), DTYPES[dtype], device))
        return
    keep_freed_memory()  # as training programs do; every method here profits

    rows = []
    print(f"{'N':>6}{'D':>6}{'V':>8} {'dtype':<6}{'method':<26}{'seconds':>10}{'ratio':>8}{'extra MB':>10}")
    for size in SIZES[args.sizes]:
        for dtype in args.dtypes:
            names = [
                name for name in [PRODUCTS, *METHODS] if available(name, size, args.limit_gb, args.device)
            ]
            rounds = args.rounds if args.device == "cuda" or math.prod(size) < 1e12 else 1
            times = seconds(names, size, DTYPES[dtype], args.device, rounds)
            base = times.get(PRODUCTS) or products_seconds(size, DTYPES[dtype], args.device, args.limit_gb)
            for name in [PRODUCTS, *METHODS]:
                row = {"n": size[0], "d": size[1], "v": size[2], "dtype": dtype, "method": name}
                if name in names:
                    row |= {"s": times[name], "ratio": times[name] / base}
                    row["extra_mb"] = (
                        None if name == PRODUCTS else extra_memory_apart(name, size, dtype, args.device)
                    )
                elif name == PRODUCTS:
                    row |= {"s": base, "ratio": 1.0}
                rows.append(row)
                print(
                    f"{size[0]:>6}{size[1]:>6}{size[2]:>8} {dtype:<6}{name:<26}"
                    + "".join(
                        f"{row[key]:>{width}.{digits}f}" if row.get(key) is not None else f"{'-':>{width}}"
                        for key, width, digits in (("s", 10, 4), ("ratio", 8, 2), ("extra_mb", 10, 0))
                    ),
                    flush=True,
                )
    where = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
    }
    print("BENCH", json.dumps({"name": "logprobs", "device": args.device, **where, "rows": rows}))


if __name__ == "__main__":
    main()
