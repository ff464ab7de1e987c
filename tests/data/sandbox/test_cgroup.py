"""Control groups, on folders that look like them: no test machine can be counted on to delegate real ones."""

import os

import pytest

from data.sandbox import cgroup


@pytest.fixture
def group(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "own_group", lambda: str(tmp_path))
    return tmp_path


def test_a_delegated_group_gets_a_limited_child(group):
    (group / "cgroup.subtree_control").write_text("cpu memory pids\n")
    assert cgroup.enter(1024, 64) == ""
    child = group / f"sandbox-{os.getpid()}"
    assert (child / "memory.max").read_text() == str(2 << 30)
    assert (child / "pids.max").read_text() == "72"
    assert (child / "cgroup.procs").read_text() == str(os.getpid())


def test_what_is_not_delegated_is_named(group):
    (group / "cgroup.subtree_control").write_text("cpu memory\n")
    with pytest.raises(OSError, match="pids not delegated"):
        cgroup.enter(1024, 64)
    assert not [name for name in os.listdir(group) if name.startswith("sandbox-")]


def test_the_group_of_an_ended_worker_is_removed(group):
    (group / "sandbox-7").mkdir()
    cgroup.leave(7)
    cgroup.leave(8)
    assert os.listdir(group) == []
