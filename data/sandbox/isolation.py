"""What surrounds one program: prepared once per worker, entered by each program's process before its first
line.

A layer is active only when a real attempt has shown it (probe.py); otherwise `missing` says why.
"""

import errno
import os
import signal
from collections.abc import Callable

from data.sandbox import capabilities, cgroup, kernel, limits, namespaces, seccomp
from data.sandbox.landlock import Ruleset
from data.sandbox.probe import probe

MINE = 4  # processes of ours that the kernel counts together with a program's


class Isolation:
    """The layers of one worker. `active` maps a layer to a note, `missing` maps one to the reason."""

    def __init__(self, folder: str, options: dict) -> None:
        self.folder, self.options = folder, options
        self.scratch = os.path.join(folder, "scratch")
        self.active: dict[str, str] = {"split": ""}
        self.missing: dict[str, str] = {}
        self.own_pids = False  # the nursery is the first process of a pid namespace
        self.own_root = False  # it has a read-only root and a sized scratch folder
        self.entered: list[str] = []  # namespaces
        self.refused: dict[str, str] = {}
        self.processes: int | None = None
        self.ruleset: Ruleset | None = None
        self.filter: seccomp.Filter | None = None

    def wants(self, layer: str) -> bool:
        if layer in self.options["layers"]:
            if kernel.LINUX:
                return True
            self.missing[layer] = "Linux only"
        else:
            self.missing[layer] = "not asked for"
        return False

    def attempt(self, layer: str, prepare: object) -> None:
        """Run `prepare() -> note`; an OSError makes the layer missing."""
        if self.wants(layer):
            try:
                self.active[layer] = prepare()
            except OSError as error:
                name = errno.errorcode.get(error.errno, "OSError")
                self.missing[layer] = f"{name}, {error.strerror or error}"

    def leave_host(self) -> None:
        """In the watchdog, before it forks: a control group, all namespaces but that of processes."""
        self.attempt("cgroup", lambda: cgroup.enter(self.options["memory_mb"], self.options["processes"]))
        if self.wants("namespaces"):
            self.entered, self.refused = namespaces.enter()
            if "user" in self.entered:
                self.processes = self.options["processes"] + MINE

    def leave_processes(self) -> None:
        """In the watchdog, after it has forked the judge: the next child is the first of a pid namespace."""
        if "namespaces" in self.missing:
            return
        try:
            kernel.unshare(namespaces.NEW_PROCESSES)
            self.own_pids = True
            self.entered.append("pid")
        except OSError as error:
            self.refused["pid"] = error.strerror
        if self.entered:
            self.active["namespaces"] = ",".join(self.entered)
        if self.refused:
            reasons = ", ".join(f"{name}: {why}" for name, why in self.refused.items())
            self.missing["namespaces"] = reasons

    def prepare(self) -> None:
        """In the worker: everything a program's process then needs only to switch on."""
        readable = namespaces.readable_paths(self.options["root"])
        if "mnt" in self.active.get("namespaces", "").split(","):
            self.attempt("tmpfs", lambda: self.change_root(readable))
        else:
            self.missing["tmpfs"] = "needs a mount namespace"
        if not self.own_root:
            os.mkdir(self.scratch, 0o700)
        writable = os.path.dirname(namespaces.SCRATCH) if self.own_root else self.scratch
        if kernel.LINUX:  # not optional: with root's powers a program could read the judge's memory
            capabilities.no_new_privileges()
            capabilities.empty_bounding_set()
            self.active["capabilities"] = ""
        self.attempt("landlock", lambda: self.make_ruleset(readable, writable))
        self.attempt("seccomp", self.make_filter)
        if self.filter is None and self.processes is None:
            self.processes = limits.own_processes() + self.options["processes"]

    def change_root(self, readable: list[str]) -> str:
        namespaces.build_root(self.folder, readable, self.options["scratch_mb"])
        self.own_root, self.scratch = True, namespaces.SCRATCH
        return ""

    def make_ruleset(self, readable: list[str], writable: str) -> str:
        self.ruleset = Ruleset(readable, writable)
        return f"abi{self.ruleset.abi}"

    def make_filter(self) -> str:
        own = seccomp.Filter(seccomp.own_rules(self.own_root))
        seccomp.Filter(seccomp.common_rules()).load()
        self.filter = own
        return ""

    def check(self) -> None:
        """Try what each layer should prevent, in a process isolated like a program's."""
        for layer, reason in probe(self).items():
            if reason is None:
                self.active.setdefault(layer, "")
            else:
                self.active.pop(layer, None)
                self.missing[layer] = reason

    def report(self) -> dict:
        """What the judge and the host must know."""
        return {
            "active": self.active,
            "missing": self.missing,
            "own_pids": self.own_pids,
            "own_root": self.own_root,
            "processes": self.processes,
        }

    def enter_judge(self) -> None:
        """The judge needs no power over anything."""
        if kernel.LINUX:
            capabilities.no_new_privileges()
            capabilities.drop_all()
        kernel.hide_memory()
        limits.grow_stack()  # deep values are decoded and compared recursively

    def settle(self, output: int) -> None:
        """In the nursery, once: what all programs' processes inherit, and the calls each has to make."""
        limits.connect_streams(output)
        limits.limit_nursery()
        os.umask(0o077)
        os.chdir(self.scratch)
        own_tmp = self.own_root and os.path.islink("/tmp")
        os.environ["HOME"] = os.environ["TMPDIR"] = "/tmp" if own_tmp else self.scratch
        os.environ["USER"] = os.environ["LOGNAME"] = "sandbox"  # there is no /etc/passwd to ask
        os.environ.pop("LD_BIND_NOW", None)
        self.channel = limits.channel_number()
        self.entry_calls = self.prepare_entry() if kernel.LINUX else []
        self.close_others = kernel.LINUX and self.has_close_range()

    def prepare_entry(self) -> list[Callable[[], int]]:
        calls = []
        if not self.own_pids:  # else the kernel ends it with the nursery
            calls.append(kernel.prepared(kernel.SYS_PRCTL, kernel.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        calls += [kernel.prepared(kernel.SYS_SETSID), capabilities.drop_all_prepared()]
        if self.ruleset is not None:  # before its descriptor is closed with all others
            calls.append(self.ruleset.restrict_prepared())
        return calls

    def has_close_range(self) -> bool:
        """Whether the kernel closes descriptors by the range (Linux 5.9): then add that to the calls."""
        try:
            kernel.syscall(kernel.SYS_CLOSE_RANGE, (1 << 31) - 1, (1 << 31) - 1, 0)
        except OSError:
            return False
        self.closing_calls = limits.close_others_prepared(self.channel)
        return True

    def enter_program(self) -> None:
        """Give up everything but the descriptor `channel`, which the nursery has opened, and the streams."""
        kernel.run_prepared(self.entry_calls)
        if self.close_others:
            kernel.run_prepared(self.closing_calls)
        else:
            limits.close_others(self.channel)
        if not kernel.LINUX:
            os.setsid()
        if self.filter is not None:
            self.filter.load()
