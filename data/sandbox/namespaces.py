"""A worker's own view of the machine: no network, no other processes, a small read-only root, a sized
scratch folder.

Once per worker, nothing per program. As an ordinary user this needs user namespaces; root can do without.
The new root holds only Python's folders, the C libraries and four devices, so host files have no name there
even where Landlock is missing.
"""

import contextlib
import ctypes
import os
import sys
import sysconfig

from data.sandbox import kernel

NEW_USER, NEW_NETWORK, NEW_PROCESSES, NEW_IPC, NEW_MOUNTS = 1 << 28, 1 << 30, 1 << 29, 1 << 27, 1 << 17
KINDS = {"net": NEW_NETWORK, "ipc": NEW_IPC, "mnt": NEW_MOUNTS}
READ_ONLY, NO_SUID, NO_DEVICES, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
SCRATCH = "/scratch/tmp"
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def enter() -> tuple[list[str], dict[str, str]]:
    """Leave the host's namespaces. (what was left, {what was not: the reason}). New process ids begin with
    the next fork."""
    entered, failed = [], {}
    uid, gid = os.geteuid(), os.getegid()
    try:
        kernel.unshare(NEW_USER)
        map_ids(uid, gid)
        entered.append("user")
    except OSError as error:
        failed["user"] = error.strerror
    for name, flag in KINDS.items():
        try:
            kernel.unshare(flag)
            entered.append(name)
        except OSError as error:
            failed[name] = error.strerror
    if "user" in failed and len(entered) == len(KINDS):
        failed.clear()  # root without user namespaces has all that matters
    return entered, failed


def map_ids(uid: int, gid: int) -> None:
    """The same user inside as outside, and no other."""
    with contextlib.suppress(FileNotFoundError), open("/proc/self/setgroups", "w") as file:
        file.write("deny")
    for name, number in (("uid_map", uid), ("gid_map", gid)):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(f"{number} {number} 1")


def readable_paths(root: str) -> list[str]:
    """What a program must be able to read: the interpreter's folders, shared libraries, time zones.

    `root`, the project's own folder, is left out even when it is on the path.
    """
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = [sysconfig.get_path(name) for name in names]
    found += [path for path in sys.path if path]
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix):
        found += [os.path.join(prefix, "lib"), os.path.join(prefix, "lib64")]
    found += ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo"]
    found += ["/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types", "/etc/os-release", "/etc/services"]
    found += ["/dev/zero", "/dev/random", "/dev/urandom"]
    kept = []
    for path in found:
        if path and os.path.exists(path):
            real = os.path.realpath(path)
            if real in (os.path.realpath(root), "/", "/tmp"):
                continue
            kept += [path] if path == real else [path, real]
    return list(dict.fromkeys(kept))


def build_root(folder: str, readable: list[str], scratch_mb: int) -> None:
    """Make a new root file system on `folder` and enter it. The caller is in its own mount namespace."""
    kernel.mount("none", "/", None, RECURSIVE | PRIVATE)
    kernel.mount("tmpfs", folder, "tmpfs", NO_SUID | NO_DEVICES, "size=1m,mode=755")
    links: dict[str, str] = {}
    real_paths = sorted({os.path.realpath(path) for path in readable} | set(DEVICES))
    covered: list[str] = []
    for path in real_paths:
        if any(path.startswith(parent + "/") for parent in covered) or not os.path.exists(path):
            continue
        bind(path, folder + path)
        if os.path.isdir(path):
            covered.append(path)
    for path in readable:
        link_parents(path, folder, links)
    for name in ("/proc", "/scratch", SCRATCH, "/old"):
        os.makedirs(folder + name, exist_ok=True)
    if not os.path.lexists(folder + "/tmp"):  # there already when the interpreter is installed below it
        os.symlink(SCRATCH[1:], folder + "/tmp")
    with contextlib.suppress(OSError):  # refused in some containers; the judge then has no view of sleepers
        kernel.mount("proc", folder + "/proc", "proc", READ_ONLY | NO_SUID | NO_DEVICES)
    mount_scratch(folder + SCRATCH, scratch_mb)
    os.chdir(folder)
    kernel.syscall(kernel.SYS_PIVOT_ROOT, path_argument("."), path_argument("old"))
    os.chdir("/")
    kernel.unmount("/old", DETACH)
    os.rmdir("/old")
    kernel.mount("none", "/", None, REMOUNT | READ_ONLY | NO_SUID | NO_DEVICES)


def bind(path: str, target: str) -> None:
    """`path` at `target`, read-only with all that is mounted below."""
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    kernel.mount(path, target, None, BIND | RECURSIVE)
    device = path.startswith("/dev/")  # can be written to all the same, but its mode and times cannot
    set_attributes(target, NO_SUID | READ_ONLY | (0 if device else NO_DEVICES))


def set_attributes(target: str, attributes: int) -> None:
    """mount_setattr(2), Linux 5.12: the only way to make a bind mount read-only in one step, recursively."""
    set_clear = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    kernel.syscall(
        kernel.SYS_MOUNT_SETATTR, AT_FDCWD, path_argument(target), AT_RECURSIVE, ctypes.byref(set_clear), 32
    )


def path_argument(path: str) -> object:
    return ctypes.c_char_p(os.fsencode(path))


def link_parents(path: str, folder: str, links: dict[str, str]) -> None:
    """Repeat the symbolic links on the way to `path` (/lib -> usr/lib) in the new root."""
    at = ""
    for part in path.strip("/").split("/"):
        at += "/" + part
        if os.path.islink(at) and at not in links:
            links[at] = os.readlink(at)
            if not os.path.lexists(folder + at):
                os.makedirs(os.path.dirname(folder + at), exist_ok=True)
                os.symlink(links[at], folder + at)
            link_parents(os.path.normpath(os.path.join(os.path.dirname(at), links[at])), folder, links)


def mount_scratch(target: str, scratch_mb: int) -> None:
    options = f"size={scratch_mb}m,nr_inodes=16384,mode=700"
    kernel.mount("tmpfs", target, "tmpfs", NO_SUID | NO_DEVICES, options)


def renew_scratch(scratch_mb: int) -> None:
    """Forget everything a program left, however deep, many or protected its files are."""
    kernel.unmount(SCRATCH, DETACH)
    mount_scratch(SCRATCH, scratch_mb)
