"""What a training run computes, told in one dict: a run goes on, is finished, or is another one by it."""

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from omegaconf import OmegaConf

from conf.program import RESERVED, checkpoint_folder
from conf.schema import Config
from data.columns import columns_digest, is_columns
from data.jsonl import digest, free_place, only_writer, write_provenance
from losses.contract import functions
from losses.types import LossFunction
from model.checkpoint import take_back, weights_digest
from model.training import read_position

HARMLESS = r".*_every|microbatch|max_steps"  # of optim: when, how and how far, not what is computed
PARTS = ("", ".metrics.jsonl", ".metrics", ".meta.json", "-best")  # what a training run writes, by its folder
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def training_objective(cfg: Config, dtype: str, loss: LossFunction | None, **inputs: object) -> dict:
    """Everything that decides what a training run computes; a resumed run must have the same.

    loss: of pairs; None for likelihood, which has no reference and no weights either. inputs: what the
    program begins from, and what it measures for the loss beyond log-prob sums.
    """
    optim = OmegaConf.to_container(cfg.optim, resolve=True)
    if loss is not None:
        inputs.setdefault("measured", [])
        inputs |= {
            "loss": OmegaConf.to_container(cfg.loss, resolve=True),
            "loss_code": code_of(loss),
            "weights": cfg.data.weights and columns_digest(cfg.data.weights),
            "reference": reference_digest(cfg),
        }
    return {
        **inputs,
        "optim": {name: value for name, value in optim.items() if not re.fullmatch(HARMLESS, name)},
        "lora": OmegaConf.to_container(cfg.model.lora, resolve=True),
        "dtype": dtype,
        "validation_share": cfg.data.validation_share,
        "seed": cfg.run.seed,
    }


def reference_digest(cfg: Config) -> str | None:
    """What tells one `run.reference` from another: the digest of a file, or of a checkpoint's weights."""
    name = cfg.run.reference
    if not name or is_columns(name):
        return name and columns_digest(name)
    folder = checkpoint_folder(cfg, name)
    if folder.resolve() == Path(cfg.run.dir, "dpo").resolve():
        raise ValueError(f"run.reference={name} is {folder}, where this run would be saved; set run.name")
    return weights_digest(folder)


def code_of(function: Callable) -> dict[str, str]:
    """{module: digest} of the code behind a loss or hook: of its function, those among its settings, and what
    these import from their own folder or from losses/. Comments, docstrings and layout do not count."""
    found: dict[str, str] = {}
    waiting, ours = [one.__module__ for one in functions(function)], source(functions.__module__).parent
    while waiting:
        name = waiting.pop()
        file = source(name)
        if file is None or name in found or name == functions.__module__:  # which computes nothing
            continue
        tree = ast.parse(file.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
                del node.body[0]
        beside = [other for other in imported(tree, name.rpartition(".")[0]) if source(other)]
        waiting += [other for other in beside if source(other).parent in (file.parent, ours)]
        found[name] = digest(ast.unparse(tree))
    return found


def source(module: str) -> Path | None:
    """The file of a module that is loaded, if it is Python."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return Path(file) if file.endswith(".py") else None


def imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Names of all that may be modules in a file's import statements; the file is of `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(part for part in (package if node.level else "", node.module) if part)
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def reserve(folder: Path) -> None:
    """Keep other programs from writing this folder until this one, or its combination of a sweep, ends."""
    RESERVED.enter_context(only_writer(folder))


def claim_output(folder: Path, objective: dict, last_step: int, start: Path | None) -> int:
    """The step a training run goes on from: 0 for a new one, `last_step` when there is nothing left to do.

    An unfinished run with another objective is refused, a finished one will be moved aside (`make_room`): so
    nothing is lost. start: the checkpoint that the run begins from.
    """
    if start is not None and start.resolve() == folder.resolve():
        raise ValueError(f"{folder} is where this run begins and where it would be saved; set run.name")
    reserve(folder)
    take_back(folder.with_name(f"{folder.name}-best"))
    objective = json.loads(json.dumps(objective))
    position = read_position(folder)
    if position is None:
        if folder.exists():
            raise ValueError(f"{folder} exists but was not written by this program; move it or set run.name")
        return 0
    older = {"loss_code": objective.get("loss_code"), "measured": []}  # what older runs did not note
    before = older | position["objective"]
    if position["step"] > last_step:  # a shorter run is another one
        before, objective = (
            made | {"last_step": last}
            for made, last in ((before, position["last_step"]), (objective, last_step))
        )
    changed = sorted(key for key in objective if objective[key] != before.get(key))
    finished = position["step"] >= position["last_step"]
    if not changed:
        state = "finished" if position["step"] >= last_step else f"going on from step {position['step']}"
        print(f"found      {folder}: {state}")
        meta = folder.with_name(f"{folder.name}.meta.json")
        if finished and not meta.exists():  # killed between the last save and this note
            write_provenance(folder, objective=objective, **position.get("made_by", {}))
        return min(position["step"], last_step)
    if not finished:
        found, wanted = (
            {key: differing(source.get(key), other.get(key)) for key in changed}
            for source, other in pairwise((before, objective, before))
        )
        raise ValueError(
            f"{folder} holds an unfinished run (step {position['step']} of {position['last_step']}) with "
            f"other settings: {found}, now {wanted}; finish it with its settings, delete it, or set run.name"
        )
    print(f"found      {folder}: a finished run with other {', '.join(changed)}")
    return 0


def make_room(folder: Path, done: int) -> None:
    """Move what a finished run wrote aside, with its log and all, where a new one is about to write."""
    if done or not folder.exists():
        return
    aside = free_place(folder, PARTS)
    for part in reversed(PARTS):  # the folder last: until then the same command begins here again
        if (written := folder.with_name(folder.name + part)).exists():
            written.rename(aside.with_name(aside.name + part))
    print(f"moved      {folder} to {aside}")


def differing(value: object, other: object) -> object:
    """Of a group of settings only those that the other has not, or not so."""
    if not isinstance(value, dict) or not isinstance(other, dict):
        return value
    return {key: value[key] for key in value if key not in other or value[key] != other[key]}
