"""What surrounds one program: prepared once per worker, entered by each program's process before its first line."""

import os

from data.sandbox import kernel, limits


class Isolation:
    """The layers this worker has. `active` maps a layer to a note; `missing` maps one to the reason."""

    def __init__(self, scratch: str) -> None:
        self.scratch = scratch
        self.active: dict[str, str] = {"split": "", "rlimits": ""}
        self.missing: dict[str, str] = {}
        self.own_pids = False  # the worker is the first process of a pid namespace
        self.processes: int | None = None

    def enter_judge(self) -> None:
        kernel.die_with_parent()
        kernel.hide_memory()

    def enter_program(self, channel: int, output: int, job: dict) -> int:
        """Give up everything; returns the descriptor of the channel to the judge."""
        kernel.die_with_parent()
        os.setsid()
        channel = limits.keep_only(channel, output)
        os.chdir(self.scratch)
        limits.limit_program(job["seconds"], job["memory_mb"], job["output_mb"], job["files"], self.processes)
        return channel
