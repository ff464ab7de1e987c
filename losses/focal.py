"""Token weights that point at what differs between two programs; the loss stays dpo.py (or rpo.py).

Focused-DPO (arXiv:2502.11475): both completions are split into common prefix, middle and common suffix; the
middle, where the error is, counts `weight` (2 in the paper). The common prefix cancels in the margin anyway.
Some versions drop the suffix on one side; here all three parts are kept.

Target-DPO (arXiv:2503.02783): all tokens of the chosen completion count, and of the rejected one only the
tokens on lines that are not in the chosen one (a line diff). The paper adds 1.0 times the likelihood of the
chosen completion: use conf/loss/rpo.yaml with alpha 1.
"""

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor


def focal_weights(
    chosen_ids: Sequence[int], rejected_ids: Sequence[int], weight: float
) -> tuple[Tensor, Tensor]:
    """Weights [n_chosen], [n_rejected]: 1 on the common prefix and suffix, `weight` between."""
    shorter = min(len(chosen_ids), len(rejected_ids))
    prefix = _common(chosen_ids, rejected_ids, shorter)
    suffix = _common(chosen_ids[::-1], rejected_ids[::-1], shorter - prefix)
    chosen, rejected = torch.ones(len(chosen_ids)), torch.ones(len(rejected_ids))
    chosen[prefix : len(chosen) - suffix] = weight
    rejected[prefix : len(rejected) - suffix] = weight
    return chosen, rejected


def target_weights(chosen_pieces: Sequence[str], rejected_pieces: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Weights [n_chosen] of 1, and [n_rejected] of 1 on lines that differ from the chosen text, 0 elsewhere.

    The pieces are the texts of the tokens ("" for control tokens). Only a newline ends a line, and belongs to
    the line it ends. A token counts if any of its characters is on a line that differs; one without text, if
    the line it stands on does.
    """
    texts = ("".join(pieces) for pieces in (chosen_pieces, rejected_pieces))
    matcher = difflib.SequenceMatcher(None, *(text.split("\n") for text in texts), autojunk=False)
    differing = {
        line
        for tag, _, _, start, stop in matcher.get_opcodes()
        if tag in ("replace", "insert")
        for line in range(start, stop)
    }
    line, rejected = 0, torch.zeros(len(rejected_pieces))
    for position, piece in enumerate(rejected_pieces):
        touched = range(line, line + piece[:-1].count("\n") + 1)
        rejected[position] = float(not differing.isdisjoint(touched))
        line += piece.count("\n")
    return torch.ones(len(chosen_pieces)), rejected


def _common(left: Sequence[int], right: Sequence[int], limit: int) -> int:
    """Length of the common beginning, at most `limit`."""
    pairs = zip(left[:limit], right[:limit], strict=True)
    return next((length for length, (a, b) in enumerate(pairs) if a != b), limit)
