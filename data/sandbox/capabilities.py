"""Give up root's powers: empty capability sets, an empty bounding set, and no way to gain them by exec."""

import contextlib
import ctypes
from collections.abc import Callable

from data.sandbox import kernel

VERSION_3 = 0x20080522
LAST_CAPABILITY = 63  # the kernel refuses numbers it does not know


class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def no_new_privileges() -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def empty_bounding_set() -> None:
    """Once per worker. Without CAP_SETPCAP there is nothing to empty: NO_NEW_PRIVS already bars the way."""
    with contextlib.suppress(OSError):
        for number in range(LAST_CAPABILITY + 1):
            kernel.prctl(kernel.PR_CAPBSET_DROP, number)
    with contextlib.suppress(OSError):
        kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)


def drop_all_prepared() -> Callable[[], int]:
    """The call that sets the effective, permitted and inheritable sets to nothing."""
    none = (ctypes.c_uint32 * 6)()
    return kernel.prepared(kernel.SYS_CAPSET, ctypes.byref(Header(VERSION_3, 0)), ctypes.byref(none))


def drop_all() -> None:
    kernel.run_prepared([drop_all_prepared()])


def held() -> list[int]:
    """The three sets of this process, as two words each; all zero when everything is dropped."""
    sets = (ctypes.c_uint32 * 6)()
    kernel.syscall(kernel.SYS_CAPGET, ctypes.byref(Header(VERSION_3, 0)), ctypes.byref(sets))
    return list(sets)
