"""Imported by the zygote before all else of ours: what programs use, and what our own modules import.

Our modules then lie side by side in memory, and a program's process, which runs little else, has fewer pages
to copy.
Each shared library is five more mappings that every fork copies: `tempfile`, which brings six, stays out.
"""

import importlib

NAMES = (
    "typing math re collections itertools functools heapq bisect string random datetime copy json hashlib "
    "operator fractions decimal statistics io unittest threading dataclasses enum abc contextlib inspect "
    "traceback array ast builtins ctypes errno gc marshal os platform resource select signal socket stat "
    "struct sysconfig time types"
)

for name in NAMES.split():
    importlib.import_module(name)
