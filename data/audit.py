"""What is about to be trained on, printed before the expensive part: counts, end tokens, one pair."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from data.pairs import epoch_order, token_count
from data.tokenizer import Tokenizer
from data.types import PreferencePair


class Steps(Protocol):
    """What is asked of a training run's plan."""

    batch: int
    last: int  # steps

    def place(self, step: int) -> tuple[int, slice]:
        """(epoch, positions in its order)."""


class Positions(Protocol):
    """What is asked of a model's config."""

    learned_positions: bool
    context: int


def print_audit(
    path: str,
    tokenizer: Tokenizer,
    pairs: Sequence[PreferencePair],
    train_index: Sequence[int],
    held_out: Sequence[int],
    dropped: Counter,
) -> None:
    """Print the audit of a training run on `pairs`."""
    train = [pairs[i] for i in train_index]
    problems = len({pair.task_id for pair in train})
    print(f"pairs      {path}: {len(train)} to train on ({problems} problems), {len(held_out)} held out")
    print(f"dropped    {', '.join(f'{n} {reason}' for reason, n in dropped.items()) or 'none'}")
    for note in text_notes(train, tokenizer):
        print(f"note       {note}")
    completions = [ids for pair in train for ids in (pair.chosen_ids, pair.rejected_ids)]
    ended = sum(ids[-1] in tokenizer.stop_ids for ids in completions)
    stops = ", ".join(f"{i} {token_name(tokenizer, i)!r}" for i in sorted(tokenizer.stop_ids))
    print(f"end token  on {ended} of {len(completions)} completions; stop set: {stops}")
    begun = Counter(pair.prompt_ids.count(tokenizer.bos_id) for pair in train)
    print(
        f"begin      tokens in a prompt: {', '.join(f'{n} ({count}x)' for n, count in sorted(begun.items()))}"
    )
    tokens = [token_count(pair) for pair in train]
    prompts = sum(len(pair.prompt_ids) for pair in train)
    saved = prompts / (sum(tokens) + prompts)
    print(f"tokens     {sum(tokens)} an epoch, longest pair {max(tokens)}; shared prompts save {saved:.0%}")
    pair = train[0]
    print(f"one pair   {pair.task_id}, trained tokens between ⟦ ⟧")
    print(indent(tokenizer.decode(pair.prompt_ids)))
    for ids, sign in ((pair.chosen_ids, "+"), (pair.rejected_ids, "-")):
        end = token_name(tokenizer, ids[-1]) if ids[-1] in tokenizer.stop_ids else ""
        print(indent(f"⟦{tokenizer.completion_text(ids)}{end}⟧", sign))


def text_notes(pairs: Sequence[PreferencePair], tokenizer: Tokenizer) -> list[str]:
    """What is odd about pairs whose ids were made from text."""
    text = [pair for pair in pairs if pair.meta.get("made_from") == "text"]
    twice = [
        p for p in text if p.prompt and p.chosen.startswith(p.prompt) and p.rejected.startswith(p.prompt)
    ]
    notes = []
    if text and tokenizer.chat_template is not None:
        notes.append(
            f"{len(text)} of {len(pairs)} pairs are text, trained on without the model's chat template; to "
            "apply it, give prompt, chosen and rejected as lists of messages"
        )
    if twice:
        notes.append(
            f"in {len(twice)} of {len(pairs)} pairs chosen and rejected repeat the prompt, which they then "
            "hold twice; give what goes on from it"
        )
    return notes


def check_whole_steps(tokens: Sequence[int], plan: Steps, seed: int, budget: int) -> None:
    """ValueError when a step exceeds one microbatch of `budget` tokens, for losses that couple its pairs.

    tokens: of each pair to train on. A pair alone is a microbatch, however long.
    """
    sizes, orders = [], {}
    for step in range(plan.last):
        epoch, places = plan.place(step)
        if epoch not in orders:
            orders = {epoch: epoch_order(len(tokens), seed, epoch)}
        rows = [tokens[i] for i in orders[epoch][places]]
        sizes.append(sum(rows) if len(rows) > 1 else 0)
    if max(sizes) > budget:
        raise ValueError(
            f"this loss couples the pairs of a step, and step {sizes.index(max(sizes)) + 1} has {max(sizes)} "
            f"tokens: raise optim.microbatch ({budget}) to as many, or lower optim.batch ({plan.batch})"
        )


def check_positions(pairs: Sequence[PreferencePair], model: Positions) -> None:
    """ValueError for a pair that is longer than the table of a model with learned positions."""
    longest = max(pairs, key=fed)
    if model.learned_positions and fed(longest) > model.context:
        raise ValueError(
            f"{longest.task_id} has {fed(longest)} tokens in a row, the model positions for {model.context}: "
            "lower data.max_prompt or data.max_completion, and rows that do not fit are left out"
        )


def fed(pair: PreferencePair) -> int:
    """Tokens of the longer side behind its prompt, but for the last, which a model never sees."""
    return len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)) - 1


def token_name(tokenizer: Tokenizer, i: int) -> str:
    """How the vocabulary spells a token, control tokens included."""
    return next((name for name, number in tokenizer.vocabulary.ids_of.items() if number == i), f"<{i}>")


def indent(text: str, sign: str = " ") -> str:
    return "\n".join(f"  {sign} {line}" for line in text.rstrip("\n").split("\n"))
