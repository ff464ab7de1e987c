"""Conversations to token ids, so that what is trained is what inference sends.

A pair's prompt is rendered with the template's opening of an answer; its completion is whatever the template
writes after that, up to and including the end of turn. Both are tokenised apart, as everywhere.
"""

from data.tokenizer import Tokenizer

Messages = list[dict]


def conversation_ids(
    tokenizer: Tokenizer, prompt: Messages | str | None, chosen: Messages | str, rejected: Messages | str
) -> tuple[list[int], list[int], list[int]]:
    """prompt, chosen and rejected messages -> their ids; each completion ends with the end of turn.

    Without a prompt, both sides are whole conversations and their common messages are the prompt; with one,
    both may repeat it. A side that is text is one assistant message, a prompt that is text one user message.
    """
    chosen, rejected = (
        as_messages(chosen, "assistant", "chosen"),
        as_messages(rejected, "assistant", "rejected"),
    )
    if prompt is None:
        prompt, chosen, rejected = split_common(chosen, rejected)
        if not prompt:
            raise ValueError(
                "chosen and rejected begin with different messages, and there is no prompt beside them: let "
                "both begin with the prompt's messages, or give it apart"
            )
    else:
        prompt = as_messages(prompt, "user", "prompt")
        chosen, rejected = without_prompt(prompt, chosen, rejected)
    for name, side in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected)):
        if not side:
            raise ValueError(f"{name} holds no message")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if side[0]["role"] in ("system", "user"):
            raise ValueError(
                f"{name} goes on from the prompt with a {side[0]['role']} message, an answer expected; let "
                "both sides repeat the prompt's messages as they are, or leave prompt out"
            )
    opening = tokenizer.render(prompt, add_generation_prompt=True)
    completions = [completion_ids(tokenizer, prompt, side, opening) for side in (chosen, rejected)]
    return tokenizer.vocabulary.encode(opening, control=True), *completions


def completion_ids(tokenizer: Tokenizer, prompt: Messages, answer: Messages, opening: str) -> list[int]:
    """Ids of what the template writes for `answer` after the rendered prompt `opening`, to its end of turn.

    That is the first stop token behind the last message's content: a template may write more behind it, and
    one that writes none gets it here.
    """
    text = tokenizer.render(prompt + answer)
    if not text.startswith(opening):
        at = next((i for i, (a, b) in enumerate(zip(text, opening, strict=False)) if a != b), len(text))
        raise ValueError(
            "the chat template writes the prompt differently when an answer follows "
            f"({opening[at : at + 40]!r} alone, {text[at : at + 40]!r} with the answer), so inference would "
            "not see the trained prompt; store prompt_ids, chosen_ids, rejected_ids, or change the template"
        )
    body = text[len(opening) :]
    ids = tokenizer.vocabulary.encode(body, control=True, start=False)
    ends = [n for n, i in enumerate(ids) if i in tokenizer.stop_ids]
    content = str(answer[-1].get("content") or "").strip()
    if content and content in body:  # else the template writes it in another way, and the last stop has to do
        behind = tokenizer.vocabulary.encode(body.rpartition(content)[2], control=True, start=False)
        ends = ends[len(ends) - sum(i in tokenizer.stop_ids for i in behind) :][:1]
    return ids[: ends[-1] + 1] if ends else [*ids, tokenizer.end_id()]


def without_prompt(prompt: Messages, chosen: Messages, rejected: Messages) -> tuple[Messages, Messages]:
    """Both sides without the prompt's messages, where both begin with them."""
    count = len(prompt)
    if chosen[:count] == rejected[:count] == prompt:
        return chosen[count:], rejected[count:]
    return chosen, rejected


def split_common(chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    """Two whole conversations -> the messages they share, and the rest of each."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def as_messages(value: Messages | str | None, role: str, name: str) -> Messages:
    """A list of messages, checked; text becomes one message of `role`."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if not isinstance(value, list) or not all(
        isinstance(message, dict) and "role" in message for message in value
    ):
        raise ValueError(
            f"{name} must be text or a list of {{'role', 'content'}} messages, found {value!r:.80}"
        )
    return value
