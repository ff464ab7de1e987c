"""Several processes, one model: torchrun and FSDP2, applied from outside; the model file knows nothing of it.

    torchrun --nproc-per-node 8 train_dpo.py +exp=...

One mesh dimension. Every block is sharded by itself; embedding, final norm and lm_head stay in the root
group, which is not resharded after forward, so `lm_head.weight` is an ordinary full tensor when the fused
log-prob uses it outside the module. With one process every function here is the identity or close to it.

Rules for a training loop, each of them checked in tests/model/test_distributed.py:
- gradients are *sums* over processes: divide each loss by the global number of pairs, never by the local one;
- build the optimiser after `shard` and before the first forward: later the root's parameters may be gathered
  copies;
- call `reshard` after every pass without backward (scoring, validation), or what is written to the parameters
  afterwards is not seen by the next forward;
- every process must run the same number of forwards and backwards per step (`global_max` of the count).
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from model.transformer import Transformer


class Process(NamedTuple):
    """Which of how many processes this is, and the device it works on."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0


def setup(device: torch.device) -> Process:
    """Join the processes torchrun started (its environment variables say which), or be the only one.

    `device` gives the kind; under torchrun on CUDA each process takes the card of its local rank.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return Process(0, 1, device)
    missing = [
        name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
    ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is {world_size} but {', '.join(missing)} is not set; start with torchrun, "
            "or unset WORLD_SIZE"
        )
    if device.type == "cuda":
        local_rank = int(os.environ["LOCAL_RANK"])
        if local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"local rank {local_rank}, but {torch.cuda.device_count()} CUDA devices; "
                "lower --nproc-per-node"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Process(dist.get_rank(), dist.get_world_size(), device)


def several() -> bool:
    """Whether more than one process takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def finish() -> None:
    """Leave the group; the last thing a program does. Does nothing in a single process."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def shard(policy: Transformer, compute_dtype: torch.dtype | None = None) -> Transformer:
    """Split the parameters over all processes, in place; the identity on one process.

    The policy must hold the same full weights everywhere. With `compute_dtype` (bfloat16) the float32 shards
    are the master weights: parameters are gathered and used in that dtype, gradients are reduced in float32.
    """
    if not several():
        return policy
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    precision = MixedPrecisionPolicy(
        param_dtype=compute_dtype, reduce_dtype=torch.float32 if compute_dtype else None
    )
    for block in policy.blocks:
        fully_shard(block, mesh=mesh, mp_policy=precision)
    fully_shard(policy, mesh=mesh, mp_policy=precision, reshard_after_forward=False)
    for module in sharded_modules(policy):
        module.set_gradient_divide_factor(1.0)  # the default divides by the number of processes
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction with a factor
    return policy


def sharded_modules(policy: nn.Module) -> list[FSDPModule]:
    return [module for module in policy.modules() if isinstance(module, FSDPModule)]


def reshard(policy: nn.Module) -> None:
    """Let go of gathered parameters, after every pass without backward; the identity on one process."""
    for module in sharded_modules(policy):
        module.reshard()


def gather(policy: Transformer) -> Transformer | None:
    """An ordinary copy of a sharded policy on the CPU of the first process, None on the others.

    One parameter at a time passes through the devices. Every process must call it. On one process: the policy
    itself. What it returns can be saved in the published layout.
    """
    if not several():
        return policy
    first = dist.get_rank() == 0
    weights: dict[str, Tensor] = {}
    for name, parameter in policy.named_parameters():
        full = parameter.detach().full_tensor()
        if first:
            weights[name] = full.cpu()
    if not first:
        return None
    with torch.device("meta"):
        whole = Transformer(policy.config)
    for name, tensor in weights.items():
        module, kind = name.rsplit(".", 1)
        setattr(whole.get_submodule(module), kind, nn.Parameter(tensor))
    if policy.config.tied:
        whole.lm_head.weight = whole.embedding.weight
    if hasattr(policy, "source_config"):
        whole.source_config = policy.source_config
    return whole


def save_sharded(policy: nn.Module, optimizer: torch.optim.Optimizer, folder: Path | str) -> None:
    """Weights and optimiser state for `load_sharded`, a part per process; the folder is whole or absent."""
    folder = Path(folder)
    staging = folder.with_name(f".{folder.name}.saving")
    if dist.get_rank() == 0:
        shutil.rmtree(staging, ignore_errors=True)
        staging.parent.mkdir(parents=True, exist_ok=True)
    dist.barrier()
    model_state, optimizer_state = get_state_dict(policy, optimizer)
    dcp.save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=staging)
    if dist.get_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    dist.barrier()


def load_sharded(policy: nn.Module, optimizer: torch.optim.Optimizer, folder: Path | str) -> None:
    """Take over what `save_sharded` wrote, bit for bit; the number of processes may be another one."""
    if not (Path(folder) / ".metadata").exists():
        raise FileNotFoundError(f"{folder} holds no sharded training state; start without resuming")
    model_state, optimizer_state = get_state_dict(policy, optimizer)
    state = {"model": model_state, "optimizer": optimizer_state}
    dcp.load(state, checkpoint_id=folder)
    set_state_dict(policy, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])


def global_sum(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes; the tensor itself on one. Every process must call it."""
    if not several():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def global_max(value: int, device: torch.device) -> int:
    """The largest of one number per process, such as the number of microbatches all of them have to run."""
    if not several():
        return value
    largest = torch.tensor(value, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def print_once(*values: object) -> None:
    """print on the first process."""
    if not several() or dist.get_rank() == 0:
        print(*values, flush=True)
