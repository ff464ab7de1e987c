"""The flat pair layout against its definition, and which rows become pairs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.pairs import (
    collate,
    epoch_order,
    hash_ids,
    microbatches,
    read_pairs,
    split_by_problem,
    token_count,
)
from data.types import PreferencePair


class ByteTokenizer:
    """Every byte is a token, 256 begins and 257 ends."""

    size, bos_id, eos_id, stop_ids, digest = 258, 256, 257, frozenset({257}), "bytes"

    def prompt_ids(self, text: str) -> list[int]:
        return [256, *text.encode()]

    def completion_ids(self, text: str) -> list[int]:
        return [*text.encode(), 257]

    def decode(self, ids: list[int]) -> str:
        return bytes(i for i in ids if i < 256).decode()


def pair(prompt: list[int], chosen: list[int], rejected: list[int], task_id: str = "t") -> PreferencePair:
    return PreferencePair(task_id, "", "", "", prompt, chosen, rejected)


PAIRS = [pair([1, 2, 3], [4, 5], [6, 7, 8]), pair([9], [10], [11, 12])]


def test_layout_of_two_pairs_by_hand():
    batch = collate(PAIRS, [0, 1])
    assert batch.ids.tolist() == [1, 2, 3, 4, 6, 7, 9, 11]  # without what ends a completion
    assert batch.positions.tolist() == [0, 1, 2, 3, 3, 4, 0, 1]
    assert batch.spans.tolist() == [[0, 3, 1, 2], [6, 1, 0, 1]]
    assert batch.source.tolist() == [2, 3, 2, 4, 5, 6, 6, 7]  # both first tokens from the last prompt token
    assert batch.target.tolist() == [4, 5, 6, 7, 8, 10, 11, 12]
    assert batch.row.tolist() == [0, 0, 2, 2, 2, 1, 3, 3]
    assert batch.lengths.tolist() == [2, 1, 3, 2]
    assert batch.target[batch.last].tolist() == [5, 10, 8, 12]


def test_every_target_is_the_successor_of_its_source_in_the_rows_own_sequence():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 9, (20, 3))  # of three ids, so that many completions begin alike
    pairs = [pair(*(rng.integers(0, 3, size).tolist() for size in row)) for row in sizes]
    index = rng.permutation(20)[:13].tolist()
    batch = collate(pairs, index)
    for row in range(26):
        p = pairs[index[row % 13]]
        completion = p.chosen_ids if row < 13 else p.rejected_ids
        picked = batch.row == row
        assert batch.target[picked].tolist() == completion
        assert batch.ids[batch.source[picked]].tolist() == [p.prompt_ids[-1], *completion[:-1]]
        expected = list(range(len(p.prompt_ids) - 1, len(p.prompt_ids) + len(completion) - 1))
        assert batch.positions[batch.source[picked]].tolist() == expected


def test_what_both_completions_begin_with_is_laid_out_once():
    batch = collate(
        [pair([1, 2], [3, 4, 5, 6], [3, 4, 7]), pair([1], [2], [2, 3]), pair([1], [2, 2], [2, 2])], [0, 1, 2]
    )
    assert batch.ids.tolist() == [1, 2, 3, 4, 5, 1, 2, 1, 2]
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1]
    assert batch.spans.tolist() == [[0, 4, 1, 0], [5, 1, 0, 1], [7, 2, 0, 0]]
    assert batch.source.tolist() == [1, 2, 3, 4, 1, 2, 3, 5, 5, 6, 7, 8, 7, 8]
    assert batch.target.tolist() == [3, 4, 5, 6, 3, 4, 7, 2, 2, 3, 2, 2, 2, 2]


def test_reference_sums_carry_the_token_weights():
    weights = [(np.float32([1, 2]), np.float32([1, 0, 1])), (np.float32([3]), np.float32([1, 1]))]
    reference = [(np.float32([-1, -2]), np.float32([-3, -4, -5])), (np.float32([-6]), np.float32([-7, -8]))]
    batch = collate(PAIRS, [1, 0], weights, reference)
    assert batch.reference.tolist() == [-18, -5, -15, -8]
    assert batch.weights.tolist() == [3, 1, 1, 1, 2, 1, 0, 1]
    assert collate(PAIRS, [0]).reference is None


def test_an_empty_rejected_side_is_a_plain_sequence():
    batch = collate([replace(PAIRS[0], rejected_ids=[])], [0])
    assert batch.ids.tolist() == [1, 2, 3, 4]
    assert batch.source.tolist() == [2, 3]
    assert batch.spans.tolist() == [[0, 3, 1, 0]]


def test_no_pairs_make_an_empty_batch_of_the_same_types():
    reference = [(np.ones(2, np.float32), np.ones(3, np.float32)), (np.ones(1, np.float32),) * 2]
    empty, full = (collate(PAIRS, index, reference=reference) for index in ([], [0]))
    for name, tensor in vars(full).items():
        if name != "index":
            assert getattr(empty, name).dtype == tensor.dtype, name
            assert len(getattr(empty, name)) == 0, name
    assert empty.spans.shape == (0, 4)


def test_batch_moves_everything_but_the_spans():
    moved = collate(PAIRS, [0]).to(torch.device("meta"))
    assert moved.ids.device.type == "meta"
    assert moved.spans.device.type == "cpu"


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_text_is_tokenised_apart_and_sampled_ids_are_kept(tmp_path):
    sampled = {
        "prompt_ids": [256, 1],
        "chosen_ids": [2, 257],
        "rejected_ids": [3],
        "meta": {"tokenizer": "bytes"},
    }
    row = {"task_id": "a", "prompt": "p", "chosen": "c", "rejected": "r"}
    path = write(
        tmp_path / "pairs.jsonl", row, row | sampled, row | sampled | {"meta": {"tokenizer": "another"}}
    )
    pairs, dropped = read_pairs(path, ByteTokenizer(), max_prompt=9, max_completion=9)
    assert (pairs[0].prompt_ids, pairs[0].chosen_ids, pairs[0].rejected_ids) == (
        [256, 112],
        [99, 257],
        [114, 257],
    )
    assert (pairs[1].prompt_ids, pairs[1].chosen_ids, pairs[1].rejected_ids) == ([256, 1], [2, 257], [3])
    assert pairs[2].prompt_ids == pairs[0].prompt_ids  # another tokenizer's ids mean nothing here
    assert not dropped


def test_a_row_whose_meta_is_null_has_none(tmp_path):
    row = {"prompt": "p", "chosen": "c", "rejected": "r", "task_id": "a"}
    path = write(tmp_path / "pairs.jsonl", row, row | {"meta": None})
    (plain, null), _ = read_pairs(path, ByteTokenizer(), max_prompt=9, max_completion=9)
    assert null == plain
    assert null.meta == {"made_from": "text"}


def test_a_problem_is_named_by_text_and_one_without_a_name_by_its_prompt(tmp_path):
    row = {"prompt": "p", "chosen": "c", "rejected": "r"}
    names = [{"task_id": 7}, {"task_id": None}, {}, {"prompt": "q", "task_id": None}]
    path = write(tmp_path / "pairs.jsonl", *(row | name for name in names))
    pairs, _ = read_pairs(path, ByteTokenizer(), max_prompt=9, max_completion=9)
    number, null, absent, other = (pair.task_id for pair in pairs)
    assert number == "7"
    assert null == absent
    assert null != other


def test_rows_that_do_not_fit_are_dropped_and_counted_never_cut(tmp_path):
    rows = [
        {"prompt": p, "chosen": c, "rejected": r}
        for p, c, r in [
            ("p", "c", "c"),
            ("pppp", "c", "r"),
            ("p", "cccc", "r"),
            ("p", "c", "rrrr"),
            ("p", "c", "r"),
        ]
    ]
    pairs, dropped = read_pairs(write(tmp_path / "f", *rows), ByteTokenizer(), max_prompt=3, max_completion=3)
    assert len(pairs) == 1
    assert dropped == {
        "chosen equals rejected": 1,
        "prompt longer than data.max_prompt=3": 1,
        "completion longer than data.max_completion=3": 2,
    }


def test_rows_of_exactly_the_limits_are_kept(tmp_path):
    path = write(tmp_path / "f", {"prompt": "pp", "chosen": "cc", "rejected": "rr"})
    (kept,), dropped = read_pairs(path, ByteTokenizer(), max_prompt=3, max_completion=3)
    assert [len(ids) for ids in (kept.prompt_ids, kept.chosen_ids, kept.rejected_ids)] == [3, 3, 3]
    assert not dropped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no pair"),
        ('{"prompt": "p", "chosen": "c"}\n', "line 1: no rejected; found the keys chosen, prompt"),
        ('{"instruction": "p", "chosen": "c", "rejected": "r"}\n', "no prompt; found the keys chosen, inst"),
        ('{"prompt": "p", "chosen": "\\ud83d", "rejected": "r"}\n', "line 1: chosen holds half a surrogate"),
        ('{"prompt": "p", "chosen": 1, "rejected": "r"}\n', "line 1: chosen must be text .* found int"),
        ('\n{"prompt": \n', "line 2: not JSON"),
        ("[1]\n", "line 1: list found"),
        (
            '{"prompt": "p", "chosen": "c", "rejected": "r", "meta": "m"}\n',
            "line 1: meta is a str, an object expected",
        ),
        (
            '{"prompt": "p", "chosen": "c", "rejected": "r", "prompt_ids": [1], "chosen_ids": [999], '
            '"rejected_ids": [1]}\n',
            "outside this tokenizer's 0..257",
        ),
        (
            '{"prompt": "p", "chosen": "c", "rejected": "r", "prompt_ids": [1], "chosen_ids": [9]}\n',
            "line 1: prompt_ids without rejected_ids; give all three parts' ids, or none",
        ),
    ],
)
def test_malformed_files_name_the_line(tmp_path, text, message):
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pairs(path, ByteTokenizer(), max_prompt=9, max_completion=9)


def test_split_keeps_problems_together_and_ignores_order():
    pairs = [pair([i], [1], [2], f"problem {i % 200}") for i in range(400)]
    train, held_out = split_by_problem(pairs, 0.25, seed=3)
    assert sorted(train + held_out) == list(range(400))
    problems = {pairs[i].task_id for i in held_out}
    assert not problems & {pairs[i].task_id for i in train}
    assert 30 <= len(problems) <= 70
    assert {pairs[::-1][i].task_id for i in split_by_problem(pairs[::-1], 0.25, seed=3)[1]} == problems
    assert split_by_problem(pairs, 0.0, seed=3)[1] == []
    with pytest.raises(ValueError, match="lower data.validation_share"):
        split_by_problem(pairs, 1.0, seed=3)


def test_another_seed_holds_out_other_problems():
    pairs = [pair([i], [1], [2], f"problem {i}") for i in range(200)]
    assert split_by_problem(pairs, 0.25, seed=3) != split_by_problem(pairs, 0.25, seed=4)


def test_epoch_order_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    assert sorted(epoch_order(50, 1, 0)) == list(range(50))
    assert epoch_order(50, 1, 0).tolist() == epoch_order(50, 1, 0).tolist()
    assert len({tuple(epoch_order(50, seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_microbatches_keep_order_and_budget():
    assert list(microbatches([3, 3, 3, 9, 1, 1], 6)) == [[0, 1], [2], [3], [4, 5]]
    assert list(microbatches([], 6)) == []
    assert token_count(PAIRS[0]) == 8


def test_hashes_see_the_boundaries():
    assert hash_ids([1, 2], [3]) != hash_ids([1], [2, 3])
    assert hash_ids([12], [3]) != hash_ids([1, 2], [3])
