"""Control groups, version 2: a total of memory and processes per worker, where a delegated subtree is
writable."""

import contextlib
import errno
import os

MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def enter(memory_mb: int, processes: int) -> str:
    """Move this process into a new group below its own, with limits. OSError says what is in the way."""
    group = own_group()
    controllers = read(os.path.join(group, "cgroup.subtree_control")).split()
    lacking = [name for name in ("memory", "pids") if name not in controllers]
    if lacking:
        raise OSError(errno.EOPNOTSUPP, f"{' and '.join(lacking)} not delegated to {group}")
    path = os.path.join(group, group_name(os.getpid()))
    os.mkdir(path)
    try:
        write(os.path.join(path, "memory.max"), str(2 * memory_mb << 20))
        with contextlib.suppress(OSError):
            write(os.path.join(path, "memory.swap.max"), "0")
        write(os.path.join(path, "pids.max"), str(processes + 8))
        write(os.path.join(path, "cgroup.procs"), str(os.getpid()))
    except OSError:
        os.rmdir(path)
        raise
    return ""


def leave(pid: int) -> None:
    """Remove the group of a worker that has ended."""
    with contextlib.suppress(OSError):
        os.rmdir(os.path.join(own_group(), group_name(pid)))


def group_name(pid: int) -> str:
    return f"sandbox-{pid}"


def own_group() -> str:
    """The folder of this process's own group in the version 2 hierarchy."""
    for line in read("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            for mount in MOUNTS:
                if os.path.exists(mount + "/cgroup.procs"):
                    return mount + line[3:].rstrip("/")
    raise OSError(errno.ENOENT, "no version 2 hierarchy")


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
