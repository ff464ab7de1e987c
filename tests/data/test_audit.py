"""What training says about the pairs before it begins."""

import pytest

from data.audit import text_notes
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
