"""Plain values whose class adds to them: a dictionary with methods, a named tuple with properties, a number
that is a member of an enumeration.

Such a value crosses as what it is below, so the tests compare, sort and hash it here; what its class adds is
asked of the program's object. So the program never hears what its answer is compared with. Mutable ones are
kept in step like all containers (sharing.py).
"""

import collections
import copy
import decimal
import enum
import functools

from data.sandbox.codec import CodecError
from data.sandbox.remote import BINARY, Remote, ask
from data.sandbox.sharing import Shared, mapping_kind

ATOMS = (int, float, str, bytes, decimal.Decimal)
CONTAINERS = (
    list, dict, collections.OrderedDict, collections.Counter, collections.defaultdict, set, collections.deque,
)  # fmt: skip
PLAIN = frozenset({*ATOMS, *CONTAINERS, tuple, frozenset})
TEXTS = {"__str__": "str", "__repr__": "repr"}
OPERATORS = {f"__{name.strip('_')}__": name for name in BINARY}
SPECIAL = frozenset({*TEXTS, *OPERATORS, "__missing__"})
OVERRIDABLE = (list, dict, collections.deque)  # a set's methods are given what it is compared with
COMPARING = {"count", "index", "remove"}  # likewise
MOST = 10_000  # in one message; more cross as what they are below
HANDLE = "_sandbox_handle"


# the program's side


@functools.lru_cache(maxsize=512)
def added(kind: type) -> tuple[str, ...] | None:
    """The names by which a class changes what its plain base already has, () for none of them; None when it
    adds nothing to its base either."""
    below = next((base for base in kind.__mro__ if base in PLAIN), None)
    if below is None or below is kind or any(base.__module__ == "numpy" for base in kind.__mro__):
        return None
    own: dict[str, object] = {}
    for base in kind.__mro__[: kind.__mro__.index(below)]:
        own |= {name: item for name, item in vars(base).items() if base is not enum.Enum}
    fields = getattr(kind, "_fields", ())
    public = {name for name in own if not name.startswith("_")} - set(fields if type(fields) is tuple else ())
    special = {name for name in SPECIAL & own.keys() if getattr(own[name], "__module__", "") != "collections"}
    if not public and "__getattr__" not in own and not special:
        return None
    return tuple(sorted(special | {name for name in public if overridable(below, name)}))


def overridable(base: type, name: str) -> bool:
    """Whether the program may change this of a plain value; `name` is public."""
    return issubclass(base, OVERRIDABLE) and hasattr(base, name) and name not in COMPARING


# the judge's side


class Extension:
    """What the classes made here have in common."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") or name == HANDLE:
            raise AttributeError(name)
        return getattr(handle_of(self), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(handle_of(self), name, value)

    def __copy__(self) -> object:
        return copy.copy(handle_of(self))

    def __deepcopy__(self, memo: dict) -> object:
        return copy.deepcopy(handle_of(self), memo)


def handle_of(value: Extension) -> Remote:
    return vars(value)[HANDLE]


def forwarded(base: type, name: str) -> object:
    """What stands in a class for something that the program's class changes."""
    if name in TEXTS:
        return lambda self: str(ask(handle_of(self), TEXTS[name]))
    if name == "__missing__":
        return lambda self, key: handle_of(self)[key]
    if name not in OPERATORS:
        return property(lambda self: getattr(handle_of(self), name))

    def operate(self: Extension, other: object) -> object:
        if isinstance(other, (Extension, Remote)):  # both are the program's; see remote.py
            return ask(handle_of(self), "operator", OPERATORS[name], other)
        return getattr(base, name, lambda *_: NotImplemented)(self, other)

    return operate


@functools.lru_cache(maxsize=256)
def extension_class(base: type, label: str, names: tuple[str, ...]) -> type:
    """`base` that asks the program for these names and for those that it lacks."""
    members = {name: forwarded(base, name) for name in names}
    return type(label if label.isidentifier() else base.__name__, (Extension, base), members)


def extend(plain: object, handle: object, names: object, shared: Shared) -> object:
    """The value that stands for the program's object `handle`, which is `plain` below."""
    base = type(plain)
    if issubclass(base, Extension):  # it has been here before, and is kept in step
        return plain
    allowed = type(names) is tuple and all(
        type(name) is str and (name in SPECIAL or not name.startswith("_") and overridable(base, name))
        for name in names
    )
    if not allowed or not isinstance(handle, Remote):
        raise CodecError("a malformed extension")
    if base not in PLAIN and not (issubclass(base, tuple) and hasattr(base, "_fields")):
        return plain
    label = object.__getattribute__(handle, "_sandbox")[2]
    kind = extension_class(base, label, names)
    if issubclass(base, ATOMS):
        known = shared.atoms.get(id(handle))
        if type(known) is kind and base.__eq__(known, plain) is True:
            return known  # the members of an enumeration are compared by identity
    value = filled(kind, base, plain)
    vars(value)[HANDLE] = handle
    if issubclass(base, ATOMS):
        shared.atoms[id(handle)] = value
    number = shared.numbers.pop(id(plain), None)
    if number is not None:
        shared.fill(number, value)
    return value


def filled(kind: type, base: type, plain: object) -> object:
    """A `kind` that holds what `plain` does, by the methods of `base`."""
    if base not in CONTAINERS:
        return (tuple if issubclass(base, tuple) else base).__new__(kind, plain)
    value = base.__new__(kind)
    if base is collections.deque:
        base.__init__(value, plain, plain.maxlen)
    elif base is collections.defaultdict:
        base.__init__(value, plain.default_factory, plain)
    elif issubclass(base, dict):
        mapping_kind(value).update(value, plain)
    else:
        base.__init__(value, plain)
    return value
