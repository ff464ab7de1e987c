"""Work in several processes: everything once, errors and deaths heard of, nothing left running."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice

import pytest

from model.spread import spread


def squares(items: Iterable[int]) -> Iterator[tuple[int, int]]:
    return ((item * item, os.getpid()) for item in items)


def fails(error: Exception, items: Iterable[int]) -> Iterator[int]:
    yield from islice(items, 1)
    raise error


def dies(items: Iterable[int]) -> Iterator[int]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield from items


def never_ends(items: Iterable[int]) -> Iterator[int]:
    while True:
        yield from items


def test_without_others_nothing_is_started_and_items_stay_lazy():
    taken = []
    items = (taken.append(i) or i for i in range(3))
    assert next(spread(squares, [], items)) == (0, os.getpid())
    assert taken == [0]


@pytest.mark.parametrize("count", [1, 7])
def test_every_item_is_worked_on_once(count):
    results = list(spread(squares, [squares, squares], range(count)))
    assert sorted(square for square, _ in results) == [i * i for i in range(count)]
    assert len({pid for _, pid in results}) == min(count, 3)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("work", "kind", "message"),
    [
        (partial(fails, ValueError("logits are not finite")), ValueError, "^logits are not finite$"),
        (partial(fails, KeyError("x")), RuntimeError, "in fails\n"),
        (dies, ChildProcessError, "exit code -9"),
    ],
)
def test_what_stops_another_process_is_raised_here_after_what_it_had_sent(work, kind, message):
    results = []
    with pytest.raises(kind, match=message):
        deque(map(results.append, spread(iter, [work], range(6))))
    assert sorted(results) == ([0, 2, 4] if work is dies else [0, 1, 2, 4])
    assert not multiprocessing.active_children()


def test_closing_ends_the_others():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    with closing(spread(iter, [never_ends], range(4))) as results:
        assert [next(results) for _ in range(6)].count(3) >= 1
        assert multiprocessing.active_children()
    assert not multiprocessing.active_children()
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
