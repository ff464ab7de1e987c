"""The program's process as the judge sees it: a channel, a clock, an end.

Whatever the program sends is read here, within limits of size and time; what is wrong with it is the
program's fault, and the program's end.
"""

import errno
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable

from data.sandbox import kernel, wire
from data.sandbox.clock import Clock, RunQueue
from data.sandbox.codec import MAX_BYTES, CodecError
from data.sandbox.core import Core
from data.sandbox.limits import limit_program
from data.sandbox.nursery import CREDENTIALS, END, ENDING, HAS_EXITED, PID
from data.sandbox.peer import Peer, Stopped
from data.sandbox.program import CPU_SECONDS, GREETING

LENGTH = struct.Struct("<I")
MAX_FRAME = MAX_BYTES + (1 << 20)
CHUNK = 1 << 16
FIRST_WAIT = struct.pack("ll", 0, 4000)  # (seconds, microseconds); longer waits look at clock and process too


class Outcome(Exception):
    """A verdict, thrown to the end of the judge."""

    def __init__(self, verdict: str, kind: str = "", detail: str = "") -> None:
        super().__init__(verdict, kind, detail)
        self.verdict, self.kind, self.detail = verdict, kind, detail


class Session:
    """The program's process as the judge sees it: a channel, a clock, an end."""

    def __init__(
        self,
        nursery: socket.socket,
        output: int,
        job: dict,
        report: dict,
        operate: Callable[..., object],
        queue: RunQueue,
        core: Core,
    ) -> None:
        self.nursery, self.output, self.job = nursery, output, job
        self.channel, self.pid, inner = receive_process(nursery, report["own_pids"])
        self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, FIRST_WAIT)
        self.limits = job["seconds"], job["memory_mb"], job["output_mb"], job["files"], report["processes"]
        if kernel.LINUX:
            limit_program(self.pid, *self.limits)
            self.limits = ()  # nothing left for the program's side to do
        self.arrived = b""  # read from the channel, beyond the frame asked for
        place = f"/proc/{inner if report['own_root'] else self.pid}"
        self.clock = Clock(self.pid, job["seconds"], place, job["demote"], queue, core)
        self.core = core
        core.share(self.pid)
        self.poll = select.poll()
        self.poll.register(self.channel, select.POLLIN)
        self.pidfd = open_pidfd(self.pid)
        if self.pidfd is not None:
            self.poll.register(self.pidfd, select.POLLIN)
        self.strained = False  # this process ran out of memory or failed, and should not go on
        self.greeted = False
        self.failure: Outcome | None = None  # why the program is over, once it is
        self.ending: tuple | None = None  # nursery.ENDING, once the process is gone
        self.counts = {"tests_passed": 0, "tests_total": 0}
        self.peer = Peer(self.send, self.receive, operate, leads=True)
        self.peer.objects.append(None)
        self.peer.request = self.ask  # remote objects ask through the checks above all

    def request(self, operation: str, *operands: object) -> object:
        return self.ask(operation, 0, *operands)

    def ask(self, operation: str, number: int, *operands: object) -> object:
        """Ask the program; anything wrong with the answer is the program's fault and its end."""
        if self.failure:
            raise Stopped
        try:
            return Peer.request(self.peer, operation, number, *operands)
        except CodecError as error:
            self.fail(Outcome("runtime_error", "ProtocolError", str(error)))
        except MemoryError as error:
            if hasattr(error, "_sandbox_raised"):
                raise
            self.strained = True
            self.fail(Outcome("out_of_memory", "MemoryError", "an answer too large for the judge"))

    def fail(self, outcome: Outcome) -> None:
        self.failure = self.failure or outcome
        raise Stopped

    def send(self, payload: bytes) -> None:
        if self.failure:
            raise Stopped
        reason = self.clock.begin_call()
        if reason:
            self.fail(Outcome("timeout", "", reason))
        data = memoryview(LENGTH.pack(len(payload)) + payload)
        while data:
            try:
                data = data[self.channel.send(data, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                self.wait_until_ready(select.POLLOUT)
            except OSError:
                self.died()

    def receive(self) -> bytes:
        if self.failure:
            raise Stopped
        payload = self.read_frame()
        if not self.greeted:  # sent before the program's first line
            if payload[:1] != GREETING:
                text = payload[1:].decode("utf-8", "replace")
                self.fail(Outcome("internal_error", "", f"could not isolate the program: {text}"))
            self.greeted = True
            self.clock.start(*CPU_SECONDS.unpack(payload[1:]))
            payload = self.read_frame()
        self.clock.end_wait()
        return payload

    def read_frame(self) -> bytes:
        """One frame; short ones come with a single call."""
        data = self.arrived or self.read_some(CHUNK)
        while len(data) < 4:
            data += self.read_some(CHUNK)
        (size,) = LENGTH.unpack_from(data)
        if size > MAX_FRAME or size == 0:
            raise CodecError(f"a message of {size} bytes; {MAX_FRAME} is the limit")
        end = size + 4
        if len(data) < end:
            parts, missing = [data], end - len(data)
            while missing:
                parts.append(self.read_some(min(missing, 1 << 20)))
                missing -= len(parts[-1])
            data = b"".join(parts)
        self.arrived = data[end:]
        return data[4:end]

    def read_some(self, most: int) -> bytes:
        """What is there, at least one byte."""
        while True:
            try:
                data = self.channel.recv(most)
            except BlockingIOError:
                self.wait_until_ready(select.POLLIN)
                continue
            except OSError:
                data = b""
            if data:
                return data
            self.died()

    def wait_until_ready(self, event: int) -> None:
        """Return when the channel is ready; stop when the program is over by death or by time."""
        self.poll.modify(self.channel, event)
        while True:
            ready = dict(self.poll.poll(1000 * self.clock.next_wait()))
            if ready.get(self.channel.fileno()):
                return
            if self.pidfd in ready or (self.pidfd is None and self.has_exited()):
                self.died()
            reason = self.clock.expired()
            if reason:
                self.fail(Outcome("timeout", "", reason))

    def has_exited(self) -> bool:
        if self.pidfd is not None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            return bool(poll.poll(0))
        self.nursery.sendall(HAS_EXITED)
        return wire.read_exactly(self.nursery, 1) == b"\1"

    def died(self) -> None:
        """The program's process has ended or closed the channel, and the tests had not."""
        end = time.monotonic() + 0.2
        while not self.has_exited():
            if time.monotonic() > end:
                self.fail(Outcome("runtime_error", "ProtocolError", "the program closed its channel"))
            time.sleep(0.001)
        status, user, system, rss, _ = self.end()
        if os.WIFEXITED(status):
            text = f"the process ended (exit code {os.WEXITSTATUS(status)}) before the tests"
            self.fail(Outcome("runtime_error", "EarlyExit", text))
        number = os.WTERMSIG(status)
        used = user + system - self.clock.before
        if number == signal.SIGXCPU or (number == signal.SIGKILL and used > self.job["seconds"]):
            self.fail(Outcome("timeout", "", "CPU limit of the kernel"))
        if number == signal.SIGKILL and rss > 0.9 * (self.job["memory_mb"] << 20):
            self.fail(Outcome("out_of_memory", "", "killed near the memory limit"))
        names = {one.value: one.name for one in signal.Signals}
        self.fail(Outcome("killed", names.get(number, "signal"), f"died by signal {number}"))

    def end(self) -> tuple:
        """Have the nursery kill and account for the process and all it started."""
        if self.ending is None:
            self.nursery.sendall(END + bytes([self.core.leave()]))
            self.ending = ENDING.unpack(wire.read_exactly(self.nursery, ENDING.size))
        return self.ending

    def output_is_full(self) -> bool:
        return os.fstat(self.output).st_size >= self.job["output_mb"] << 20

    def close(self) -> dict:
        """End the program's process; what it used."""
        cpu = self.clock.cpu()
        _, user, system, rss, clean = self.end()
        self.channel.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
        if not clean:
            raise RuntimeError("processes of a program survived; this worker must end")
        return {
            "cpu": round(max(cpu, user + system - self.clock.before), 6),
            "max_rss": rss,
            "mode": self.job["mode"],
        }


def receive_process(nursery: socket.socket, own_pids: bool) -> tuple[socket.socket, int, int]:
    """(channel, pid as this process sees it, pid as the nursery sees it) of the next program's process."""
    space = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(CREDENTIALS.size)
    data, ancillary, _, _ = nursery.recvmsg(PID.size, space)
    if not data:
        raise wire.Closed
    (inner,) = PID.unpack(data)
    outer, channel = inner, None
    for _, kind, content in ancillary:
        if kind == socket.SCM_RIGHTS:
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, PID.unpack(content[:4])[0])
        elif own_pids and kind == socket.SCM_CREDENTIALS:
            outer = CREDENTIALS.unpack(content[: CREDENTIALS.size])[0]
    if channel is None:
        raise wire.Closed
    return channel, outer, inner


def open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", 0) in (0, errno.ENOSYS, errno.EPERM):
            return None
        raise
