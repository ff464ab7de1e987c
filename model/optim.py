"""AdamW groups, fp32 master weights, gradient clipping, and the learning rate as a function of the step.

AdamW: Loshchilov and Hutter 2019, arXiv 1711.05101; the update itself is torch.optim.AdamW. Added here is
what it leaves to its caller: which parameters decay, and what happens when parameters are kept in bfloat16.
"""

import math
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

SCHEDULES = ("constant", "linear", "cosine")
BUCKET_ELEMENTS = 2**26  # gradients turned to float32 at one time by MasterAdamW: 256 MiB


def learning_rate(step: int, *, peak: float, warmup_steps: int, total_steps: int, schedule: str) -> float:
    """Learning rate of optimiser step `step`, counted from 0; a pure function, so resuming needs no state.

    Warm-up (step < W): peak * (step + 1) / (W + 1), so that the first step is not wasted on a rate of zero
    and step W is the first at the peak. After it, with p = (step - W) / (T - W): constant is peak, linear
    peak * (1 - p), cosine peak * (1 + cos(pi p)) / 2. Both decays reach 0 at step T, one after the last
    step taken, and stay there.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"optim.schedule is {schedule!r}, expected one of {', '.join(SCHEDULES)}")
    if not 0 <= warmup_steps <= total_steps or step < 0:
        raise ValueError(
            f"0 <= warmup_steps <= total_steps and step >= 0 expected; found warmup_steps {warmup_steps}, "
            f"total_steps {total_steps}, step {step}; lower optim's warm-up or train longer"
        )
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return peak
    if step >= total_steps:
        return 0.0
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return peak * (1 - progress if schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Trainable parameters in two groups: decayed, then not decayed; empty groups are left out.

    The rule: matrices (two or more dimensions) decay, vectors (norms, biases) do not, and an nn.Embedding's
    weight does not either, also when it is tied to the output head. A shared parameter appears once.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2 and id(p) not in embeddings]
    others = [p for p in trained if p.ndim < 2 or id(p) in embeddings]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def adamw(
    model: nn.Module, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> "torch.optim.AdamW | MasterAdamW":
    """AdamW over `parameter_groups`; with fp32 master weights when any trained parameter is kept in less.

    Build it before the first forward of a sharded model (see model/distributed.py).
    """
    groups = parameter_groups(model, weight_decay)
    if not groups:
        raise ValueError("the model has no parameter with requires_grad; nothing to train")
    parameters = [p for group in groups for p in group["params"]]
    build = MasterAdamW if any(needs_master(p) for p in parameters) else torch.optim.AdamW
    return build(groups, lr=lr, betas=tuple(betas), eps=eps, fused=fused_works(parameters))


def needs_master(parameter: Tensor) -> bool:
    return parameter.dtype in (torch.bfloat16, torch.float16)


def fused_works(parameters: list[Tensor]) -> bool:
    """Whether torch's one-kernel AdamW runs on the devices the parameters are on."""
    return all(p.device.type in ("cuda", "cpu", "mps") and p.is_floating_point() for p in parameters)


class MasterAdamW:
    """AdamW for parameters kept in bfloat16: steps float32 copies, then rounds them into the parameters.

    At lr 5e-7 an update is usually far below half a bfloat16 step of the weight (2^-9 relative) and would be
    rounded away; the copies add the updates up until they show. Costs 12 bytes a parameter (copy and two
    moments) plus one bucket of float32 gradients. Looks like an optimiser to a training loop:
    `param_groups`, `step`, `zero_grad`, `state_dict`, `load_state_dict`. Parameters already in float32 are
    stepped directly.
    """

    def __init__(self, groups: list[dict], **settings: object) -> None:
        self.parameters: list[Tensor] = [p for group in groups for p in group["params"]]
        self.masters: list[Tensor] = [
            p.detach().to(torch.float32, copy=True) if needs_master(p) else p for p in self.parameters
        ]
        masters = iter(self.masters)
        master_groups = [group | {"params": [next(masters) for _ in group["params"]]} for group in groups]
        self.adamw = torch.optim.AdamW(master_groups, **settings)

    @property
    def param_groups(self) -> list[dict]:
        """The groups of the masters; setting `lr` in them is what a schedule does."""
        return self.adamw.param_groups

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients on the parameters, a bucket at a time.

        A parameter whose gradient is None is left as it is, moments included, as in torch.optim.AdamW; that
        also makes stepping bucket by bucket the same as stepping at once.
        """
        direct = [p.grad for p in self.parameters]
        for master in self.masters:
            master.grad = None
        for bucket in self.buckets():
            for i in bucket:
                self.masters[i].grad = None if direct[i] is None else direct[i].to(self.masters[i].dtype)
            self.adamw.step()
            for i in bucket:
                if self.masters[i] is not self.parameters[i]:
                    self.parameters[i].copy_(self.masters[i])
                self.masters[i].grad = None
        for parameter, grad in zip(self.parameters, direct, strict=True):
            parameter.grad = grad

    def buckets(self) -> Iterator[list[int]]:
        """Indices of the parameters in runs of at most BUCKET_ELEMENTS elements, at least one each."""
        bucket: list[int] = []
        elements = 0
        for i, parameter in enumerate(self.parameters):
            if bucket and elements + parameter.numel() > BUCKET_ELEMENTS:
                yield bucket
                bucket, elements = [], 0
            bucket.append(i)
            elements += parameter.numel()
        if bucket:
            yield bucket

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.parameters:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def state_dict(self) -> dict:
        """Moments, step counts and the masters; aliases the live tensors, like any optimiser's."""
        return {
            "adamw": self.adamw.state_dict(),
            "masters": {i: m for i, m in enumerate(self.masters) if m is not self.parameters[i]},
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """Take over a saved state bit for bit; the model must already hold the weights saved with it."""
        for i, master in enumerate(self.masters):
            if master is self.parameters[i]:
                continue
            saved = state["masters"].get(i)
            if saved is None or saved.shape != master.shape:
                raise ValueError(
                    f"the optimiser state has {'no master' if saved is None else tuple(saved.shape)} for "
                    f"parameter {i}, expected shape {tuple(master.shape)}; it belongs to another model"
                )
            master.copy_(saved)
            if not torch.equal(local(master).to(self.parameters[i].dtype), local(self.parameters[i])):
                raise ValueError(
                    f"the optimiser state's master weights do not round to the model's parameter {i}; "
                    "load the checkpoint it was saved with"
                )
        self.adamw.load_state_dict(state["adamw"])


def local(tensor: Tensor) -> Tensor:
    """The part of a (possibly sharded) tensor that this process holds."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale gradients in place by min(1, max_norm / norm); return the norm before it, a float32 scalar.

    The norm is over all gradients together (L2) and accumulates in float32 whatever the gradients' dtype. The
    result stays on the device, nothing waits for it. `max_norm=inf` only measures. A NaN or infinite norm is
    returned for the caller to act on. The factor has the first gradient's type, in bfloat16 8 bits.
    Gradients sharded by model/distributed.py are summed over processes.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm is {max_norm}, a number above 0 expected (inf: measure only)")
    with_grad = [p.grad for p in parameters if p.grad is not None]
    if not with_grad:
        return torch.zeros(())
    grads = [local(grad) for grad in with_grad]
    square = torch.stack(torch._foreach_norm(grads, 2, dtype=torch.float32)).square().sum()
    if grads[0] is not with_grad[0]:  # sharded: every process holds a part of every gradient
        dist.all_reduce(square)
    norm = square.sqrt()
    if math.isfinite(max_norm):
        scale = (max_norm / norm).clamp(max=1.0).to(grads[0].dtype)  # of another type it costs four times
        torch._foreach_mul_(grads, scale)
    return norm
