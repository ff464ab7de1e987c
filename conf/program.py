"""What every program does first and last: compose the config, and turn a user's mistake into one line."""

import dataclasses
import errno
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import env_override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from conf.composition import check_keys, composition_error, past_hydra
from conf.schema import Config, check_values
from model.distributed import finish, leave
from model.wrong_folder import check_folder

STAGE_KEYS = (  # these do not name a trained run
    r"\+?(exp|run\.(name|checkpoint|split|cache|verdicts)|benchmark|protocol|samples|allow_missing|decode|sandbox"
    r"|compare|prompt|device)\b"
)
OF_PROBLEMS = r"|\+?data\.(problems|train|validation|test)\b"  # nor these, but what is sampled lies apart
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR", "")  # as the user set it
RESERVED = ExitStack()  # what nobody else may write until this program, or combination of a sweep, ends


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
        if sweeping():  # the combination before may have left handlers that only note a signal
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            check_keys(cfg, command())
            check_values(cfg)
            with RESERVED, env_override({"HYDRA_FULL_ERROR": FULL_ERROR}):
                code = main(cfg)
        except (ValueError, OSError, MissingMandatoryValue) as error:
            if FULL_ERROR:
                raise
            sys.stdout.flush()
            rank = os.environ.get("RANK", "0")
            if isinstance(error, MissingMandatoryValue):
                error = f"{error.full_key} is not set; give it as {error.full_key}=..."
            elif isinstance(error, OmegaConfBaseException):  # an interpolation, found when it was looked at
                error = composition_error(error, command())
            elif getattr(error, "errno", None) == errno.ENOSPC:  # which does not say where
                error = f"{error} (outputs go to {cfg.run.dir}, reference log-probs to {cfg.run.cache})"
            where = f" in {cfg.run.dir}" * sweeping() + f" in process {rank}" * (rank != "0")
            print(f"error{where}: {error}", file=sys.stderr)
            if not sweeping() or os.environ.get("WORLD_SIZE", "1") != "1":
                sys.exit(1)
            failed.append(cfg.run.dir)
            return
        except KeyboardInterrupt:
            if FULL_ERROR:
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
        check_arguments(sys.argv[1:])
        try:
            try:
                with env_override({"HYDRA_FULL_ERROR": "1"}):  # then Hydra raises what else it would print
                    run()
            except Exception as error:
                if FULL_ERROR:
                    raise
                if own := past_hydra(error):  # a bug: only its own part of the traceback
                    raise error.with_traceback(own)  # noqa: B904
                if said := composition_error(error, command()):
                    sys.exit(f"error: {said}")
                raise
            if failed:
                sys.exit(f"error: {len(failed)} combinations failed, see above: {', '.join(failed)}")
        except BaseException as error:
            leave(error)
            raise
        leave()

    return started


def innermost(error: BaseException) -> BaseException:
    """What Hydra wraps in errors of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def check_arguments(arguments: Sequence[str]) -> None:
    """Leave with one line for what Hydra would answer with many, or with a traceback."""
    parser, named = OverridesParser.create(), ("exp", *(field.name for field in dataclasses.fields(Config)))
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key.startswith("--") and key != "--run" and re.split(r"\W", key[2:])[0] in named:
            plus = "+" * (key == "--exp")
            sys.exit(
                f"error: {argument}: settings have no dashes; give it as {plus}{key[2:]}={value or '...'}"
            )
        if key.startswith("-") or not equals:
            continue
        try:
            override = parser.parse_override(argument)
        except HydraException:
            quoted = os.path.expanduser(value).replace("\\", "\\\\").replace('"', '\\"')
            sys.exit(f"error: {argument} cannot be read; quote the value: '{key}=\"{quoted}\"'")
        if key == "run.name" and not override.is_sweep_override():
            check_name(str(override.value()))


def check_name(name: str) -> None:
    """Leave unless outputs can go to out/<name>, before Hydra makes that folder."""
    folder = Path("out", name)
    if not name.strip() or Path(name).is_absolute() or ".." in folder.parts:
        sys.exit(
            f"error: run.name is {name!r}, expected a folder's name in out/; run.home gives another place"
        )
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            sys.exit(f"error: run.name is {name}, but {place} is a file; move it or set another run.name")


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
