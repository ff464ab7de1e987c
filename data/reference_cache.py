"""Reference log-probs on disk: per token, content-addressed, append-only.

The file key is everything the numbers depend on besides the tokens (weights, model config, dtype, kind of
device, version of the scorer); the row key is a hash of prompt and completion ids. So a change of beta, lr,
loss, order, limits or output folder finds the cache; a change of weights, tokens or dtype does not.
Each shard is written under a temporary name and renamed: an interrupted pass keeps what it finished.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from data.jsonl import digest, write_json
from data.pairs import hash_ids, microbatches, token_count
from data.types import PreferencePair

SCORER_VERSION = 3  # raise when the same weights and tokens would give other numbers

Sides = tuple[np.ndarray, np.ndarray]  # (chosen, rejected), each [n] float32, one number per token
Score = Callable[[Sequence[PreferencePair]], list[Sides]]


def row_keys(pair: PreferencePair) -> tuple[bytes, bytes]:
    """16 bytes naming each completion in its context: (chosen, rejected)."""
    return hash_ids(pair.prompt_ids, pair.chosen_ids), hash_ids(pair.prompt_ids, pair.rejected_ids)


def read_shard(shard: Path) -> dict[bytes, np.ndarray]:
    """{row key: [n] float32} of one file: `values` (flat), `offsets` [rows + 1], `keys` [rows, 16]."""
    try:
        tensors = load_file(shard)
        values, offsets, keys = tensors["values"], tensors["offsets"], tensors["keys"]
    except (SafetensorError, KeyError, OSError) as error:
        raise ValueError(f"{shard} cannot be read ({error}); delete it and its rows are made anew") from None
    if len(offsets) != len(keys) + 1 or offsets[-1] != len(values) or not np.isfinite(values).all():
        raise ValueError(f"{shard} is damaged; delete it and its rows are made anew")
    return {key.tobytes(): values[a:b] for key, a, b in zip(keys, offsets[:-1], offsets[1:], strict=True)}


def write_shard(shard: Path, rows: dict[bytes, np.ndarray]) -> None:
    """Write one file, whole or not at all."""
    temporary = shard.with_name(f".{shard.name}.tmp")
    lengths = np.array([len(values) for values in rows.values()])
    try:
        tensors = {
            "values": np.concatenate(list(rows.values())).astype(np.float32),
            "offsets": np.concatenate([[0], lengths.cumsum()]).astype(np.int64),
            "keys": np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), 16),
        }
        save_file(tensors, temporary)
        os.replace(temporary, shard)
    finally:
        temporary.unlink(missing_ok=True)


class ReferenceCache:
    """Rows [n] float32 by key. `identity`: what the numbers depend on, JSON values kept beside the shards."""

    def __init__(self, root: Path | str, **identity: object) -> None:
        identity["scorer"] = SCORER_VERSION
        self.folder = Path(root, digest(identity))
        self.rows: dict[bytes, np.ndarray] = {}
        self.known: set[Path] = set()  # shards whose rows are here
        if not self.folder.is_dir():
            write_json(self.folder / "identity.json", identity)
        self.read()

    def read(self) -> None:
        """Take in the shards that others have written meanwhile."""
        for shard in sorted({*self.folder.glob("*.safetensors")} - self.known):
            self.rows |= read_shard(shard)
            self.known.add(shard)

    def add(self, rows: dict[bytes, np.ndarray]) -> None:
        """Append one shard, whole or not at all."""
        bad = sum(not np.isfinite(values).all() for values in rows.values())
        if bad:
            raise ValueError(
                f"the reference gives non-finite log-probs to {bad} completions: see model.check_weights=true"
            )
        number = len(list(self.folder.glob("*.safetensors")))
        shard = self.folder / f"{number:06d}-{os.urandom(3).hex()}.safetensors"
        write_shard(shard, rows)
        self.rows |= rows
        self.known.add(shard)

    def has(self, pair: PreferencePair) -> bool:
        return all(key in self.rows for key in row_keys(pair))

    def lacking(self, pairs: Sequence[PreferencePair]) -> list[int]:
        """Positions of the pairs that are not here."""
        return [i for i, pair in enumerate(pairs) if not self.has(pair)]

    def of(self, pair: PreferencePair) -> Sides:
        chosen, rejected = row_keys(pair)
        return self.rows[chosen], self.rows[rejected]


def fill(
    cache: ReferenceCache,
    pairs: Sequence[PreferencePair],
    score: Score,
    budget: int,
    progress: Callable[[Iterable], Iterable] = iter,
    share: Callable[[Iterable[list[int]]], list[list[int]]] = list,
    per_shard: int = 64,
) -> None:
    """Score `pairs`, `budget` tokens at a time. `share` picks this process's batches; some may be empty."""
    groups = share(microbatches([token_count(pair) for pair in pairs], budget))
    pending: dict[bytes, np.ndarray] = {}
    try:
        for number, group in enumerate(progress(groups), start=1):
            members = [pairs[i] for i in group]
            for pair, sides in zip(members, score(members), strict=True):
                pending |= dict(zip(row_keys(pair), sides, strict=True))
            if pending and number % per_shard == 0:
                cache.add(pending)
                pending = {}
    finally:  # of an interrupted pass, too
        if pending:
            cache.add(pending)


def disagreement(cache: ReferenceCache, pairs: Sequence[PreferencePair], score: Score) -> float:
    """Largest difference per token, in nats, between the cache and scoring each of `pairs` now, alone."""
    differences = [
        float(np.abs(cached - fresh).max())
        for pair in pairs
        for cached, fresh in zip(cache.of(pair), score([pair])[0], strict=True)
    ]
    return max(differences)
