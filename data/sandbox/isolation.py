"""What surrounds one program: prepared once per worker, entered by each program's process before its first
line.

A layer is active only when a real attempt has shown it (probe.py); otherwise `missing` says why.
"""

import errno
import os

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
        self.own_pids = False  # the worker is the first process of a pid namespace
        self.own_root = False  # it has a read-only root and a sized scratch folder
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
        """In the watchdog, before it forks the worker: new namespaces, a control group."""
        self.attempt("cgroup", lambda: cgroup.enter(self.options["memory_mb"], self.options["processes"]))
        self.attempt("namespaces", self.enter_namespaces)

    def enter_namespaces(self) -> str:
        entered, failed = namespaces.enter()
        self.own_pids = "pid" in entered
        self.entered = entered
        if "user" in entered:
            self.processes = self.options["processes"] + MINE
        if failed:
            self.missing["namespaces"] = ", ".join(f"{name}: {why}" for name, why in failed.items())
        if not entered:
            raise OSError(errno.EPERM, "none can be entered")
        return ",".join(entered)

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
        self.filter = seccomp.Filter(self.own_root)
        return ""

    def check(self) -> None:
        """Try what each layer should prevent, in a process isolated like a program's."""
        for layer, reason in probe(self).items():
            if reason is None:
                self.active.setdefault(layer, "")
            else:
                self.active.pop(layer, None)
                self.missing[layer] = reason

    def enter_judge(self) -> None:
        """The judge needs no power over anything but its own child."""
        kernel.die_with_parent()
        if "capabilities" in self.active:
            capabilities.drop_all()
        kernel.hide_memory()

    def enter_program(self, channel: int, output: int, job: dict) -> int:
        """Give up everything; returns the descriptor of the channel to the judge."""
        kernel.die_with_parent()
        os.setsid()
        os.umask(0o077)
        if self.ruleset is not None:  # before its descriptor is closed with all others
            self.ruleset.restrict()
        channel = limits.keep_only(channel, output)
        os.chdir(self.scratch)
        os.environ["HOME"] = os.environ["TMPDIR"] = "/tmp" if self.own_root else self.scratch
        limits.limit_program(job["seconds"], job["memory_mb"], job["output_mb"], job["files"], self.processes)
        if self.filter is not None:
            self.filter.load()
        return channel
