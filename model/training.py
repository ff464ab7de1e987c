"""What a training program needs around its loop: device and dtype, a stop that waits for the end of a step,
the log of its metrics, and the state that makes a resumed run equal to an uninterrupted one."""

import json
import math
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from model.checkpoint import load_model, put_in_place, save_model, take_back
from model.distributed import first, gather, largest, scatter, setup, several, shard, total, wait
from model.lora import adapted, add_adapters, load_adapters, save_adapters
from model.memory import keep_freed_memory
from model.optim import learning_rate
from model.tied_embedding import TiedEmbedding
from model.transformer import Transformer

DTYPES = ("auto", "fp32", "amp", "bf16")


class Compute(NamedTuple):
    """Where and in which precision a program computes."""

    device: torch.device
    dtype: str  # fp32, amp (float32 weights, bfloat16 products), bf16 (float32 master weights)

    @classmethod
    def choose(cls, device: str, dtype: str) -> "Compute":
        """`auto` takes cuda, else mps, else cpu; and bf16 on cuda, fp32 elsewhere. Call this first."""
        place = choose_device(device)
        if place.type == "cpu":
            keep_freed_memory()
        if dtype not in DTYPES:
            raise ValueError(f"model.dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
        if dtype == "auto":
            dtype = "bf16" if place.type == "cuda" else "fp32"
        return cls(place, dtype)

    @property
    def weights(self) -> torch.dtype:
        return torch.bfloat16 if self.dtype == "bf16" else torch.float32

    def join(self) -> "Compute":
        """The same on this process's device, once the processes that torchrun started, if any, have met."""
        return self._replace(device=setup(self.device))

    def cast(self) -> AbstractContextManager:
        """Under `amp`, matrix products in bfloat16 while weights and log-probs stay float32; else nothing."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.dtype == "amp" else nullcontext()


def choose_device(name: str) -> torch.device:
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = name.partition(":")[0]
    if name == "auto":
        found = next(device for device, is_there in here.items() if is_there)
        return torch.device(found, torch.cuda.current_device()) if found == "cuda" else torch.device(found)
    if not here.get(kind):
        there = ", ".join(device for device, is_there in here.items() if is_there)
        raise ValueError(
            f"device is {name!r}; this machine and this torch have {there} (auto takes the first)"
        )
    names = [kind, *(f"{kind}:{i}" for i in range(torch.cuda.device_count() if kind == "cuda" else 1))]
    if name not in names:
        raise ValueError(f"device is {name!r}, expected one of {', '.join(names)}")
    return torch.device(name)


class Interrupt:
    """Notes the first Ctrl-C or SIGTERM; the loop asks after each step. The second acts at once."""

    def __init__(self) -> None:
        self.noted = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.noted = number

    def signal(self) -> int | None:
        """The number of a signal that any process got, the same answer on all; ask once a step."""
        return int(largest(self.noted)) or None


def progress(steps: Sequence, **settings: object) -> tqdm:
    """A progress bar on the first process, where there are any steps."""
    return tqdm(steps, disable=not steps or not first(), **settings)


class Metrics:
    """Sums and counts, kept on the device until they are read; means are exact over ragged batches."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor | float] = {}
        self.counts: dict[str, int] = {}

    def add(self, **values: Tensor) -> None:
        """Each value [n] or []: numbers that count alike, of pairs, tokens or steps."""
        for name, value in values.items():
            value = value.detach()
            self.sums[name] = self.sums.get(name, 0.0) + value.sum()
            self.counts[name] = self.counts.get(name, 0) + value.numel()

    def means(self) -> dict[str, float]:
        """The means so far over all processes; this waits for the device. Starts over."""
        sums = total([float(value) for value in self.sums.values()])
        counts = total([*self.counts.values()])
        means = {name: a / max(b, 1) for name, a, b in zip(self.sums, sums, counts, strict=True)}
        self.sums, self.counts = {}, {}
        return means


class MetricsLog:
    """metrics.jsonl: a JSON line per logged step; TensorBoard files beside it when that package is there.

    The first process writes both.
    """

    def __init__(self, path: Path, resume_at: int) -> None:
        self.file = self.board = None
        if not first():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if resume_at and path.exists():  # steps after the saved one are taken again
            *lines, _ = path.read_text().split("\n")  # the last is empty, or was cut off as it was written
            kept = [line for line in lines if _step(line) <= resume_at]
        path.write_text("".join(line + "\n" for line in kept))
        self.file = path.open("a")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            pass
        else:
            self.board = SummaryWriter(str(path.with_suffix("")), purge_step=resume_at + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        if self.file:
            row = {"step": step} | {name: round_significant(value) for name, value in values.items()}
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
            self.board.flush()  # its thread ends with the process, whatever waits in it


def _step(line: str) -> float:
    """Of a row of metrics; a damaged one is left out of a log that goes on."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


class OptimSettings(Protocol):
    """What a Plan reads of the optimiser's settings."""

    batch: int
    epochs: int
    max_steps: int | None
    lr: float
    warmup: float  # share of all steps
    schedule: str


class Plan(NamedTuple):
    """How many steps a run takes, and the learning rate at each."""

    batch: int
    per_epoch: int
    total: int  # steps of all epochs; the schedule spans them
    last: int  # the step the run ends at
    schedule: Callable[[int], float]

    @classmethod
    def of(cls, optim: OptimSettings, examples: int) -> "Plan":
        for name in ("batch", "epochs", "max_steps"):
            value = getattr(optim, name)
            if value is not None and value < 1:
                raise ValueError(f"optim.{name} is {value}, expected 1 or more")
        per_epoch = math.ceil(examples / optim.batch)
        total = per_epoch * optim.epochs
        warmup = round(optim.warmup * total)
        rate = partial(
            learning_rate, peak=optim.lr, warmup_steps=warmup, total_steps=total, schedule=optim.schedule
        )
        rate(0)  # complains of a schedule that is none, before anything is computed
        return cls(optim.batch, per_epoch, total, min(total, optim.max_steps or total), rate)

    def place(self, step: int) -> tuple[int, slice]:
        """(epoch, positions in its order) of a step counted from 0."""
        epoch, within = divmod(step, self.per_epoch)
        return epoch, slice(within * self.batch, (within + 1) * self.batch)


def due(step: int, every: int) -> bool:
    """Is something that happens every so many steps (0: never) due after this one?"""
    return every > 0 and step % every == 0


def check_finite(values: dict[str, float], step: int, saved: int, rows: list[str]) -> None:
    """Stop before a NaN reaches a checkpoint. `rows`: the problems trained on since the last check."""
    if math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"]):
        return
    raise ValueError(
        f"loss {values['loss']}, gradient norm {values['grad_norm']} at step {step}; the last checkpoint "
        f"holds step {saved}. Trained on since the last check: {', '.join(sorted(set(rows)))[:400]}. "
        "Lower optim.lr, or look at these rows"
    )


def round_significant(value: float) -> float:
    """Seven significant digits, what float32 holds."""
    return float(f"{value:.7g}") if isinstance(value, float) and math.isfinite(value) else value


def load_policy(
    start: Path,
    resumed: Path | None,
    compute: Compute,
    check_weights: bool = False,
    *,
    rank: int = 0,
    alpha: float = 0.0,
    targets: Iterable[str] = (),
) -> Transformer:
    """The policy saved in `resumed`, or a new one from `start`, split over all processes.

    With a rank, only adapters are trained. check_weights: ValueError for weights that are not finite.
    """
    place = "cpu" if several() else compute.device  # `shard` brings a block at a time to the device
    where = {"dtype": compute.weights, "device": place, "check_finite": check_weights}
    model = load_model(start if rank else resumed or start, **where)
    if rank and resumed:
        load_adapters(model, resumed / "adapter")
    elif rank:
        add_adapters(model, rank, alpha, targets)
    return as_trained(model, compute)


def as_trained(model: Transformer, compute: Compute) -> Transformer:
    """The model split over all processes, or on the one process's device."""
    if model.config.tied and compute.device.type == "cpu" and not several():
        model.embedding = TiedEmbedding(model.embedding)
    return shard(model, compute.device)


def compile_blocks(model: Transformer, backend: str = "inductor") -> None:
    """Compile every block, in place, for any number of tokens: a slow start, then faster steps.

    Attention stays as it is: its calls follow the lengths of the pairs, which the host knows.
    """
    for block in model.blocks:
        block.attention.attend = torch.compiler.disable(block.attention.attend)
        block.compile(dynamic=True, backend=backend)


def save_policy(model: Transformer, folder: Path, *, tokenizer_from: Path) -> None:
    """Save a folder that other tools load as it is; with adapters, they lie below, too."""
    weights = gather(dict(model.named_parameters()))
    if first():
        save_model(model, folder, tokenizer_from=tokenizer_from, state=weights)
        if any(adapted(model)):
            save_adapters(model, folder / "adapter", base=str(tokenizer_from), state=weights)
    wait()


def save_checkpoint(
    model: Transformer,
    folder: Path,
    *,
    tokenizer_from: Path,
    optimizer: object,
    loss_state: Tensor | None = None,
    **position: object,
) -> None:
    """Save the policy, with what resuming needs in `training/` below; whole or not at all.

    The files are the same for any number of processes, so a run may go on with another one.
    """
    staging = folder.with_name(f".{folder.name}.saving")
    save_policy(model, staging, tokenizer_from=tokenizer_from)
    state = gather({"optimizer": optimizer.state_dict(), "loss_state": loss_state})
    if first():
        training = staging / "training"
        training.mkdir()
        try:
            torch.save(state | {"rng": torch.get_rng_state()}, training / "state.pt")
            (training / "position.json").write_text(json.dumps(position, indent=2))
            put_in_place(staging, folder)
        except BaseException as error:
            shutil.rmtree(staging, ignore_errors=True)
            if isinstance(error, RuntimeError):  # what torch.save makes of a full disk
                raise OSError(f"{folder} cannot be saved, probably the disk is full ({error})") from None
            raise
    wait()


def read_position(folder: Path) -> dict | None:
    """The position saved with a checkpoint, None when there is none."""
    take_back(folder)
    path = folder / "training" / "position.json"
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete {folder} to train anew") from None


def load_state(folder: Path, optimizer: object, device: torch.device) -> dict:
    """Take over a checkpoint's optimiser and random states; the model must hold its weights already.

    Returns the position it was saved with, and the loss's own state. The file is mapped, not read: a process
    touches only the parts it keeps.
    """
    path = folder / "training" / "state.pt"
    try:
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"{path} cannot be read ({said}); delete {folder} to train anew") from None
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.load_state_dict(scatter(state["optimizer"], parameters))
    torch.set_rng_state(state["rng"])
    kept = state["loss_state"]
    return read_position(folder) | {"loss_state": kept if kept is None else kept.to(device)}
