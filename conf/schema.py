"""The one configuration tree, typed. Values live in YAML files beside this one, pairing's in data/pairing.py.

Every node is closed, so a misspelt key or a wrong type stops composition; but not those that name a function
or belong to one (`loss`, `decode.logits_hook`, `variant`), nor `model.architecture`, which is a config.json.
A dataclass that configures one thing lives beside that thing.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from data.execution import SandboxConfig
from data.pairing import PairingConfig
from model.generate import DecodeConfig


@dataclass
class RunConfig:
    name: str = MISSING  # outputs go to out/<name>
    seed: int = MISSING
    home: str = MISSING  # out/<name>: inputs that the runs of a sweep share
    dir: str = MISSING  # outputs of this run: home, or a folder below it in a sweep
    cache: str = MISSING  # reference log-probs, shared by all runs
    verdicts: str | None = MISSING  # a file of verdicts that evaluations share; null: each keeps its own
    split: str = MISSING  # of the problems: train, validation, test; of some benchmarks prompt; all
    init: str | None = MISSING  # checkpoint training starts from; null: model.path
    checkpoint: str = (
        MISSING  # checkpoint to sample: base (model.path), dpo, sft, another run's x/dpo, a folder
    )
    reference: str | None = (
        MISSING  # null: the policy before its first step; none: 0; a checkpoint or columns
    )


@dataclass
class LoraConfig:
    rank: int = MISSING  # 0: train all parameters
    alpha: float = MISSING  # adapters are scaled by alpha / rank
    targets: list[str] = MISSING  # published names of the linear layers that get one


@dataclass
class ModelSettings:
    path: str | None = MISSING  # checkpoint folder in the published layout
    architecture: dict[str, Any] = MISSING  # config.json of a new model (train_sft.py with path: null)
    dtype: str = MISSING  # auto, fp32, amp (fp32 weights, bf16 products), bf16 (fp32 master weights)
    check_weights: bool = MISSING  # refuse weights that are not finite: reads every one of them
    activation_checkpointing: bool = MISSING
    compile: bool = MISSING  # torch.compile for the blocks; the first steps are slow
    lora: LoraConfig = field(default_factory=LoraConfig)


@dataclass
class DemonstrationConfig:
    path: str | None = MISSING  # JSONL with prompt and completion; null: the toy problems' own
    count: int = MISSING
    bug_share: float = (
        MISSING  # share of the primitives whose bug is demonstrated more often than the right code
    )
    bug_rate: float = MISSING  # share of such a primitive's uses that carry the bug
    bug_seed: int = MISSING  # which primitives
    vocabulary: int = MISSING  # pieces of a new tokenizer


@dataclass
class DataConfig:
    problems: str = MISSING  # toy, a benchmark's name, or a problems.jsonl
    seed: int = MISSING  # of the toy generator
    train: int = MISSING  # problems per split of the toy generator
    validation: int = MISSING
    test: int = MISSING
    pairs: str = MISSING  # what train_dpo.py trains on
    weights: str | None = MISSING  # per-token weights beside the pairs; null: 1 on every completion token
    max_prompt: int = MISSING  # tokens; longer rows are dropped and counted, never cut
    max_completion: int = MISSING  # tokens
    validation_share: float = MISSING  # of the pairs' problems, held out to watch the loss
    demonstrations: DemonstrationConfig = field(default_factory=DemonstrationConfig)


@dataclass
class OptimConfig:
    lr: float = MISSING  # peak
    schedule: str = MISSING  # constant, linear, cosine: the shape after warm-up
    warmup: float = MISSING  # share of all steps
    betas: list[float] = MISSING
    eps: float = MISSING
    weight_decay: float = MISSING
    clip: float = MISSING  # largest gradient norm; inf: it is only measured
    batch: int = MISSING  # pairs (or demonstrations) per step, over all processes
    microbatch: int = MISSING  # tokens that go through the model at once
    epochs: int = MISSING
    max_steps: int | None = MISSING  # stop early; the schedule still spans all epochs
    log_every: int = MISSING  # steps
    validate_every: int = MISSING  # steps; 0: only at the end
    save_every: int = MISSING  # steps; 0: only at the end and when interrupted


@dataclass
class Config:
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataConfig = field(default_factory=DataConfig)
    pairing: PairingConfig = field(default_factory=PairingConfig)
    loss: dict[str, Any] = MISSING
    variant: dict[str, Any] = field(default_factory=dict)  # of a program in variants/, which checks them
    optim: OptimConfig = field(default_factory=OptimConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    device: str = MISSING  # auto: cuda, else mps, else cpu
    prompt: str | None = MISSING  # sample.py: complete this text on the terminal
    samples: str | None = MISSING  # evaluate.py: score this file, no model needed
    benchmark: str | None = MISSING  # in place of data.problems: humaneval, mbpp, ...
    protocol: str | None = MISSING  # how problems are asked; null: the benchmark's, plain for a file
    compare: str | None = MISSING  # evaluate.py: results of another evaluation
    allow_missing: bool = MISSING  # evaluate.py: score a file that lacks some problems


def check_values(cfg: Config) -> None:
    """ValueError for numbers that have the right type and no meaning."""
    optim, share, toy = cfg.optim, cfg.data.validation_share, cfg.data.demonstrations
    not_negative = "a number of 0 or more"
    for key, value, right, expected in (
        ("data.validation_share", share, 0 <= share < 1, "a share from 0 to below 1"),
        ("optim.lr", optim.lr, 0 <= optim.lr < math.inf, not_negative),
        ("optim.warmup", optim.warmup, 0 <= optim.warmup <= 1, "a share of all steps from 0 to 1"),
        (
            "optim.betas",
            optim.betas,
            [0 <= b < 1 for b in optim.betas] == [True] * 2,
            "two from 0 to below 1",
        ),
        ("optim.eps", optim.eps, optim.eps >= 0, not_negative),
        ("optim.weight_decay", optim.weight_decay, optim.weight_decay >= 0, not_negative),
        ("optim.clip", optim.clip, optim.clip > 0, "a number above 0 (inf: only measured)"),
        ("optim.microbatch", optim.microbatch, optim.microbatch >= 1, "1 token or more"),
        *(
            (f"optim.{name}", getattr(optim, name), getattr(optim, name) >= 0, "steps, or 0: never")
            for name in ("save_every", "log_every", "validate_every")
        ),
        *(
            (f"data.demonstrations.{name}", value, 0 <= value <= 1, "a share from 0 to 1")
            for name, value in (("bug_share", toy.bug_share), ("bug_rate", toy.bug_rate))
        ),
        ("data.demonstrations.count", toy.count, toy.count >= 1, "1 or more"),
        ("run.seed", cfg.run.seed, 0 <= cfg.run.seed < 2**63, "a whole number from 0 to below 2^63"),
        ("model.lora.rank", cfg.model.lora.rank, cfg.model.lora.rank >= 0, "1 or more, or 0: no adapters"),
    ):
        if not right:
            raise ValueError(f"{key} is {value}, expected {expected}")


ConfigStore.instance().store(name="schema", node=Config)
