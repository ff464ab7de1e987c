"""model/memory.py: what is freed is used again."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
import torch
from model.memory import keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

if "keep" in sys.argv:
    assert keep_freed_memory()
start = resident()
for _ in range(40):
    torch.ones(2**23)  # 32 MiB, freed at once
    print(resident() - start)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is asked")
def test_large_tensors_take_the_memory_of_freed_ones():
    """What stays resident is counted: page faults also come from the kernel's own work.

    Depending on the heap's first address glibc cuts a scrap off each tensor's memory, to align it, and holds
    the scrap back (tcache): the next tensor then takes new memory. It holds seven of a size, so this ends.
    """

    def resident(*arguments: str) -> list[int]:
        command = [sys.executable, "-c", SCRIPT, *arguments]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [int(mebibytes) for mebibytes in output.split()]

    kept = resident("keep")
    assert min(kept) >= 32, "freed memory went back to the kernel"
    assert kept[-1] - kept[20] < 8, f"memory grows: {kept}"
    assert max(resident()) < 16, "memory is kept without being asked for: this test cannot fail"


LARGE = """
import sys
import torch
from model.memory import keep_freed_memory, reserve_large_pages

keep_freed_memory()
if "reserve" in sys.argv:
    reserve_large_pages(2**26)
place = [torch.ones(2**18) for _ in range(40)][20].data_ptr()  # 1 MiB each
inside = False
for line in open("/proc/self/smaps"):
    name, *rest = line.split()
    if name == "VmFlags:" and inside:
        print("hg" in rest)  # MADV_HUGEPAGE was said of this piece of memory
    elif not name.endswith(":"):
        start, end = (int(address, 16) for address in name.split("-"))
        inside = start <= place < end
"""


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the kernel has no large pages"
)
def test_small_tensors_lie_where_large_pages_were_asked_for():
    def asked_for(*arguments: str) -> str:
        command = [sys.executable, "-c", LARGE, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert asked_for() == "False"
    assert asked_for("reserve") == "True"
