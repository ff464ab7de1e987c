"""Resource limits of the program's process, and its place in the process tree."""

import contextlib
import fcntl
import os
import resource

from data.sandbox import kernel

SYS_CLOSE_RANGE = 436
CHANNEL_NUMBER = 900  # the protocol's descriptor: above RLIMIT_NOFILE, so no loop over descriptors meets it
STACK_BYTES = 64 << 20


def limit(kind: int, value: int) -> None:
    """Lower a limit, soft and hard; never raise the hard one."""
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def grow_stack() -> None:
    """More room for recursion than the usual 8 MiB; the kernel lets the first thread's stack grow later."""
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    size = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (size, hard))


def limit_program(seconds: float, memory_mb: int, output_mb: int, files: int, processes: int | None) -> None:
    """All limits of one program; `processes` None leaves threads and processes to the other layers."""
    seconds = int(seconds) + 3  # the backstop; the judge's clock is the limit
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # first a signal that says why
    limit(resource.RLIMIT_FSIZE, output_mb << 20)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NOFILE, files)
    limit(resource.RLIMIT_STACK, STACK_BYTES)
    for name in ("RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE"):  # the second is Linux's
        if hasattr(resource, name):
            limit(getattr(resource, name), 0)
    with contextlib.suppress(OSError, ValueError):  # macOS refuses, and does not enforce it
        limit(resource.RLIMIT_AS, memory_mb << 20)
    if processes is not None:
        limit(resource.RLIMIT_NPROC, processes)


def connect_streams(output: int) -> None:
    """Standard input is empty; output and errors go to `output`."""
    null = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((0, null), (1, output), (2, output)):
        os.dup2(target, number)
    os.close(null)


def keep_only(channel: int) -> int:
    """Move the channel to its high number and close everything else but the standard streams."""
    high = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    channel = fcntl.fcntl(channel, fcntl.F_DUPFD, min(CHANNEL_NUMBER, high - 1))
    close_range(3, channel - 1)
    close_range(channel + 1, max(high, 1 << 16))
    return channel


def close_range(first: int, last: int) -> None:
    try:
        kernel.syscall(SYS_CLOSE_RANGE, first, last, 0)
    except OSError:
        os.closerange(first, last + 1)


def own_processes() -> int:
    """Tasks of this user on the machine: what RLIMIT_NPROC counts where there is no user namespace."""
    count = 0
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == os.getuid():
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count
