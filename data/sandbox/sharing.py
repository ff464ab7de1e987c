"""Mutable containers that both sides of the conversation hold, kept in step.

A program that changes its argument in place, keeps the test's list in a closure, or hands out its own list
twice must look as it would in one process. So each container that crosses gets a number, the same on both
sides; every message carries what has changed since the last one; and after each call of the tests only
those keep their number that the program still holds. Sizes are bounded: what is too large to be looked
through again and again is in step for one call only.
"""

import collections
import operator
import sys
import types
from collections.abc import Iterable

from data.sandbox.codec import CodecError, loaded_numpy

MOST_KEPT, MOST_ITEMS = 200, 2000  # containers that keep their number after a call, and what is in them
LARGE = 256  # longer ones are compared at the end of a call only, not at every callback
SCALARS = (int, float, str, bytes, bool, type(None))


class Shared:
    """Number -> container, and what each held when the two sides last agreed."""

    def __init__(self) -> None:
        self.objects: dict[int, object] = {}
        self.numbers: dict[int, int] = {}  # id -> number
        self.known: dict[int, tuple | bytes] = {}
        self.atoms: dict[int, object] = {}  # by the id of their handle, see extension.py
        self.next = 0
        self.references_read = 0  # how often a message named a container instead of spelling it out

    def add(self, value: object) -> None:
        """The next number is this container's."""
        number = self.next
        self.next = number + 1
        self.objects[number] = value
        self.numbers[id(value)] = number

    def reserve(self) -> int:
        """A number for a container that is still being built."""
        self.next += 1
        return self.next - 1

    def fill(self, number: int, value: object) -> None:
        self.objects[number] = value
        self.numbers[id(value)] = number

    def forget_since(self, number: int) -> None:
        """Take back the numbers of a message that was never sent."""
        for late in [late for late in self.objects if late >= number]:
            self.numbers.pop(id(self.objects.pop(late)), None)
            self.known.pop(late, None)
        self.next = number

    def remember(self) -> None:
        """Note what the containers hold that have come or gone since the last look."""
        known = self.known
        for number, value in self.objects.items():
            if number not in known:
                known[number] = contents(value)

    def changes(self, all_of_them: bool) -> tuple[tuple[int, tuple | bytes], ...]:
        """(number, contents) of each container that holds something else than when it was remembered."""
        changed = []
        for number, before in self.known.items():
            if not all_of_them and len(before) > LARGE:
                continue
            now = contents(self.objects[number])
            if not same_contents(before, now):
                changed.append((number, now))
                self.known[number] = now
        return tuple(changed)

    def apply(self, changes: Iterable[tuple[int, tuple | bytes]]) -> None:
        """Do to our containers what the other side did to its own; CodecError when that is no such thing."""
        try:
            for number, new in changes:
                value = self.objects[operator.index(number)]
                replace_contents(value, new)
                if number in self.known:
                    self.known[number] = contents(value)
        except (MemoryError, CodecError):
            raise
        except Exception as error:
            raise CodecError(f"a malformed change: {type(error).__name__}") from None

    def held(self) -> list[int]:
        """Numbers of the containers that somebody beside this table refers to, and of what they contain."""
        self.known.clear()
        if not self.referred({}):
            return []
        parts = {number: contents(value) for number, value in self.objects.items()}
        if sum(map(len, parts.values())) > MOST_ITEMS:
            return []
        del parts
        inside = collections.Counter(
            id(child) for value in self.objects.values() for child in contents(value)
        )
        todo = self.referred(inside)
        found = set(todo)
        while todo:
            for child in contents(self.objects[todo.pop()]):
                number = self.numbers.get(id(child))
                if number is not None and number not in found:
                    found.add(number)
                    todo.append(number)
        return sorted(found)[:MOST_KEPT]

    def referred(self, inside: dict[int, int]) -> list[int]:
        """Numbers of the containers with references from outside; `inside` counts those from one container
        to another."""
        found = []
        for number, value in self.objects.items():
            if sys.getrefcount(value) > OWN_REFERENCES + inside.get(id(value), 0):
                found.append(number)
        return found

    def keep(self, numbers: Iterable[int]) -> None:
        """Only these stay; remember what they hold."""
        if not numbers:
            self.objects.clear()
            self.numbers.clear()
            self.known.clear()
            return
        kept = {number: self.objects[number] for number in numbers if number in self.objects}
        self.objects = kept
        self.numbers = {id(value): number for number, value in kept.items()}
        self.known.clear()
        self.remember()


OWN_REFERENCES = 0
probe = Shared()
probe.add([])
while probe.referred({}):  # those of the table and of the counting itself
    OWN_REFERENCES += 1
del probe


def mapping_kind(value: dict) -> type[dict]:
    """Whose methods read and write a dictionary, not those that a subclass may have changed. An OrderedDict
    has an order of its own."""
    return collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict


def contents(container: object) -> tuple | bytes:
    """What a container holds now, to be compared by identity (bytes: by value)."""
    if isinstance(container, list):
        return tuple(list.__iter__(container))
    if isinstance(container, dict):
        kind = mapping_kind(container)
        return (*kind.keys(container), *kind.values(container))
    if isinstance(container, float):  # a not-a-number: has an identity, and cannot change
        return ()
    if isinstance(container, bytearray):
        return bytes(container)
    if isinstance(container, (set, collections.deque)):
        return tuple(container)
    numpy = loaded_numpy()
    if numpy is not None and isinstance(container, numpy.ndarray):
        if container.dtype.kind == "O":
            return tuple(container.ravel())
        return container.tobytes()
    state = state_of(container)
    return (*state, *state.values())


def same_contents(before: tuple | bytes, now: tuple | bytes) -> bool:
    if type(before) is bytes:
        return before == now
    return len(before) == len(now) and all(map(operator.is_, before, now))


def replace_contents(container: object, new: tuple | bytes) -> None:
    """Make our container hold what the other side's copy holds."""
    if isinstance(container, list):
        list.__setitem__(container, slice(None), new)
    elif isinstance(container, dict):
        kind, half = mapping_kind(container), len(new) // 2
        kind.clear(container)
        for key, value in zip(new[:half], new[half:], strict=True):  # a Counter's `update` would count
            kind.__setitem__(container, key, value)
    elif isinstance(container, set):
        set.clear(container)
        set.update(container, new)
    elif isinstance(container, collections.deque):
        collections.deque.clear(container)
        collections.deque.extend(container, new)
    elif isinstance(container, bytearray):
        container[:] = new
    elif (numpy := loaded_numpy()) is not None and isinstance(container, numpy.ndarray):
        if type(new) is bytes:
            container[...] = numpy.frombuffer(new, container.dtype).reshape(container.shape)
        else:
            for index, item in enumerate(new):
                container.flat[index] = item
    else:
        half = len(new) // 2
        set_state(container, dict(zip(new[:half], new[half:], strict=True)))


def written_out(values: Iterable[object], most: int) -> bool:
    """Whether these would have at most `most` items if nothing in them were shared. A few lists that contain
    each other twice are small here and endless for whoever walks through them."""
    sizes: dict[int, int] = {}

    def size(value: object) -> int:
        if isinstance(value, SCALARS):
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = 1  # a cycle ends here
            items = value if isinstance(value, (tuple, frozenset)) else ()
            if isinstance(value, (list, dict, set, collections.deque)):
                items = contents(value)
            sizes[id(value)] = 1 + sum(map(size, items))
        return sizes[id(value)]

    return sum(map(size, values)) <= most


# objects of classes that both sides have: their attributes


def state_of(value: object) -> dict[str, object]:
    """The attributes an object has of its own, in its dictionary and its slots."""
    state = {}
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if isinstance(kind.__dict__.get(name), types.MemberDescriptorType) and hasattr(value, name):
                state[name] = getattr(value, name)
    state.update(getattr(value, "__dict__", ()))
    return state


def set_state(value: object, state: dict[str, object]) -> None:
    """Give an object these attributes and no other, as far as they are data."""
    kind = type(value)
    for name in state_of(value).keys() - state.keys():
        if is_data(kind, name):
            object.__delattr__(value, name)
    for name, item in state.items():
        if is_data(kind, name):
            object.__setattr__(value, name, item)


def is_data(kind: type, name: object) -> bool:
    """Whether an object's attribute of this name hides nothing of its class: a program may set data, but must
    not replace a method that the tests call."""
    if type(name) is not str or (name.startswith("__") and name.endswith("__")):
        return False
    for base in kind.__mro__:
        if name in base.__dict__:
            found = base.__dict__[name]
            plain = not callable(found) and not hasattr(type(found), "__get__")
            return plain or isinstance(found, types.MemberDescriptorType)
    return True
