"""model/memory.py: what is freed is used again."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from model.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if "keep" in sys.argv:
    assert keep_freed_memory()
torch.ones(2**26)
counts = []
for _ in range(4):
    before = faults()
    torch.ones(2**26)  # 256 MiB
    counts.append(faults() - before)
print(min(counts))  # a kernel short of memory takes pages back at times
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is asked")
def test_large_tensors_take_the_memory_of_freed_ones():
    def faults(*arguments: str) -> int:
        command = [sys.executable, "-c", SCRIPT, *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    kept, mapped_anew = faults("keep"), faults()
    assert kept < 25
    assert mapped_anew > 4 * kept
