"""What programs that take optimiser steps measure and report; bench/step.py explains the keys."""

import argparse
import json
import resource
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from data.jsonl import as_record, iterate_jsonl
from data.types import PreferencePair

LEARNING_RATE, BETAS, EPS, DECAY = 5e-5, (0.9, 0.999), 1e-8, 0.0
BETA, CLIP = 0.1, 1.0


def arguments(description: str, *, files: bool = True) -> argparse.ArgumentParser:
    """The options that every such program has. `files`: model and pairs must be given."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=files, help="folder of a published-layout checkpoint")
    parser.add_argument("--pairs", type=Path, required=files, help="JSON lines with ids")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4, help="pairs a step")
    parser.add_argument(
        "--dtype", choices=["fp32", "amp", "bf16"], default="fp32", help="amp: bfloat16 products"
    )
    parser.add_argument("--device", default="cpu")
    return parser


def memory_mb(key: str = "VmRSS") -> float:
    """Resident size of this process: now, or at most (VmHWM).

    The latter is ru_maxrss, but for what that inherits from a larger parent process. Outside Linux, where
    the files of /proc are missing, both are the size at most.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size / 2**20 if sys.platform == "darwin" else size / 1024
    return (
        int(next(line for line in status.read_text().splitlines() if line.startswith(key)).split()[1]) / 1024
    )


def read_ids(path: Path, count: int) -> list[PreferencePair]:
    """The first `count` rows of a pairs file, or all; text may be missing, ids may not."""
    text = dict.fromkeys(("task_id", "prompt", "chosen", "rejected"), "")
    pairs = []
    for number, row in iterate_jsonl(path):
        pair = as_record(PreferencePair, text | row, f"{path}, line {number}")
        if not (pair.prompt_ids and pair.chosen_ids and pair.rejected_ids):
            raise ValueError(
                f"{path}, line {number}: prompt_ids, chosen_ids and rejected_ids must have tokens; "
                "python bench/peers.py --make writes such a file"
            )
        pairs.append(pair)
    if not pairs:
        raise ValueError(f"{path} holds no pairs; python bench/peers.py --make writes such a file")
    return pairs[:count]


def places(step: int, batch: int, count: int) -> list[int]:
    """Which of `count` pairs a step takes: the file's order, from the start again after the end."""
    return [i % count for i in range(step * batch, (step + 1) * batch)]


class Clock:
    """Wall, process and kernel seconds between two looks, each after the device has finished."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.last = self.now()

    def now(self) -> tuple[float, float, float]:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return (
            time.perf_counter(),
            time.process_time(),
            resource.getrusage(resource.RUSAGE_SELF).ru_stime,
        )

    def lap(self) -> tuple[float, float, float]:
        before, self.last = self.last, self.now()
        return tuple(after - start for start, after in zip(before, self.last, strict=True))


@dataclass
class Run:
    """What the BENCH line holds."""

    name: str
    base_mb: float
    step_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    sys_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    ref_s: float = 0.0
    ref_pairs: int = 0
    peak_mb: float = 0.0
    cuda_mb: float = 0.0

    def note(self, lap: tuple[float, float, float], loss: float) -> None:
        """One step."""
        for series, value in zip(
            (self.step_s, self.cpu_s, self.sys_s, self.losses), (*lap, loss), strict=True
        ):
            series.append(value)

    def report(self) -> None:
        """Print a few lines for people and the BENCH line."""
        self.peak_mb = memory_mb("VmHWM")
        if torch.cuda.is_initialized():
            self.cuda_mb = torch.cuda.max_memory_allocated() / 2**20
        for series, unit in ((self.step_s, "wall"), (self.cpu_s, "CPU"), (self.sys_s, "of it in the kernel")):
            print(f"{statistics.median(series):8.3f} s {unit}, median of {len(series)} steps")
        print(f"{self.peak_mb - self.base_mb:8.0f} MB above imports")
        print("BENCH", json.dumps(asdict(self)))
