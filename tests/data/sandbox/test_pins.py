"""A pinned page is a child's own from the fork on; any other once it is written."""

import json
import subprocess
import sys

import pytest

from data.execution import execute
from data.sandbox import kernel

pytestmark = pytest.mark.skipif(not kernel.LINUX, reason="only Linux says whose a page is")

SCRIPT = """
import json, mmap, os, sys
import ctypes
sys.path.insert(0, {root!r})
from data.sandbox import pages, pins

room = mmap.mmap(-1, 2 * pages.LARGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
room[:] = b"x" * len(room)
{prepare}
first = ctypes.addressof(ctypes.c_char.from_buffer(room)) + pages.LARGE // 2
places = [first + index * pins.PAGE for index in range(3)]  # pinned, written by the child, left alone
pinned = pins.pin({{places[0]}})
snapshot = pins.Snapshot()
pid = os.fork()
if pid == 0:
    room[pages.LARGE // 2 + pins.PAGE] = 121
    snapshot.take("self")
    own = snapshot.pages()
    print(json.dumps([pinned, [place in own for place in places], chr(room[pages.LARGE // 2])]), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("prepare", ["pass", "pages.enlarge_memory()"], ids=["small", "large"])
def test_pinned_pages_and_written_ones_are_the_childs_own(prepare, pytestconfig):
    text = SCRIPT.format(root=str(pytestconfig.rootpath), prepare=prepare)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.stdout, done.stderr
    pinned, own, content = json.loads(done.stdout)
    assert own == [pinned, True, False]
    assert content == "x"


def test_a_program_has_neither_the_ring_nor_a_right_to_pin():
    program = {
        "prompt": "",
        "completion": """
import os, resource

def found():
    numbers = []
    for number in range(1024):
        try:
            os.fstat(number)
        except OSError:
            continue
        numbers.append(number)
    return numbers, resource.getrlimit(resource.RLIMIT_MEMLOCK)
""",
        "test": "numbers, limit = found()\nassert numbers[:3] == [0, 1, 2] and len(numbers) == 4, numbers\n"
        "assert limit == (0, 0), limit\n",
        "entry_point": "found",
    }
    result = execute(program)
    assert result.verdict == "passed", result
