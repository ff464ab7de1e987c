"""The Linux calls Python has no name for, through ctypes. Every failure is an OSError with its errno.

`ctypes` is loaded once, in the zygote; a call costs one to two microseconds.
"""

import ctypes
import errno
import functools
import os
import socket
import sys
from collections.abc import Callable

LINUX = sys.platform == "linux"
MACHINE = os.uname().machine
libc = ctypes.CDLL(None, use_errno=True)
locked_libc = ctypes.PyDLL(None)  # calls that keep the interpreter's lock

# prctl options, <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

# system calls added since 4.17 have one number on all architectures; the older ones differ
SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446
SYS_MOUNT_SETATTR = 442
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(MACHINE, -1)
SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}.get(MACHINE, -1)
SYS_CAPGET = {"x86_64": 125, "aarch64": 90}.get(MACHINE, -1)
SYS_PRCTL = {"x86_64": 157, "aarch64": 167}.get(MACHINE, -1)
SYS_SETSID = {"x86_64": 112, "aarch64": 157}.get(MACHINE, -1)
SYS_CLOSE_RANGE = 436
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}.get(MACHINE, -1)


def checked(result: int, what: str) -> int:
    """`result` of a C call, or OSError(errno, what) when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, *arguments: int) -> int:
    """prctl(2); missing arguments are zero."""
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return checked(libc.prctl(option, *padded), f"prctl {option}")


def syscall(number: int, *arguments: object) -> int:
    """syscall(2) by number. Integers go as longs; pointers as ctypes objects."""
    if number < 0 or not LINUX:
        raise OSError(errno.ENOSYS, f"system call unknown on {sys.platform} {MACHINE}")
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return checked(libc.syscall(ctypes.c_long(number), *wide), f"system call {number}")


def prepared(number: int, *arguments: object) -> Callable[[], int]:
    """A system call whose arguments are converted now. In a fresh child of a warm process every object that
    is touched costs a page fault, so there only the call itself should remain."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return functools.partial(libc.syscall, ctypes.c_long(number), *wide)


def run_prepared(calls: list[Callable[[], int]]) -> None:
    for call in calls:
        if call() < 0:
            checked(-1, f"system call {call.args[0].value}")


def unshare(flags: int) -> None:
    checked(libc.unshare(flags), f"unshare {flags:#x}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encode = lambda text: None if text is None else os.fsencode(text)  # noqa: E731
    result = libc.mount(encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), encode(options))
    checked(result, f"mount {target}")


def unmount(target: str, flags: int) -> None:
    checked(libc.umount2(os.fsencode(target), flags), f"umount {target}")


def fork() -> int:
    """fork(2), and nothing else. For a process with one thread, whose child needs none of Python's at-fork
    handlers.

    Those renew locks that nobody holds; the pages they write are a third of what a short-lived child costs.
    The child must seed `random` itself.
    """
    if not LINUX:
        return os.fork()
    return checked(locked_libc.fork(), "fork")


def socket_pair() -> tuple[int, int]:
    """Descriptors of two connected stream sockets, without the objects that `socket.socketpair` makes."""
    pair = (ctypes.c_int * 2)()
    checked(libc.socketpair(socket.AF_UNIX, socket.SOCK_STREAM, 0, pair), "socketpair")
    return pair[0], pair[1]


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent dies. Does nothing where the kernel has no such thing."""
    if LINUX:
        prctl(PR_SET_PDEATHSIG, 9)


def hide_memory() -> None:
    """No core dumps, no ptrace, no /proc/PID/mem for others with our user id."""
    if LINUX:
        prctl(PR_SET_DUMPABLE, 0)
