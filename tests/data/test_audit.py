"""What training says about the pairs before it begins."""

from types import SimpleNamespace

import pytest

from data.audit import check_whole_steps, text_notes
from data.pair_ids import pair_with_ids
from tests.data.test_pairs import ByteTokenizer


@pytest.mark.parametrize(
    ("row", "template", "words"),
    [
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, None, []),
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, "{{ x }}", ["2 of 3 pairs are text"]),
        (
            {"prompt": "p", "chosen": "pc", "rejected": "pr"},
            None,
            ["in 2 of 3 pairs chosen and rejected repeat"],
        ),
        ({"prompt": "p", "chosen": "pc", "rejected": "r"}, None, []),
        ({"prompt": "", "chosen": "pc", "rejected": "pr"}, None, []),
    ],
)
def test_pairs_of_text_are_told_of_where_they_look_wrong(row, template, words):
    tokenizer = ByteTokenizer()
    tokenizer.chat_template = template
    sampled = {"prompt_ids": [256, 112], "chosen_ids": [112, 1], "rejected_ids": [112, 2]}
    pairs = [pair_with_ids(one, tokenizer, "here") for one in (row, row, row | sampled)]
    notes = text_notes(pairs, tokenizer)
    assert len(notes) == len(words)
    assert all(note.startswith(start) for note, start in zip(notes, words, strict=True))


@pytest.mark.parametrize(
    ("batch", "tokens", "fits"), [(2, 100, True), (1, 100, True), (2, 9, True), (3, 9, False)]
)
def test_a_pair_alone_in_a_step_may_exceed_the_budget(batch, tokens, fits, monkeypatch):
    """3 pairs, of which the last has 100 or 9 tokens, in steps of one, two or three; the budget is 20."""
    monkeypatch.setattr("data.audit.epoch_order", lambda count, seed, epoch: range(count))
    plan = SimpleNamespace(
        batch=batch, last=-(-3 // batch), place=lambda step: (0, slice(step * batch, (step + 1) * batch))
    )
    if fits:
        check_whole_steps([10, 10, tokens], plan, 1, 20)
    else:
        with pytest.raises(ValueError, match=r"step 1 has 29 tokens: raise optim.microbatch \(20\)"):
            check_whole_steps([10, 10, tokens], plan, 1, 20)
