"""Kill and reap whatever a program left behind."""

import contextlib
import os
import signal
import time


def kill_all(own_namespace: bool, patience: float = 5.0) -> bool:
    """Kill every descendant and wait for each; False when some survived `patience` seconds.

    As the first process of a pid namespace one call reaches everything. Elsewhere the caller is a subreaper:
    orphans become its children, and are killed round by round until none is left.
    """
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
        except ChildProcessError:
            return True
        if own_namespace:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        if not own_namespace:
            for child in children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
        time.sleep(0.0005)
    return False


def has_ended(pid: int) -> bool:
    """Whether a child has ended; it stays to be waited for. Unknown, so False, where there is no waitid
    (macOS)."""
    if not hasattr(os, "waitid"):
        return False
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def children() -> list[int]:
    """Children of this process, by the kernel's list or by looking at every process."""
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        pass
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                    text = file.read()
                    if int(text[text.rindex(b")") + 2 :].split()[1]) == me:
                        found.append(int(name))
    return found
