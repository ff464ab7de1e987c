"""Resource limits of the program's process, and its place in the process tree."""

import contextlib
import os
import resource
from collections.abc import Callable

from data.sandbox import kernel

CHANNEL_NUMBER = 900  # the protocol's descriptor: above RLIMIT_NOFILE, so no loop over descriptors meets it
STACK_BYTES = 64 << 20


def limit(kind: int, value: int, pid: int = 0, hard: int = 0) -> None:
    """Lower a limit, soft and hard (`hard` where that is another), of this process or of `pid`; never raise
    the hard one."""
    _, old = resource.prlimit(pid, kind) if pid else resource.getrlimit(kind)
    values = [value, hard or value]
    new = tuple(values if old == resource.RLIM_INFINITY else (min(one, old) for one in values))
    resource.prlimit(pid, kind, new) if pid else resource.setrlimit(kind, new)


def grow_stack() -> None:
    """More room for recursion than the usual 8 MiB; the kernel lets the first thread's stack grow later. A
    program may ask for still more, as contest programs do: the memory limit counts it."""
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    size = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (size, hard))


def limit_nursery() -> None:
    """Limits that are the same for all programs; the nursery keeps within them too."""
    limit(resource.RLIMIT_CORE, 0)
    grow_stack()
    for name, value in (("MSGQUEUE", 0), ("SIGPENDING", 1024)):  # the latter are Linux's
        if hasattr(resource, f"RLIMIT_{name}"):
            limit(getattr(resource, f"RLIMIT_{name}"), value)


def forbid_pins() -> None:
    """No memory held in place. The nursery's is by now."""
    limit(resource.RLIMIT_MEMLOCK, 0)


def limit_program(
    pid: int, seconds: float, memory_mb: int, output_mb: int, files: int, processes: int | None
) -> None:
    """The limits of one program, whose process is `pid`, 0 for the caller (elsewhere than on Linux it has to
    be the caller). `processes` None leaves threads and processes to the other layers."""
    seconds = int(seconds) + 3  # the backstop; the judge's clock is the limit
    limit(resource.RLIMIT_CPU, seconds, pid, seconds + 1)  # first a signal that says why
    limit(resource.RLIMIT_FSIZE, output_mb << 20, pid)
    limit(resource.RLIMIT_NOFILE, files, pid)
    if processes is not None:
        limit(resource.RLIMIT_NPROC, processes, pid)
    try:
        limit(resource.RLIMIT_AS, memory_mb << 20, pid)
    except (OSError, ValueError):  # macOS refuses, and does not enforce it
        if kernel.LINUX:
            raise


def connect_streams(output: int) -> None:
    """Standard input is empty; output and errors go to `output`."""
    null = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((0, null), (1, output), (2, output)):
        os.dup2(target, number)
    os.close(null)


def channel_number() -> int:
    """The number the protocol's descriptor gets in every program's process."""
    return min(CHANNEL_NUMBER, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1)


def close_others_prepared(channel: int) -> list[Callable[[], int]]:
    """Calls that close all descriptors but the standard streams and `channel`."""
    pairs = ((3, channel - 1), (channel + 1, (1 << 32) - 1))
    return [kernel.prepared(kernel.SYS_CLOSE_RANGE, first, last, 0) for first, last in pairs]


def close_others(channel: int) -> None:
    """The same where the kernel has no such call."""
    os.closerange(3, channel)
    os.closerange(channel + 1, max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 16))


def own_processes() -> int:
    """Tasks of this user on the machine: what RLIMIT_NPROC counts where there is no user namespace."""
    count = 0
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == os.getuid():
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count
