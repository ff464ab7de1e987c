"""One row of pairs.jsonl -> token ids: our sampler's own, or made from text or from a conversation.

Prompt and completion are tokenised apart and joined, as the sampler does it, so the boundary is the same in
training and in sampling. A completion made from text gets the end token.
"""

from data.chat import conversation_ids
from data.jsonl import SURROGATE, as_record, digest
from data.tokenizer import Tokenizer
from data.types import PreferencePair

SIDES = ("prompt", "chosen", "rejected")


def pair_with_ids(row: dict, tokenizer: Tokenizer, where: str) -> PreferencePair:
    """A JSON row with ids for all three parts. ValueError says `where` and what is wrong."""
    meta = row.get("meta") or {}
    if not isinstance(meta, dict):
        raise ValueError(f"{where}: meta is a {type(meta).__name__}, an object expected")
    made_by = meta.get("tokenizer", tokenizer.digest)
    given = [side for side in SIDES if row.get(f"{side}_ids")]
    if 0 < len(given) < len(SIDES):
        lacking = ", ".join(f"{side}_ids" for side in SIDES if side not in given)
        raise ValueError(f"{where}: {given[0]}_ids without {lacking}; give all three parts' ids, or none")
    if given and made_by == tokenizer.digest:
        ids = {side: row[f"{side}_ids"] for side in SIDES}
        if not all(isinstance(i, int) and 0 <= i < tokenizer.size for side in SIDES for i in ids[side]):
            raise ValueError(f"{where}: token ids outside this tokenizer's 0..{tokenizer.size - 1}")
    elif any(isinstance(row.get(side), list) for side in SIDES):
        try:
            made = conversation_ids(tokenizer, *(row.get(side) for side in SIDES))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        ids = dict(zip(SIDES, made, strict=True))
        row = row | {side: tokenizer.completion_text(ids[side]) for side in SIDES[1:]}
        row["prompt"] = tokenizer.decode(ids["prompt"])
    else:
        for side in SIDES:
            if row.get(side) is None:
                raise ValueError(f"{where}: no {side}; found the keys {', '.join(sorted(row)) or '(none)'}")
            if not isinstance(row[side], str):
                found = type(row[side]).__name__
                raise ValueError(f"{where}: {side} must be text or a list of messages, found {found}")
            if SURROGATE.search(row[side]):
                raise ValueError(f"{where}: {side} holds half a surrogate pair, no text; leave the row out")
        ids = {side: tokenizer.completion_ids(row[side]) for side in SIDES}
        ids["prompt"] = tokenizer.prompt_ids(row["prompt"])
        row = row | {"meta": meta | {"made_from": "text"}}  # which no chat template was applied to
    empty = [side for side in SIDES if not ids[side]]
    if empty:
        raise ValueError(f"{where}: {empty[0]} has no tokens")
    name = row.get("task_id")
    row = row | {"task_id": f"prompt-{digest(ids['prompt'])}" if name is None else str(name)}
    return as_record(PreferencePair, row | {f"{side}_ids": list(ids[side]) for side in SIDES}, where)
