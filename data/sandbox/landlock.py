"""Landlock: the program's process may open only the folders it is given. Linux 5.13 and later, no privilege
needed.

Masks by ABI version, from <linux/landlock.h>: what an older kernel does not know must not be asked for.
"""

import contextlib
import ctypes
import os
import stat
from collections.abc import Callable

from data.sandbox import kernel

CREATE_VERSION = 1
RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
MAKE_CHAR, MAKE_SOCK, MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
BIND_TCP, CONNECT_TCP = 1, 2
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2
LOG_OFF = 1  # ABI 7: denials of a program under test are no news for the audit log


class RulesetAttributes(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def version() -> int:
    """The ABI version; OSError where the kernel has no Landlock or it is switched off."""
    return kernel.syscall(kernel.SYS_LANDLOCK_CREATE_RULESET, 0, 0, CREATE_VERSION)


def file_rights(abi: int) -> int:
    rights = (1 << 13) - 1
    for since, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)):
        rights |= right if abi >= since else 0
    return rights


class Ruleset:
    """Read the folders and devices in `readable`, everything but special files and execution below
    `writable`."""

    def __init__(self, readable: list[str], writable: str) -> None:
        self.abi = version()
        rights = file_rights(self.abi)
        attributes = RulesetAttributes(
            rights,
            BIND_TCP | CONNECT_TCP if self.abi >= 4 else 0,
            SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if self.abi >= 6 else 0,
        )
        size = 8 if self.abi < 4 else 16 if self.abi < 6 else 24
        self.fd = kernel.syscall(kernel.SYS_LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), size, 0)
        for path in readable:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                self.allow(path, READ_FILE | READ_DIR)
        with contextlib.suppress(FileNotFoundError, PermissionError):
            self.allow("/dev/null", READ_FILE | WRITE_FILE)
        self.allow(writable, rights & ~(EXECUTE | MAKE_CHAR | MAKE_SOCK | MAKE_BLOCK | IOCTL_DEV))

    def allow(self, path: str, rights: int) -> None:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(parent).st_mode):
                rights &= WRITE_FILE | READ_FILE
            rule = PathRule(rights, parent)
            kernel.syscall(kernel.SYS_LANDLOCK_ADD_RULE, self.fd, RULE_PATH_BENEATH, ctypes.byref(rule), 0)
        finally:
            os.close(parent)

    def restrict_prepared(self) -> Callable[[], int]:
        """The call that binds a process, for good. Needs no privilege after PR_SET_NO_NEW_PRIVS."""
        return kernel.prepared(kernel.SYS_LANDLOCK_RESTRICT_SELF, self.fd, LOG_OFF if self.abi >= 7 else 0)
