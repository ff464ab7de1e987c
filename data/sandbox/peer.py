"""The conversation between tests and program: requests that may nest, answers, and containers kept in step.

Both sides run the same class. What differs: the transport (the judge's keeps a clock and stops the
program), and `operate`, which says what the other side may do with an object of ours. The program's side
allows everything; the judge's allows only what tests hand over (data/sandbox/handover.py).

A request is C, the operation's name, the object's number, the operands; an answer R and a value, or E and
an exception. Each is followed by the changes of shared containers (sharing.py), and the answer to a call
of the tests by the numbers of those that the program holds on to.
"""

import inspect
import struct
import sys
import threading
import types
from collections.abc import Callable

from data.sandbox.codec import MAX_BYTES, NOTHING, CodecError
from data.sandbox.decoder import Decoder
from data.sandbox.encoder import Encoder
from data.sandbox.exceptions import Exceptions, class_names
from data.sandbox.extension import MOST as MOST_EXTENSIONS
from data.sandbox.library import CLASSES
from data.sandbox.remote import KINDS
from data.sandbox.sharing import MOST_KEPT, Shared, written_out

NUMBER = struct.Struct("<I")
CODEC_RECURSION = 20_000
LONGEST_LABEL = 250
FEW_REFERENCES = 20  # so many cannot make a small message a huge value
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.BuiltinMethodType)


class Stopped(BaseException):
    """The program is over: no test may catch this and go on."""


class Peer:
    """One end. `send(payload)` and `receive() -> payload` are whole frames. `leads`: this is the judge."""

    def __init__(
        self,
        send: Callable[[bytes], None],
        receive: Callable[[], bytes],
        operate: Callable[..., object],
        leads: bool,
        kinds: dict[str, Callable[..., object]] = KINDS,
    ) -> None:
        self.send, self.receive, self.operate = send, receive, operate
        self.leads, self.kinds = leads, kinds
        self.objects: list[object] = []  # ours that the other side may name
        self.numbers: dict[int, int] = {}
        self.remotes: dict[int, object] = {}  # theirs that we hold
        self.remote_numbers: dict[int, int] = {}
        self.shared = Shared()
        self.classes: dict[str, type] = dict(CLASSES)  # whose instances cross by their attributes
        self.class_names = {kind: name for name, kind in CLASSES.items()}
        self.exceptions = Exceptions(self.classes)
        self.lock = threading.RLock()  # tests and programs may have threads
        self.asking = self.serving = 0  # how deep we are in requests of our own, and of the other side
        self.reading = False  # the judge, in the middle of an answer, when it can ask nothing

    def share_classes(self, classes: dict[str, type]) -> None:
        """From now on instances of these cross by their attributes."""
        self.classes.update(classes)
        self.class_names.update({kind: name for name, kind in classes.items()})

    def unshare_classes(self, names: list[str]) -> None:
        """The other side lacks these after all."""
        for name in names:
            self.class_names.pop(self.classes.pop(name, None), None)

    # references

    def refer(self, value: object) -> bytes:
        """Encode an object by its number: one of theirs, or one of ours, new or known."""
        number = self.remote_numbers.get(id(value))
        if number is not None:
            return b"HT" + NUMBER.pack(number)
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        kind = kind_of(value).encode()
        label = ",".join(class_names(value)) if kind == b"x" else name_of(value) or type(value).__name__
        label = label.encode("utf-8", "replace")[:LONGEST_LABEL] if type(label) is str else b"?"
        return b"HO" + NUMBER.pack(number) + kind + bytes([len(label)]) + label

    def resolve(self, decoder: Decoder) -> object:
        """Decode what the other side's `refer` wrote: its T is ours, its O is a remote object."""
        ours = decoder.take(1) == b"T"
        (number,) = NUMBER.unpack(decoder.take(4))
        if ours:
            return self.objects[number]
        kind = decoder.take(1).decode()
        label = decoder.take(decoder.take(1)[0]).decode("utf-8", "replace")
        remote = self.remotes.get(number)
        if remote is None:
            if kind == "x":
                remote = self.exceptions.kind(tuple(label.split(",")))
            else:
                remote = self.kinds[kind](self.request, number, label)
            self.remotes[number] = remote
            self.remote_numbers[id(remote)] = number
        return remote

    # messages

    def message(self, header: bytes, value: object, whole: bool) -> bytes:
        """A frame's payload: header, value, changes. An encoding that fails leaves no trace."""
        first = self.shared.next
        encoder = Encoder(self.refer, self.shared, self.class_names, 0 if self.leads else MOST_EXTENSIONS)
        encoder.parts.append(header)
        try:
            with_recursion(self.encode, encoder, value, whole)
            return encoder.bytes()
        except BaseException:
            self.shared.forget_since(first)
            raise

    def encode(self, encoder: Encoder, value: object, whole: bool) -> None:
        encoder.encode(value)
        changes = self.shared.changes(whole) if self.shared.known else ()
        if changes:
            encoder.encode(changes)
        else:
            encoder.parts.append(NOTHING)

    def decoder(self, payload: bytes, at: int) -> Decoder:
        decoder = Decoder(payload, self.resolve, self.shared, self.classes, self.exceptions.rebuild)
        decoder.at = at
        return decoder

    def take_value(self, decoder: Decoder) -> object:
        """The value of a message; its changes are carried over."""
        shared, before = self.shared, self.shared.references_read
        self.reading = self.leads
        try:
            value, changes = with_recursion(decoder.decode_both)
            if changes:
                shared.apply(changes)
        finally:
            self.reading = False
        if self.leads and shared.references_read > max(before, FEW_REFERENCES):
            reached = [value, *(shared.objects[number] for number, _ in changes)]
            if not with_recursion(written_out, reached, MAX_BYTES):
                raise CodecError(
                    f"a value of more than {MAX_BYTES} items, most of them several times the same"
                )
        return value

    # asking

    def request(self, operation: str, number: int, *operands: object) -> object:
        """Have the other side do something with one of its objects; serve what it asks meanwhile."""
        with self.lock:
            if self.reading:  # their objects go into a set or are keys; see remote.py
                return NotImplemented
            self.asking += 1
            try:
                name = operation.encode()
                header = b"C" + bytes([len(name)]) + name + NUMBER.pack(number)
                self.send(self.message(header, operands, self.leads and self.asking == 1))
                return self.await_answer()
            finally:
                self.asking -= 1

    def await_answer(self) -> object:
        while True:
            payload = self.receive()
            tag = payload[:1]
            if tag == b"C":
                self.serve(payload)
                continue
            if tag not in (b"R", b"E"):
                raise CodecError("neither a request nor an answer")
            decoder = self.decoder(payload, 1)
            answer = self.take_value(decoder)
            if self.leads and self.asking == 1:
                kept = () if decoder.skip_nothing() else decoder.decode()
                if type(kept) is not tuple or len(kept) > MOST_KEPT or set(map(type, kept)) - {int}:
                    raise CodecError("a malformed list of containers")
                self.shared.keep(kept)
            elif self.shared.objects:
                self.shared.remember()
            if tag == b"R":
                return answer
            if not isinstance(answer, BaseException):
                raise CodecError("an error that is none")
            answer._sandbox_raised = True
            raise answer

    # serving

    def serve(self, payload: bytes) -> None:
        self.serving += 1
        try:
            reply = self.reply_to(payload)
        finally:
            self.serving -= 1
        if not self.leads and self.serving == 0:
            shared = self.shared
            kept = shared.held() if shared.objects else []
            if kept:
                encoder = Encoder(self.refer)
                encoder.encode(tuple(kept))
                reply += encoder.bytes()
            else:
                reply += NOTHING
            shared.keep(kept)
        self.send(reply)

    def reply_to(self, payload: bytes) -> bytes:
        try:
            at = 2 + payload[1]
            operation = payload[2:at].decode()
            target = self.objects[NUMBER.unpack_from(payload, at)[0]]
        except (IndexError, ValueError, struct.error) as error:
            raise CodecError(f"a malformed request: {error}") from None
        operands = self.take_value(self.decoder(payload, at + NUMBER.size))
        if self.shared.objects:
            self.shared.remember()
        whole = not self.leads and self.serving == 1
        try:
            return self.message(b"R", self.operate(target, operation, operands), whole)
        except Stopped:
            raise
        except BaseException as error:
            try:
                return self.message(b"E", error, whole)
            except Stopped:
                raise
            except BaseException as failure:  # an exception that cannot be sent as it is
                return self.message(
                    b"E", RuntimeError(f"{type(error).__name__}: {type(failure).__name__}"), whole
                )


get_recursion_limit, set_recursion_limit = sys.getrecursionlimit, sys.setrecursionlimit


def with_recursion(function: Callable, *arguments: object) -> object:
    """Run the codec with room for deep values, whatever limit the program has set."""
    limit = get_recursion_limit()
    if limit >= CODEC_RECURSION:
        return function(*arguments)
    set_recursion_limit(CODEC_RECURSION)
    try:
        return function(*arguments)
    finally:
        try:  # noqa: SIM105 (a context manager would be three more calls, each time)
            set_recursion_limit(limit)
        except RecursionError:  # we stand deeper than the program's own limit allows
            pass


def name_of(value: object) -> object:
    try:
        return getattr(value, "__name__", None)
    except Exception:  # of a program's own attribute access
        return None


def kind_of(value: object) -> str:
    """The letter of remote.KINDS that stands for this object on the other side."""
    if isinstance(value, FUNCTIONS):
        return "f"
    if inspect.isgenerator(value):
        return "g"
    if inspect.iscoroutine(value):
        return "a"
    if inspect.isasyncgen(value):
        return "y"
    if isinstance(value, type) and issubclass(value, BaseException):
        return "x"
    if callable(value):
        return "c"
    return "i" if hasattr(type(value), "__next__") else "o"
