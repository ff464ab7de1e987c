"""Imported by the zygote before all else of ours: what programs use, and what our own modules import.

Our modules then lie side by side in memory, and a program's process, which runs little else, has fewer pages
to copy. Compiling them here would leave holes between them, so a child does that, and this process reads the
bytecode.
A module that few programs import stays out, for every fork copies its pages and mappings: `unittest`,
`hashlib`, `statistics` and `platform` would be 6 % of the time of a small program; one that imports them
spends 3 to 8 ms on it.
"""

import importlib
import os
import sys

NAMES = (
    "typing math re collections itertools functools heapq bisect string random datetime copy json "
    "operator fractions decimal io threading dataclasses enum abc contextlib inspect "
    "traceback array ast builtins ctypes errno gc marshal os resource select signal socket stat "
    "struct sysconfig time types"
)

OURS = "data.sandbox.zygote"


def have_compiled(module: str, folder: str) -> None:
    """Bytecode of `module` and all that it imports in `folder`, from where this process then reads it."""
    sys.pycache_prefix = folder
    pid = os.fork()
    if pid == 0:
        sys.dont_write_bytecode = False
        status = 1
        try:
            importlib.import_module(module)
            status = 0
        finally:
            os._exit(status)
    os.waitpid(pid, 0)  # if it fails, the import here will say why


def main() -> None:
    for name in NAMES.split():
        importlib.import_module(name)
    have_compiled(OURS, os.path.join(os.environ["TMPDIR"], "bytecode"))
    importlib.import_module(OURS)
    sys.pycache_prefix = None
