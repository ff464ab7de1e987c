"""What every program does first and last: compose the config, and turn a user's mistake into one line."""

import errno
import functools
import importlib
import inspect
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from conf.schema import Config
from losses.contract import check_result, takes
from model.distributed import finish, leave
from model.wrong_folder import check_folder

STAGE_KEYS = (  # these do not name a trained run
    r"\+?(exp|run\.(name|checkpoint|split|cache|verdicts)|benchmark|protocol|samples|allow_missing|decode|sandbox"
    r"|compare|prompt|device)\b"
)
OF_PROBLEMS = r"|\+?data\.(problems|train|validation|test)\b"  # nor these, but what is sampled lies apart


def sweeping() -> bool:
    """Whether this is one combination of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def run_dir(home: str, besides: str = "") -> str:
    """The folder of this run: `home`, or one below it per combination of a sweep, named by its overrides.

    Overrides that only say what to do with a trained policy are left out, and their order does not matter, so
    that training and evaluating the same sweep meet in the same folders. besides: others to be left out.
    """
    if not sweeping():
        return home
    given = HydraConfig.get().overrides.task
    overrides = sorted(o for o in given if not re.match(STAGE_KEYS + besides, o))
    return f"{home}/sweep/{re.sub(r'[^A-Za-z0-9_.=,+-]', '_', ','.join(overrides)) or 'default'}"


def command() -> str:
    """How the running program is started, for its help."""
    main = sys.modules["__main__"]
    return f"python -m {main.__spec__.name}" if main.__spec__ else f"python {Path(sys.argv[0]).name}"


OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)
OmegaConf.register_new_resolver("command", command, replace=True)


def program(main: Callable[[Config], int | None]) -> Callable[[], None]:
    """Make `main(cfg)` a Hydra program; what it returns is the exit code.

    ValueError, OSError and a value that was not given are the user's to mend: one line, exit code 1; torchrun
    then ends the other processes. Ctrl-C is one line too, exit code 130. Set HYDRA_FULL_ERROR=1 (Hydra's own
    switch) to see the traceback. A sweep in one process goes on after a mistake, and ends with exit code 1.
    With a `cfg` the program is a function: Hydra is passed by, and the process goes on whatever happens.
    """
    failed: list[str] = []  # combinations of a sweep

    @functools.wraps(main)
    def guarded(cfg: Config) -> None:
        try:
            code = main(cfg)
        except (ValueError, OSError, MissingMandatoryValue) as error:
            if os.environ.get("HYDRA_FULL_ERROR"):
                raise
            sys.stdout.flush()
            rank = os.environ.get("RANK", "0")
            if isinstance(error, MissingMandatoryValue):
                error = f"{error.full_key} is not set; give it as {error.full_key}=..."
            elif getattr(error, "errno", None) == errno.ENOSPC:  # which does not say where
                error = f"{error} (outputs go to {cfg.run.dir}, reference log-probs to {cfg.run.cache})"
            where = f" in {cfg.run.dir}" * sweeping() + f" in process {rank}" * (rank != "0")
            print(f"error{where}: {error}", file=sys.stderr)
            if not sweeping() or os.environ.get("WORLD_SIZE", "1") != "1":
                sys.exit(1)
            failed.append(cfg.run.dir)
            return
        except KeyboardInterrupt:
            if os.environ.get("HYDRA_FULL_ERROR"):
                raise
            print("\ninterrupted; the same command goes on from what is finished", file=sys.stderr)
            sys.exit(130)
        finish()
        if code:
            sys.exit(code)

    run = hydra.main(version_base="1.3", config_path=str(Path(__file__).parent), config_name="config")(
        guarded
    )

    @functools.wraps(main)
    def started(cfg: Config | None = None) -> None:
        if cfg is not None:
            return run(cfg)
        try:
            run()
            if failed:
                sys.exit(f"error: {len(failed)} combinations failed, see above: {', '.join(failed)}")
        except BaseException as error:
            leave(error)
            raise
        leave()

    return started


def checkpoint_folder(cfg: Config, name: str | None) -> Path:
    """The folder a checkpoint's name stands for: base, a stage of this run, `run/stage`, or a path."""
    if name in (None, "base"):
        if not cfg.model.path:
            raise ValueError(
                "model.path is not set; point it at a checkpoint folder (config.json, model.safetensors)"
            )
        check_folder(Path(cfg.model.path))
        return Path(cfg.model.path)
    own, shared = Path(cfg.run.dir, name), Path(cfg.run.home, name)
    trained = Path(run_dir(cfg.run.home, OF_PROBLEMS), name) if sweeping() else own
    for folder in (own, trained, shared, Path("out", name), Path(name)):
        if (folder / "config.json").exists():
            if folder == shared not in (own, trained) and name == cfg.run.checkpoint:
                raise ValueError(
                    f"run.checkpoint={name}: this combination of the sweep has no {own}, and {shared} is not "
                    f"of the sweep; train with the same overrides first, or give run.checkpoint={shared}"
                    f"{others_of_the_sweep(cfg, name)}"
                )
            return folder
    if Path(name).is_dir():
        check_folder(Path(name))
    raise FileNotFoundError(
        f"no checkpoint {name!r}: looked for config.json in {cfg.run.dir}/{name}, out/{name} and {name}; "
        "train it first, or give base, a stage of this run (dpo, sft), run/stage or a folder"
        f"{others_of_the_sweep(cfg, name)}"
    )


def others_of_the_sweep(cfg: Config, name: str) -> str:
    """For a message: which combinations have such a checkpoint."""
    sweep = Path(cfg.run.home, "sweep")
    found = sorted(path.relative_to(sweep).parts[0] for path in sweep.glob(f"*/{name}/config.json"))
    more = f" and {len(found) - 9} more" if len(found) > 9 else ""
    return f". These combinations have one: {'; '.join(found[:9])}{more}" if found else ""


def samples_folder(cfg: Config, checkpoint: str | None = None) -> Path:
    """Completions, results and summary of a checkpoint on `run.split`; one folder per decode group."""
    parts = [checkpoint or cfg.run.checkpoint or "base", cfg.benchmark, cfg.run.split]
    parts.append(HydraConfig.get().runtime.choices["decode"])
    name = "-".join(part.strip("/") for part in parts if part)
    return Path(cfg.run.dir, re.sub(r"[^A-Za-z0-9_.-]+", "_", name))


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
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
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
    try:
        inspect.signature(loss.func).bind_partial(*loss.args, **loss.keywords)
    except TypeError as error:
        known = ", ".join(
            p.name for p in inspect.signature(loss.func).parameters.values() if p.kind == p.KEYWORD_ONLY
        )
        raise ValueError(f"{where} {name_of(loss)}: {error}; it takes {known}") from None
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
