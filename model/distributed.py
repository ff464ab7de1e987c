"""Several processes, one model: torchrun and FSDP2, applied from outside; the model file knows nothing of it.

    torchrun --nproc-per-node 8 train_dpo.py +exp=...

One mesh dimension. Every block is sharded by itself; embedding, final norm and lm_head stay in the root
group, which is not resharded after forward, so `lm_head.weight` is an ordinary full tensor when the fused
log-prob uses it outside the module. The microbatches of a step are dealt to the processes in turn. With one
process every function here is the identity.

All processes stop after the same step when one of them gets a signal. torchrun hands Ctrl-C on and kills what
is left 30 seconds later; `--shutdown-timeout 600` leaves a large model the time to be saved.

Rules for a training loop, each of them checked in tests/model/test_distributed.py:
- gradients are *sums* over processes: divide each loss by the `total` number of pairs, not the local one;
- every process must run the same number of forwards and backwards: `share` adds empty batches where needed;
- build the optimiser after `shard` and before the first forward: later the root's parameters may be gathered
  copies;
- call `reshard` after every pass without backward (scoring, validation), or what is written to the parameters
  afterwards is not seen by the next forward;
- whatever a process decides (stop, go on from step n) must be the same on all: `on_first`, `largest`.
"""

import os
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.transformer import Transformer

Numbers = TypeVar("Numbers", float, list[float])
Result = TypeVar("Result")

PATIENCE = timedelta(minutes=30)  # how long a process waits for another that saves or reads
_joined = False  # whether this process has been in a group


def setup(device: torch.device) -> torch.device:
    """Join the processes torchrun started (its environment variables say which), or be the only one.

    Returns the device this process works on: on CUDA the card of its local rank. Only the first one prints.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return device
    missing = [
        name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
    ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is {world_size} but {', '.join(missing)} is not set; start with torchrun, "
            "or unset WORLD_SIZE"
        )
    backend = "gloo"
    if device.type == "cuda":
        local_rank = int(os.environ["LOCAL_RANK"])
        if local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"local rank {local_rank}, but {torch.cuda.device_count()} CUDA devices; "
                "lower --nproc-per-node"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"  # what the hosts agree on never waits for a card
    global _joined
    _joined = True
    if not dist.is_initialized():
        dist.init_process_group(backend, timeout=PATIENCE)
    if not first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return device


def several() -> bool:
    """Whether more than one process takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def first() -> bool:
    """Whether this process writes the files, prints and shows progress."""
    return not several() or dist.get_rank() == 0


def finish() -> None:
    """Wait for the others and take the group down; the last thing a run does."""
    if several():
        wait()
        dist.destroy_process_group()


def leave(error: BaseException | None = None) -> None:
    """End a process that was in a group as `error` would, but at once; return where there never was a group.

    An interpreter takes seconds to end, and a thread of gloo that lets go of a tensor meanwhile aborts the
    process: it asks for an interpreter that is no longer there. So nothing is taken down here; what should
    be on disk must have been written.
    """
    if not _joined:
        return
    code: object = 0
    if isinstance(error, SystemExit):
        code = error.code
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def require_one_process(reason: str) -> None:
    if several():
        raise ValueError(
            f"{reason} and needs one process, found {dist.get_world_size()}; start without torchrun"
        )


# ---------------------------------------------------------------------------------------------------- weights


def shard(policy: Transformer, device: torch.device) -> Transformer:
    """Split the parameters over all processes, in place, and put them on their devices.

    The policy must hold the same full weights everywhere; a block at a time passes through the device.
    Gradients are summed in float32, whatever the dtype of the parameters.
    """
    if not several():
        return policy
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    settings = {
        "mesh": init_device_mesh(device.type, (dist.get_world_size(),)),
        "mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32),
    }
    for block in policy.blocks:
        fully_shard(block, **settings)
    fully_shard(policy, **settings, reshard_after_forward=False)
    for module in sharded_modules(policy):
        module.set_gradient_divide_factor(1.0)  # the default divides by the number of processes
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction with a factor
    return policy


def sharded_modules(policy: nn.Module) -> list[nn.Module]:
    return [module for module in policy.modules() if hasattr(module, "reshard")]


def reshard(policy: nn.Module) -> None:
    """Let go of gathered parameters, after every pass without backward."""
    for module in sharded_modules(policy):
        module.reshard()


def gather(tree: Any) -> Any:
    """Nested dicts and lists with whole tensors for sharded ones: on the CPU of the first process, None on
    the others. Every process must call it; one tensor at a time passes through the devices."""
    if not several():
        return tree
    whole = _whole(tree)
    return whole if first() else None


def _whole(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _whole(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_whole(value) for value in tree]
    if hasattr(tree, "full_tensor"):
        full = tree.detach().full_tensor()
        return full.cpu() if first() else None
    return tree.detach().cpu() if isinstance(tree, Tensor) and first() else tree


def scatter(state: dict, parameters: list[Tensor]) -> dict:
    """The state dict of an optimiser, saved whole, with every tensor split as its parameter is.

    What lies below a key i belongs to parameter i, in the order of the optimiser's groups.
    """
    if not several():
        return state
    from torch.distributed.tensor import distribute_tensor

    def split(tree: Any, like: Tensor | None) -> Any:
        if isinstance(tree, dict):
            return {
                key: split(value, parameters[key] if isinstance(key, int) else like)
                for key, value in tree.items()
            }
        if isinstance(tree, Tensor) and like is not None and tree.shape == like.shape:
            return distribute_tensor(tree, like.device_mesh, like.placements, src_data_rank=None)
        return tree

    return split(state, None)


# --------------------------------------------------------------------------------------------------- agreeing


def share(groups: Iterable[list[int]]) -> list[list[int]]:
    """Every n-th of the microbatches for each of n processes; empty ones where others have one more."""
    groups = list(groups)
    if not several():
        return groups
    rank, size = dist.get_rank(), dist.get_world_size()
    mine = groups[rank::size]
    return mine + [[]] * (-(-len(groups) // size) - len(mine))


def total(numbers: Numbers) -> Numbers:
    """A number of the host, or a list of them, summed over all processes."""
    return _reduce(numbers, dist.ReduceOp.SUM)


def largest(numbers: Numbers) -> Numbers:
    """A number of the host, or a list of them: the largest over all processes."""
    return _reduce(numbers, dist.ReduceOp.MAX)


def _reduce(numbers: Numbers, operation: Any) -> Numbers:
    if not several():
        return numbers
    tensor = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(tensor, operation)
    return tensor.tolist()


def wait() -> None:
    """Go on when all processes are here."""
    total(0.0)


def on_first(function: Callable[..., Result], *arguments: Any, **settings: Any) -> Result:
    """What the function returns on the first process, which alone calls it."""
    if not several():
        return function(*arguments, **settings)
    result = [function(*arguments, **settings) if first() else None]
    dist.broadcast_object_list(result)
    return result[0]
