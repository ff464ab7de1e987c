"""pairs.jsonl -> token ids -> PairBatch: one line of tokens, what two completions share once, no padding.

Letters: B pairs, T tokens of the batch, N completion tokens.

Ids that our sampler wrote are used as they are; text from elsewhere is tokenised by data/pair_ids.py. Rows
that do not fit are dropped and counted, never cut: a completion that lost its end teaches not to stop.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix  # of any lists
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.jsonl import iterate_jsonl
from data.pair_ids import pair_with_ids
from data.tokenizer import Tokenizer
from data.types import PreferencePair

SUMS = torch.float32 if torch.backends.mps.is_available() else torch.float64  # which Apple's GPUs lack


@dataclass(frozen=True)
class PairBatch:
    """B pairs as one flat list of tokens: what both sides share, rest of chosen, rest of rejected; ..."""

    ids: Tensor  # [T] int64
    positions: Tensor  # [T] int64; the rejected part counts on from where the two sides part
    spans: Tensor  # [B, 4] int64, on the CPU: start; tokens that both sides share; rest of chosen, rejected
    source: Tensor  # [N] int64, index of the token whose hidden state predicts a completion token
    target: Tensor  # [N] int64, id of that completion token
    row: Tensor  # [N] int64, 0..B-1 chosen, B..2B-1 rejected
    weights: Tensor  # [N] float32, 1 unless a method weighs tokens
    lengths: Tensor  # [2B] float32, completion tokens
    last: Tensor  # [2B] int64, index into N of each completion's last token
    index: tuple[int, ...]  # B positions in the list of pairs
    reference: Tensor | None = None  # [2B] SUMS, weighted sums of the reference log-probs

    def to(self, device: torch.device) -> "PairBatch":
        """Everything but the spans, which steer the host, on `device`; nothing waits for a CUDA device."""
        moved = {
            name: (value.pin_memory() if device.type == "cuda" else value).to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name != "spans"
        }
        return replace(self, **moved)


def read_pairs(
    path: Path | str, tokenizer: Tokenizer, *, max_prompt: int, max_completion: int
) -> tuple[list[PreferencePair], Counter]:
    """All trainable pairs with their ids, and how many rows were dropped for which reason.

    `prompt`, `chosen` and `rejected` are text or lists of {"role", "content"}; a conversational row may
    repeat `prompt` in both sides, and then leave it out. Malformed rows are errors that name the line.
    """
    pairs, dropped = [], Counter()
    for number, row in iterate_jsonl(path):
        pair = pair_with_ids(row, tokenizer, where=f"{path}, line {number}")
        if pair.chosen_ids == pair.rejected_ids:
            dropped["chosen equals rejected"] += 1
        elif len(pair.prompt_ids) > max_prompt:
            dropped[f"prompt longer than data.max_prompt={max_prompt}"] += 1
        elif max(len(pair.chosen_ids), len(pair.rejected_ids)) > max_completion:
            dropped[f"completion longer than data.max_completion={max_completion}"] += 1
        else:
            pairs.append(pair)
    if not pairs:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "the file is empty"
        raise ValueError(f"{path} holds no pair to train on ({reasons})")
    return pairs, dropped


def hash_ids(*parts: Sequence[int]) -> bytes:
    """16 bytes that identify lists of ids and the boundaries between them."""
    text = "|".join(",".join(map(str, part)) for part in parts)
    return hashlib.sha256(text.encode()).digest()[:16]


def split_by_problem(pairs: Sequence[PreferencePair], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions to (train on, hold out); the side of a problem depends on its id and the seed alone."""
    sides: tuple[list[int], list[int]] = ([], [])
    for position, pair in enumerate(pairs):
        number = hashlib.sha256(f"{seed}/{pair.task_id}".encode()).digest()[:8]
        sides[int.from_bytes(number, "big") < share * 2**64].append(position)
    if not sides[0]:
        raise ValueError(
            f"all {len(pairs)} rows are of held-out problems; lower data.validation_share ({share})"
        )
    return sides


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `count` rows in an epoch: a function of (seed, epoch), so that resuming costs nothing."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def token_count(pair: PreferencePair) -> int:
    """Tokens of a pair."""
    return len(pair.prompt_ids) + len(pair.chosen_ids) + len(pair.rejected_ids)


def microbatches(lengths: Sequence[int], budget: int, rows: int | None = None) -> Iterator[list[int]]:
    """Consecutive positions grouped: at most `budget` tokens, or a single row, and at most so many `rows`."""
    group, size = [], 0
    for position, length in enumerate(lengths):
        if group and (size + length > budget or len(group) == rows):
            yield group
            group, size = [], 0
        group.append(position)
        size += length
    if group:
        yield group


def collate(
    pairs: Sequence[PreferencePair],
    index: Sequence[int],
    weights: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    reference: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
) -> PairBatch:
    """Lay out `pairs[i] for i in index`. `weights`, `reference`: per-token (chosen, rejected) of all pairs.

    No pairs make an empty batch, for the process that has nothing to do while others work (distributed.py).
    What both completions begin with lies once, at the prompt's end, and the last token before they part
    predicts *both* next ones. What ends a completion is a target only: it predicts nothing, and none sees it.
    """
    ids, positions, spans, source, target, row, lengths, token_weights, sums = ([] for _ in range(9))
    for b, i in enumerate(index):
        prompt, chosen, rejected = pairs[i].prompt_ids, pairs[i].chosen_ids, pairs[i].rejected_ids
        fed = chosen[:-1], rejected[:-1]
        same = len(commonprefix(fed))
        start, p = len(ids), len(prompt)
        ids += prompt + fed[0] + fed[1][same:]
        positions += [*range(p + len(fed[0])), *range(p + same, p + len(fed[1]))]
        spans.append((start, p + same, len(fed[0]) - same, len(fed[1]) - same))
        chosen_source = [*range(start + p - 1, start + p + len(fed[0]))]
        rejected_source = [*chosen_source[: same + 1], *range(chosen_source[-1] + 1, len(ids))]
        for side, completion, places in ((0, chosen, chosen_source), (1, rejected, rejected_source)):
            n, r = len(completion), b + side * len(index)
            source += places[:n]
            target += completion
            row += [r] * n
            lengths.append((r, n))
            token_weights.append(np.ones(n, np.float32) if weights is None else weights[i][side])
            if reference is not None:
                sums.append((r, np.dot(token_weights[-1], reference[i][side].astype(np.float64))))
    row_of, counts = np.array(lengths, np.int64).reshape(-1, 2).T
    order = np.argsort(row_of)
    return PairBatch(
        ids=torch.tensor(ids, dtype=torch.int64),
        positions=torch.tensor(positions, dtype=torch.int64),
        spans=torch.tensor(spans, dtype=torch.int64).view(-1, 4),
        source=torch.tensor(source, dtype=torch.int64),
        target=torch.tensor(target, dtype=torch.int64),
        row=torch.tensor(row, dtype=torch.int64),
        weights=torch.from_numpy(np.concatenate([*token_weights, []]).astype(np.float32)),
        lengths=torch.from_numpy(counts[order].astype(np.float32)),
        last=torch.from_numpy((np.cumsum(counts) - 1)[order]),
        index=tuple(int(i) for i in index),
        reference=torch.tensor([v for _, v in sorted(sums)], dtype=SUMS) if reference else None,
    )
