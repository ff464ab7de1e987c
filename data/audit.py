"""What is about to be trained on, printed before the expensive part: counts, end tokens, one pair."""

from collections import Counter
from collections.abc import Sequence

from data.pairs import token_count
from data.tokenizer import Tokenizer
from data.types import PreferencePair


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


def token_name(tokenizer: Tokenizer, i: int) -> str:
    """How the vocabulary spells a token, control tokens included."""
    return next((name for name, number in tokenizer.vocabulary.ids_of.items() if number == i), f"<{i}>")


def indent(text: str, sign: str = " ") -> str:
    return "\n".join(f"  {sign} {line}" for line in text.rstrip("\n").split("\n"))
