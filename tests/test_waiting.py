"""A training step never makes the host wait for the device: what it launches is all known beforehand.

tests/test_cuda.py has PyTorch itself watch a step on a card.
"""

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from data.pairs import collate
from data.types import PreferencePair
from losses.dpo import dpo_loss
from model.optim import MasterAdamW, adamw
from model.rotary import Rope
from model.training import Compute, Metrics
from model.transformer import ModelConfig, Transformer
from train_dpo import train_step

READS = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "equal", "item"}


class Reads(TorchDispatchMode):
    """Counts the operations whose result, or its shape, the host must read from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = name == "index" and any(t is not None and t.dtype == torch.bool for t in args[1])
        if name in READS or masks:
            self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def setting(dtype: torch.dtype):
    """model, optimizer, and three microbatches, the last of them empty."""
    config = ModelConfig(
        vocab_size=31, width=16, layers=2, heads=4, kv_heads=2, head_width=4, mlp_width=24, context=64,
        tied=True, rope=Rope(4),
    )  # fmt: skip
    model = Transformer(config).to(dtype)
    model.checkpoint_activations = True
    optimizer = adamw(model, 1e-3, (0.9, 0.99), 1e-8, 0.1)
    pairs = [
        PreferencePair(str(i), "", "", "", list(range(3 + i)), list(range(1, 3 + i)), [7] * (4 - i))
        for i in range(3)
    ]
    reference = [
        tuple(-np.ones(len(ids), np.float32) for ids in (p.chosen_ids, p.rejected_ids)) for p in pairs
    ]
    return model, optimizer, [collate(pairs, group, reference=reference) for group in ([0, 1], [2], [])]


def test_reads_are_seen():
    with Reads() as reads:
        x = torch.arange(3)
        assert x.sum().item() == 3
        x[x > 1]
    assert reads.counts == {"_local_scalar_dense": 1, "index": 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_reads_nothing_back(dtype):
    """But for the smallest and the largest target of each microbatch, which only a CPU looks at."""
    model, optimizer, batches = setting(dtype)
    assert isinstance(optimizer, MasterAdamW) == (dtype == torch.bfloat16)
    compute, metrics = Compute(torch.device("cpu"), "fp32"), Metrics()
    for _ in range(2):
        with Reads() as reads:
            train_step(model, optimizer, batches, partial(dpo_loss, beta=0.1), compute, 1.0, metrics)
        assert reads.counts == {"_local_scalar_dense": 2 * 2}  # the third microbatch has no target
    assert metrics.means()["loss"] > 0
