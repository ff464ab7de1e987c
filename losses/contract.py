"""What some losses ask of their caller, beyond log-prob sums.

- Batches. A loss whose value for one pair depends on the other pairs carries the decorator `couples_pairs`.
  `needs_whole_batch(loss)` tells; such a loss must see all pairs of a step in one call.
- Ranks. Where a value belongs to a rank of the batch and not to a pair (aot.py), the decorator is `by_rank`:
  such a loss must not be multiplied by numbers per pair.
- Memory. A loss that remembers something between steps has a keyword `state: Tensor | None`, None at the
  first step, and returns the next one in `PreferenceLoss.state`. `takes(loss, "state")` tells.
- Measurements beyond log-prob sums are keywords too: `forward_kl` and `reverse_kl` [2, B] in tdpo.py,
  `log_weight` [B] in wpo.py, `kl` in kto.py. variants/train_measured.py computes them. train_dpo.py does not:
  kto.py has a substitute then, the others are an error that names what is missing.
- Token weights (LD-DPO, focal spans, TIS-DPO) are numbers in the batch, multiplied into the sums before a
  loss sees them; the loss stays `dpo_loss`.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from losses.types import LossFunction, PairLogps, PreferenceLoss

MEASUREMENTS = {
    "forward_kl": (2, 2),
    "reverse_kl": (2, 2),
    "log_weight": (2,),
    "kl": (4,),
}  # shapes of 2 pairs


def couples_pairs(loss: LossFunction) -> LossFunction:
    """Mark a loss whose value for one pair depends on the others, so that a batch must not be split."""
    loss.couples_pairs = True
    return loss


def by_rank(loss: LossFunction) -> LossFunction:
    """Mark a loss whose values belong to ranks of the batch; it couples pairs too."""
    loss.by_rank = True
    return couples_pairs(loss)


def functions(loss: LossFunction | Sequence) -> Iterator[Callable]:
    """The function of a loss, and those of losses it was given as settings (mixture, WPO)."""
    if isinstance(loss, functools.partial):
        yield from functions([loss.func, *loss.keywords.values()])
    elif isinstance(loss, Sequence) and not isinstance(loss, str):
        for part in loss:
            yield from functions(part)
    elif callable(loss):
        yield loss


def marked(loss: LossFunction, mark: str) -> bool:
    """Whether a loss, or a loss inside it, carries this mark."""
    return any(getattr(function, mark, False) for function in functions(loss))


def needs_whole_batch(loss: LossFunction) -> bool:
    """Whether the loss must see all pairs of a step in one call."""
    return marked(loss, "couples_pairs")


def takes(loss: LossFunction, name: str) -> bool:
    """Whether the loss has a keyword of that name: `state`, `kl`, `log_weight`, ...

    A mixture takes what one of its parts takes, and WPO what the loss inside it takes.
    """
    settings = loss.keywords if isinstance(loss, functools.partial) else {}
    if "parts" in settings:
        return any(takes(part, name) for part in settings["parts"])
    if "loss" in settings and name != "log_weight":
        return takes(settings["loss"], name)
    return name in inspect.signature(loss).parameters


def check_result(loss: LossFunction, name: str, measured: bool = True) -> None:
    """ValueError unless the loss, tried on two pairs, gives numbers [2] to train on; random numbers that it
    draws are not missed later. measured: give it the measurements that it asks for."""
    chosen, rejected = torch.tensor([[-10.0, -12.0], [-14.0, -11.0]]).requires_grad_()
    sizes = torch.tensor([[5.0, 6.0], [7.0, 4.0]])
    reference = torch.tensor([[-11.0, -11.0], [-12.0, -13.0]], dtype=torch.float64)
    given = {key: torch.zeros(shape, requires_grad=True) for key, shape in MEASUREMENTS.items() if measured}
    given = {key: value for key, value in {**given, "state": None}.items() if takes(loss, key)}
    with torch.random.fork_rng(devices=[]):
        out = loss(PairLogps(chosen, rejected, *sizes), PairLogps(*reference, *sizes), **given)
    for field in PreferenceLoss._fields[:3]:
        value = getattr(out, field, None)
        if isinstance(value, Tensor) and value.shape == (2,) and value.is_floating_point():
            continue
        found = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(out).__name__
        raise ValueError(
            f"{name} gives {found} for {field} of 2 pairs, expected a PreferenceLoss (losses/types.py) of "
            "float tensors [2]: a number per pair, whose mean the trainer takes"
        )
    if not out.losses.requires_grad:
        raise ValueError(f"{name} gives losses that do not depend on the policy: nothing could be trained")
