"""What Hydra says over many lines when no config comes about, in one line that says what to do."""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from types import TracebackType, UnionType
from typing import Any, get_args, get_type_hints

from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from conf.schema import Config

TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list[float]: "a list of numbers",
    list[str]: "a list of texts",
    dict[str, float]: "numbers by name",
}
SHOWN = 8  # of the names that were possible


def composition_error(error: BaseException, command: str) -> str | None:
    """One line for what overrides or config files have wrong, or the disk; None for a bug.

    command: how the running program is started.
    """
    if isinstance(error, MissingConfigException):
        return no_option(error, command)
    if isinstance(cause := error.__cause__ or error, OSError):  # Hydra writes down the config before it calls
        return f"{joined(str(cause))} (outputs go below run.home; set another one, or make room there)"
    if type(error).__module__.partition(".")[0] not in ("hydra", "omegaconf", "yaml"):
        return None
    found = next((e for e in chain(error) if isinstance(e, OmegaConfBaseException) and e.full_key), None)
    if found is None:
        twice = re.match(r"Multiple values for (\S+)\.", str(error))
        return f"{twice[1]} is chosen twice, expected one {twice[1]}=..." if twice else joined(str(error))
    file = str(error).split("'")[1] if str(error).startswith("In '") else ""
    where = f"conf/{file}.yaml: " * bool(file)
    if isinstance(found, ConfigKeyError | ConfigAttributeError) and OmegaConf.is_dict(found.parent_node):
        return where + no_key(found, command)
    if isinstance(found, ValidationError) and (expected := expected_at(found.full_key)):
        given = "null" if found.value is None else repr(found.value)
        return f"{where}{found.full_key} is {given}, expected {expected} (`{command} --cfg job` shows all)"
    return f"{where}{found.full_key}: {str(found).splitlines()[0]}"


def past_hydra(error: BaseException) -> TracebackType | None:
    """The traceback from where Hydra called conf/program.py on; None if Hydra raised `error` itself."""
    trace = error.__traceback__.tb_next  # the first entry is the caller's
    while trace and trace.tb_frame.f_globals.get("__name__") != "conf.program":
        trace = trace.tb_next
    return trace


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was made from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def no_option(error: MissingConfigException, command: str) -> str:
    if not error.options:
        return joined(str(error).partition("\nConfig search path")[0])
    group, _, name = error.missing_cfg_file.rpartition("/")
    return (
        f"{group}={name}: there is no such option, expected {nearest(name, error.options)} "
        f"(`{command} --help` shows all)"
    )


def no_key(error: OmegaConfBaseException, command: str) -> str:
    """For a key that its node does not have; nodes that name a function may be given more."""
    node = error.full_key.rpartition(".")[0]
    keys = nearest(str(error.key), (str(key) for key in error.parent_node if key != "hydra"))
    if OmegaConf.get_type(error.parent_node) is dict:
        return no_setting(error.full_key, f"{keys} in {node}; +{error.full_key}=... adds it", command)
    return no_setting(error.full_key, keys + f" in {node}" * bool(node), command)


def no_setting(key: str, expected: str, command: str) -> str:
    return f"{key}: there is no such setting, expected {expected} (`{command} --cfg job` shows all)"


def check_keys(node: DictConfig, command: str, where: str = "") -> None:
    """ValueError for keys that the schema does not have: Hydra opens every node for `+`."""
    kind = OmegaConf.get_type(node)
    names = [field.name for field in fields(kind)]
    for key in node:
        if key not in (*names, "hydra"):
            expected = nearest(key, names) + f" in {where[:-1]}" * bool(where)
            raise ValueError(no_setting(f"+{where}{key}", expected, command))
    for name, inner in get_type_hints(kind).items():
        if is_dataclass(inner):
            check_keys(node[name], command, f"{where}{name}.")


def nearest(name: str, options: Iterable[str]) -> str:
    """The options, the most similar to `name` first, as far as a line has room for them."""
    ranked = sorted(options, key=lambda option: -difflib.SequenceMatcher(None, name, option).ratio())
    return ", ".join(ranked[:SHOWN]) + f" or {len(ranked) - SHOWN} more" * (len(ranked) > SHOWN)


def expected_at(key: str) -> str | None:
    """The type of a setting, in words."""
    kind: Any = Config
    for part in key.split("."):
        name, index, _ = part.partition("[")
        kind = get_type_hints(kind).get(name) if is_dataclass(kind) else None
        kind = (get_args(kind) or (None,))[0] if index else kind
    if is_dataclass(kind):
        return f"settings named {', '.join(get_type_hints(kind))}"
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    words = [TYPES.get(one) for one in kinds if one is not type(None)]
    return " or ".join(words + ["null"] * (len(kinds) > len(words))) if all(words) else None


def joined(text: str) -> str:
    return " ".join(text.split())
