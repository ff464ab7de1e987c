"""Data columns: per-token numbers beside a pairs file, such as token weights or a mixed reference.

A file has the layout of a reference shard. Its rows are keyed by the whole pair and the side, because the
numbers may depend on the partner (LD-DPO, MRPO): the same completion in two pairs has two rows.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.jsonl import file_digest
from data.pairs import hash_ids
from data.reference_cache import Sides, read_shard, write_shard
from data.types import PreferencePair

NONE = "none"  # the name of no reference


def column_keys(pair: PreferencePair) -> tuple[bytes, bytes]:
    """16 bytes naming each side of this very pair: (chosen, rejected)."""
    ids = pair.prompt_ids, pair.chosen_ids, pair.rejected_ids
    return hash_ids(*ids, [0]), hash_ids(*ids, [1])


def write_columns(path: Path | str, pairs: Sequence[PreferencePair], columns: Sequence[Sides]) -> None:
    """(chosen [n_w], rejected [n_l]) of every pair as one file, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[bytes, np.ndarray] = {}
    for pair, sides in zip(pairs, columns, strict=True):
        check_lengths(pair, sides, path)
        rows |= dict(zip(column_keys(pair), sides, strict=True))
    write_shard(path, rows)


def read_columns(path: Path | str, pairs: Sequence[PreferencePair]) -> list[Sides]:
    """The numbers of every pair; a file that lacks some, or has another number of them, is an error."""
    try:
        rows = read_shard(existing(path))
    except ValueError:  # which takes the file for a cache's, to be deleted
        raise ValueError(
            f"{path} is damaged or no columns: a program in variants/ writes such files; a checkpoint is "
            "named by its folder"
        ) from None
    absent = sum(column_keys(pair)[0] not in rows for pair in pairs)
    if absent:
        raise ValueError(f"{path} lacks {absent} of these {len(pairs)} pairs; make it anew from their file")
    columns = [tuple(rows[key] for key in column_keys(pair)) for pair in pairs]
    for pair, sides in zip(pairs, columns, strict=True):
        check_lengths(pair, sides, path)
    return columns


def columns_digest(path: Path | str) -> str:
    """What tells the file from others, or NONE."""
    return NONE if path == NONE else file_digest(existing(path))


def existing(path: Path | str) -> Path:
    if not Path(path).exists():
        raise FileNotFoundError(
            f"{path} does not exist; a program in variants/ writes it, as the experiment in conf/exp says"
        )
    return Path(path)


def is_columns(reference: str | None) -> bool:
    """Whether `run.reference` gives numbers per token instead of a checkpoint."""
    return reference is not None and (reference == NONE or reference.endswith(".safetensors"))


def read_reference(name: str, pairs: Sequence[PreferencePair]) -> list[Sides]:
    """The columns of a file, or with "none" those of a reference that is left out: 0."""
    if name != NONE:
        return read_columns(name, pairs)
    return [
        tuple(np.zeros(len(ids), np.float32) for ids in (pair.chosen_ids, pair.rejected_ids))
        for pair in pairs
    ]


def check_lengths(pair: PreferencePair, sides: Sides, path: Path | str) -> None:
    """One number per completion token, or an error that names the pair."""
    found, expected = [len(side) for side in sides], [len(pair.chosen_ids), len(pair.rejected_ids)]
    if found != expected:
        raise ValueError(
            f"{path}: {found} numbers for {pair.task_id}, whose completions have {expected} tokens"
        )
