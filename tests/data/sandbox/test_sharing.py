"""Containers both sides hold stay in step, keep their identity, and are let go."""

import types

import pytest

from data.sandbox.codec import CodecError
from data.sandbox.sharing import Shared, is_data, written_out


def remembered(*values: object) -> Shared:
    shared = Shared()
    for value in values:
        shared.add(value)
    shared.remember()
    return shared


def test_changes_are_found_and_can_be_applied_elsewhere():
    ours = [[1], {"a": 1}, {1}, bytearray(b"x"), types.SimpleNamespace(a=1)]
    theirs = [[1], {"a": 1}, {1}, bytearray(b"x"), types.SimpleNamespace(a=1)]
    here, there = remembered(*ours), remembered(*theirs)
    assert here.changes(True) == ()
    ours[0].append(2)
    ours[1]["b"] = ours[1].pop("a")
    ours[2].clear()
    ours[3] += b"y"
    ours[4].b = 2
    changes = here.changes(True)
    assert len(changes) == 5
    there.apply(changes)
    assert theirs == ours
    assert here.changes(True) == there.changes(True) == ()


def test_an_equal_item_in_place_of_another_is_a_change():
    first, second = [1], [1]
    outer = [first]
    shared = remembered(outer)
    outer[0] = second
    assert shared.changes(True)


def test_long_containers_are_compared_at_the_end_of_a_call_only():
    value = list(range(1000))
    shared = remembered(value)
    value.append(1)
    assert not shared.changes(False)
    assert shared.changes(True)


def test_only_what_somebody_else_holds_is_held():
    shared = Shared()
    kept, inner = [], [1]
    kept.append(inner)
    for value in (kept, inner):
        shared.add(value)
    del inner, value
    for _ in range(3):
        shared.add([[2]])
    shared.remember()
    assert shared.held() == [0, 1]  # and what is in it
    shared.keep([0, 1])
    assert list(shared.objects) == [0, 1]
    del kept
    assert shared.held() == []
    shared.keep([])
    assert not shared.objects


def test_what_is_too_large_is_not_held():
    kept = list(range(100_000))
    assert remembered(kept).held() == []


def test_numbers_of_a_message_never_sent_are_taken_back():
    shared = remembered([1])
    shared.add([2])
    shared.forget_since(1)
    assert (list(shared.objects), shared.next) == ([0], 1)


@pytest.mark.parametrize("change", [((5, ()),), ((0, 7),), (("x", ()),), 3, ((0,),)])
def test_a_malformed_change_is_a_codec_error(change):
    with pytest.raises(CodecError):
        remembered([1]).apply(change)


def test_a_small_value_that_is_huge_written_out_is_noticed():
    value = [1]
    for _ in range(40):
        value = [value, value]
    assert not written_out([value], 1 << 20)
    assert written_out([[[0] * 10] * 10], 1 << 20)
    value = []
    value.append(value)
    assert written_out([value], 10)


def test_data_hides_no_method():
    class Node:
        size = 0
        __slots__ = ("left", "__dict__")

        def walk(self): ...

        @property
        def depth(self): ...

        @staticmethod
        def make(): ...

    assert [name for name in ("size", "left", "any", "_x") if is_data(Node, name)] == [
        "size",
        "left",
        "any",
        "_x",
    ]
    assert not [name for name in ("walk", "depth", "make", "__class__", "__eq__", 3) if is_data(Node, name)]
