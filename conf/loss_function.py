"""The loss that a config names, looked at before anything expensive: settings, file, what it gives."""

import functools
import importlib
import inspect
import math
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from conf.program import innermost
from losses.contract import MEASUREMENTS, check_result, takes


def loss_function(cfg: DictConfig, sums_only: bool = False) -> functools.partial:
    """The function conf/loss names, its settings checked now: a partial complains only at its first call.

    sums_only: refuse a loss that asks for more than log-prob sums and has no substitute.
    """
    try:
        loss = hydra.utils.instantiate(cfg)
    except InstantiationException as error:
        raise ValueError(f"loss: {without_hydra(error)}") from None
    if not isinstance(loss, functools.partial):
        raise ValueError("loss lacks _target_ or _partial_: true, which make a loss; see conf/loss/dpo.yaml")
    losses = [*losses_inside(loss, "loss")]
    for where, part in losses:
        check_settings(part, where)
    asked = [name for name in ("forward_kl", "reverse_kl", "log_weight") if takes(loss, name)]
    if sums_only and asked:
        raise ValueError(
            f"loss {cfg._target_} asks for {', '.join(asked)}, which this program does not measure; train "
            "with python -m variants.train_measured"
        )
    for where, part in losses:
        check_result(part, f"{where} {name_of(part)}", measured=not sums_only)
    return loss


def without_hydra(error: InstantiationException) -> str:
    """What is wrong with the code that a config names, and where, in one line."""
    cause = innermost(error)
    says = str(error).partition(", set env var")[0].splitlines()[0].rstrip(":")
    if cause is error:
        return says
    passed = tuple(str(Path(module.__file__).parent) for module in (hydra, importlib)) + ("<",)
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if not frame[0].startswith(passed)]
    place, line, what = frames[-1].filename if frames else "", frames[-1].lineno if frames else 0, str(cause)
    if isinstance(cause, SyntaxError):
        place, line, what = cause.filename, cause.lineno, cause.msg
    elif isinstance(cause, ModuleNotFoundError) and f"'{cause.name}" in says:
        return f"{says}: there is no {cause.name}"
    hint = "; is _partial_: true missing?" if says.startswith("Error in call") else ""
    return f"{says}: {type(cause).__name__}: {what}{f' ({place}, line {line})' * bool(place)}{hint}"


def name_of(loss: functools.partial) -> str:
    return f"{loss.func.__module__}.{loss.func.__name__}"


def losses_inside(loss: functools.partial, where: str) -> Iterator[tuple[str, functools.partial]]:
    """Losses among the settings of a loss, and then itself, each with its place in the config."""
    inside = {f"{where}.parts.{i}": part for i, part in enumerate(loss.keywords.get("parts", ()))}
    for place, part in (inside | {f"{where}.loss": loss.keywords.get("loss")}).items():
        if isinstance(part, functools.partial):
            yield from losses_inside(part, place)
        elif isinstance(part, Mapping):
            raise ValueError(f"{place} lacks _target_ or _partial_: true, which make a loss")
    yield where, loss


def check_settings(loss: functools.partial, where: str) -> None:
    """ValueError for settings that the loss does not take or that turn it around."""
    settings = [p for p in inspect.signature(loss.func).parameters.values() if p.kind == p.KEYWORD_ONLY]
    try:
        inspect.signature(loss.func).bind_partial(*loss.args, **loss.keywords)
    except TypeError as error:
        names = ", ".join(p.name for p in settings)
        raise ValueError(f"{where} {name_of(loss)}: {error}; it takes {names}") from None
    needed = {p.name for p in settings if p.default is p.empty} - {*loss.keywords, *MEASUREMENTS, "state"}
    if needed:
        wanted = " ".join(f"++{where}.{name}=..." for name in sorted(needed))
        raise ValueError(f"{where} {name_of(loss)} lacks settings; give {wanted}")
    beta, smoothing = loss.keywords.get("beta", 1), loss.keywords.get("label_smoothing", 0)
    if not isinstance(beta, int | float) or not 0 < beta < math.inf:
        raise ValueError(f"{where}.beta is {beta!r}, expected a number above 0")
    if not isinstance(smoothing, int | float) or not 0 <= smoothing < 0.5:
        raise ValueError(f"{where}.label_smoothing is {smoothing!r}, expected at least 0 and below 0.5")
    parts, weights = (loss.keywords.get(name, ()) for name in ("parts", "weights"))
    if parts and len(parts) != len(weights):
        raise ValueError(
            f"{where} has {len(parts)} parts and {len(weights)} weights, expected as many of each"
        )
