"""Large pages change where memory lies, and nothing that is in it."""

import json
import subprocess
import sys

import pytest

from data.sandbox import kernel, pages

pytestmark = pytest.mark.skipif(not kernel.LINUX, reason="only Linux says how memory is mapped")

SCRIPT = """
import ctypes, json, sys
sys.path.insert(0, {root!r})
from data.sandbox import pages

def read(spans):
    return [ctypes.string_at(start, end - start) for start, end in spans]

{prepare}
spans = pages.code_spans()
before = read(spans)
pages.{change}()
print(json.dumps([before == read(spans), spans, pages.mappings()]))
"""


def changed(change: str, root: str, prepare: str = "") -> tuple[bool, list, list]:
    text = SCRIPT.format(root=root, change=change, prepare=prepare)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout))


def test_code_reads_the_same_on_large_pages_and_cannot_be_written(pytestconfig):
    same, spans, after = changed("enlarge_code", str(pytestconfig.rootpath))
    assert same
    moved = [page for start, end in spans for page in pages.large_pages_in(start, end)]
    for page in moved:
        ((_, end, rights, _, name),) = [one for one in after if one[0] <= page < one[1]]
        assert (rights, name) == ("r-xp", "")
        assert end >= page + pages.LARGE


def test_where_the_system_forbids_new_code_the_old_stays(pytestconfig):
    deny_write_then_execute = "ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)"  # PR_SET_MDWE, since Linux 6.3
    script = SCRIPT.format(root=str(pytestconfig.rootpath), change="enlarge_code", prepare="")
    script = script.replace("pages.enlarge", f"denied = {deny_write_then_execute} == 0\npages.enlarge")
    script = script.replace("[before ==", "[denied, before ==")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    denied, same, _, after = json.loads(done.stdout)
    if not denied:
        pytest.skip("this kernel cannot forbid it")
    assert same
    assert not [one for one in after if one[2] == "r-xp" and not one[4]]


def test_code_stays_where_it_is_without_large_pages(pytestconfig):
    same, spans, after = changed("enlarge_code", str(pytestconfig.rootpath), "pages.MADV_COLLAPSE = -1")
    assert same
    kept = [one for one in after if one[2] == "r-xp" and one[4].startswith("/")]
    assert all(any(start <= one[0] < end for one in kept) for start, end in spans)


def test_code_and_constants_are_fewer_mappings_after_the_merge(pytestconfig):
    same, spans, after = changed("merge_code", str(pytestconfig.rootpath))
    assert same
    inside = [[one for one in after if start <= one[0] < end] for start, end in spans]
    assert all(one[2] == "r-xp" for group in inside for one in group)
    assert sum(len(group) == 1 for group in inside) > len(spans) / 2


def test_only_whole_large_pages_count():
    large = pages.LARGE
    assert [*pages.large_pages_in(1, 3 * large + 5)] == [large, 2 * large]
    assert [*pages.large_pages_in(large, 2 * large)] == [large]
    assert not [*pages.large_pages_in(large + 1, 3 * large - 1)]
