"""Token weights of LD-DPO, Focused-DPO and Target-DPO."""

import pytest
import torch

from losses.dpo import dpo_loss
from losses.focal import focal_weights, target_weights
from losses.ld_dpo import ld_weights, pair_ld_weights
from losses.types import PairLogps


def test_only_the_tail_of_the_longer_side_is_discounted():
    chosen, rejected = pair_ld_weights(5, 3, alpha=0.25)
    assert chosen.tolist() == [1, 1, 1, 0.25, 0.25]
    assert rejected.tolist() == [1, 1, 1]


def test_a_batch_is_its_pairs():
    """Two pairs in the order of a batch: chosen 0, rejected 0, chosen 1, rejected 1."""
    lengths = torch.tensor([2, 4, 3, 1])  # chosen 0, chosen 1, rejected 0, rejected 1
    row = torch.tensor([0] * 2 + [2] * 3 + [1] * 4 + [3])
    expected = torch.cat([*pair_ld_weights(2, 3, 0.5), *pair_ld_weights(4, 1, 0.5)])
    assert torch.equal(ld_weights(row, lengths, 0.5), expected)


def test_alpha_one_changes_nothing_and_other_values_are_refused():
    assert all((weights == 1).all() for weights in pair_ld_weights(7, 2, 1.0))
    with pytest.raises(ValueError, match="alpha"):
        pair_ld_weights(7, 2, 1.5)


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ([1, 2, 3, 9], [1, 5, 6, 3, 9], ([1, 2, 1, 1], [1, 2, 2, 1, 1])),
        ([1, 2, 3], [1, 2, 3], ([1, 1, 1], [1, 1, 1])),
        ([1, 1, 1], [1, 1], ([1, 1, 2], [1, 1])),  # the suffix may not overlap the prefix
        ([4], [5], ([2], [2])),
    ],
)
def test_focal_weights_mark_the_middle(chosen, rejected, expected):
    assert [w.tolist() for w in focal_weights(chosen, rejected, 2.0)] == list(map(list, expected))


def test_target_weights_keep_the_lines_that_differ():
    chosen = ["def f", "(x):\n", "    return", " x\n", ""]
    rejected = ["def f", "(x):\n", "    y = 1\n", "    return", " x\n", ""]
    weights = target_weights(chosen, rejected)
    assert weights[0].tolist() == [1] * 5
    assert weights[1].tolist() == [0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("character", "\x0b\x0c\r\x1c\x1d\x1e\x85\u2028\u2029")
def test_target_lines_end_at_a_newline_and_at_nothing_else(character):
    first = f"a{character}b\n"
    assert target_weights([first, "x\n", "c"], [first, "y\n", "c"])[1].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("rejected", "expected"),
    [
        (["a", "\n    ", "y", "\n", "c"], [0, 1, 1, 1, 0]),  # with the indent of the line that differs
        (["a", "\n", "    y", "\n", "c"], [0, 0, 1, 1, 0]),  # a newline alone is of the line it ends
        (["a\n    ", "y\nc", ""], [1, 1, 0]),
        (["a\n    y\nc", ""], [1, 0]),
    ],
)
def test_a_rejected_token_counts_if_any_of_its_text_is_on_a_line_that_differs(rejected, expected):
    assert target_weights(["a\n", "    x\n", "c", ""], rejected)[1].tolist() == expected


def test_an_empty_line_both_have_does_not_count_with_the_newlines_before_it():
    assert target_weights(["a", "\n\n", "x"], ["a", "\n\n", "y"])[1].tolist() == [0, 0, 1]


def test_target_weights_of_identical_programs_are_empty():
    assert target_weights(["a\n", "b"], ["a", "\nb"])[1].sum() == 0


def test_target_weights_of_identical_programs_leave_the_chosen_log_ratio():
    """The rejected sums are empty under policy and reference, so the margin is r_chosen."""
    chosen, rejected = target_weights(["a\n", "b"], ["a", "\nb"])
    policy, reference = torch.tensor([[-1.0, -2.0], [-1.5, -1.5]]), torch.tensor([[-2.0, -3.0], [-2.5, -0.5]])
    sums = [PairLogps((p[0] @ chosen)[None], (p[1] @ rejected)[None]) for p in (policy, reference)]
    expected = torch.nn.functional.softplus(torch.tensor([-0.1 * 2.0]))
    torch.testing.assert_close(dpo_loss(*sums, beta=0.1).losses, expected)


def test_the_common_prefix_cancels_and_the_middle_counts_twice():
    """Focused-DPO: the prefix has the same log-ratios on both sides, here 0.3 and -0.7."""
    chosen, rejected = focal_weights([1, 2, 3], [1, 2, 4], 2.0)
    margin = torch.tensor([0.3, -0.7, 0.5]) @ chosen - torch.tensor([0.3, -0.7, 0.2]) @ rejected
    assert margin.item() == pytest.approx(2 * (0.5 - 0.2))
