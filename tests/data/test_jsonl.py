"""A file is written by one program at a time, whole lines survive, and what is wrong with a file is named."""

import errno
import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data import jsonl
from data.jsonl import JsonlAppender, only_writer, read_jsonl, write_jsonl

ROOT = Path(__file__).parents[2]
ASK = "import sys; from data.jsonl import only_writer; only_writer(sys.argv[1]); print('mine', flush=True); "


def other_program(path, then=""):
    return subprocess.Popen(
        [sys.executable, "-c", ASK + then, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_is_written_whole_is_on_the_disk_before_it_has_its_name(tmp_path, flushed_before):
    path = tmp_path / "a.jsonl"
    flushed = flushed_before(path)
    write_jsonl(path, [{"id": 1}, {"id": 2}])
    assert flushed == [path.stat().st_size]


@pytest.mark.parametrize("name", ["pairs.jsonl", "dpo"])
def test_a_path_has_one_writer(tmp_path, name):
    path = tmp_path / "out" / name  # which is not there yet
    other = other_program(path, "sys.stdin.read()")
    assert other.stdout.readline() == "mine\n"
    says = rf"{name} is being written by another program \(process {other.pid} on .*run.name"
    with pytest.raises(ValueError, match=says):
        only_writer(path)
    with pytest.raises(ValueError, match=says):
        JsonlAppender(path)
    only_writer(path.with_name("another")).close()
    other.send_signal(signal.SIGKILL)
    other.communicate()
    with only_writer(path):  # what the killed one left does not hinder
        out, error = other_program(path).communicate()
        assert not out
        assert f"process {os.getpid()} on" in error
        only_writer(path).close()  # this process has it already, and goes on having it
        assert "is being written" in other_program(path).communicate()[1]
    assert other_program(path).communicate()[0] == "mine\n"


def test_children_do_not_keep_what_their_parent_held(tmp_path):
    """A fork that outlives the program that made it, and one that ends before."""
    then = "import os, time\nif os.fork():\n  os._exit(0)\nos.close(1); os.close(2); time.sleep(60)"
    other = other_program(tmp_path / "dpo", then.replace("os.close(1)", "print(os.getpid(), flush=True)"))
    assert other.stdout.readline() == "mine\n"
    child = int(other.stdout.readline())
    other.wait()
    try:
        with only_writer(tmp_path / "dpo") as held:
            if not (pid := os.fork()):
                held.close()
                os._exit(0)
            os.waitpid(pid, 0)
            assert "is being written" in other_program(tmp_path / "dpo").communicate()[1]
    finally:
        os.kill(child, signal.SIGKILL)
        other.communicate()
    assert not any(tmp_path.iterdir())


def test_a_lock_file_deleted_meanwhile_is_none(tmp_path, monkeypatch):
    """Opened here while its owner lets go: what is locked then is a file that nobody else will find."""
    lock, true = jsonl.fcntl.lockf, tmp_path / ".dpo.lock"

    def late(file, how):
        if not hasattr(late, "once"):
            late.once = true.unlink()
        lock(file, how)

    monkeypatch.setattr(jsonl.fcntl, "lockf", late)
    with only_writer(tmp_path / "dpo"):
        assert "is being written" in other_program(tmp_path / "dpo").communicate()[1]


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(jsonl.fcntl, "lockf", refuse)
    with JsonlAppender(tmp_path / "a.jsonl") as out:
        out.write({"id": 1})
        out.finish()
    assert read_jsonl(tmp_path / "a.jsonl") == [{"id": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_what_lies_in_a_folder_that_may_not_be_written_can_be_found(tmp_path, monkeypatch, number):
    def refuse(path, *how):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(jsonl.os, "open", refuse)
    with only_writer(tmp_path / "dpo"):
        assert not any(tmp_path.iterdir())


def test_a_system_without_locks_writes_all_the_same(tmp_path):
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from data.jsonl import JsonlAppender; from data.sandbox.cache import VerdictCache\n"
        "from data.types import ExecutionResult, Verdict\n"
        "with JsonlAppender('a.jsonl') as out:\n    out.write({'id': 1})\n    out.finish()\n"
        "VerdictCache('b.jsonl').put('b', ExecutionResult(verdict=Verdict.TIMEOUT))\n"
        "assert VerdictCache('b.jsonl').get('b')\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


def test_rows_that_two_programs_wrote_count_once(tmp_path, capsys):
    rows = [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}, {"id": 1, "text": "a"}]
    partial = tmp_path / "a.jsonl.partial"
    write_jsonl(partial, [*rows, {"id": 2, "text": "c"}])
    with JsonlAppender(tmp_path / "a.jsonl") as out:
        assert out.done == [rows[0], rows[1], {"id": 2, "text": "c"}]
    assert "dropped    1 rows of" in capsys.readouterr().out
    with JsonlAppender(tmp_path / "a.jsonl", key=("id",)) as out:
        assert out.done == [rows[0], {"id": 2, "text": "c"}]
        out.write({"id": 3})
    assert read_jsonl(partial) == [rows[0], {"id": 2, "text": "c"}, {"id": 3}]


def test_a_damaged_line_is_named_with_the_remedy(tmp_path):
    (tmp_path / "a.jsonl.partial").write_text('{"id": 1}\n{"id": {"id": 2}\n{"id": 3}\n')
    with pytest.raises(
        ValueError, match=r"a.jsonl.partial, line 2: not JSON .*; delete that line, or the file"
    ):
        JsonlAppender(tmp_path / "a.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl.partial"]


def test_gzip_is_known_by_its_content(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(b'{"id": 1}\n'))
    assert read_jsonl(tmp_path / "a.jsonl") == [{"id": 1}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"id": 1}, {"id": 2}]', r"line 1: list found, a JSON object expected.*: jq -c '.\[\]' .*a.jsonl"),
        ('[\n {"id": 1}\n]', r"line 1: not JSON .*all of the file is one value: jq -c '.\[\]' .*a.jsonl"),
        ('{\n "id": 1\n}', r"line 1: not JSON .*all of the file is one value: jq -c '.' .*a.jsonl"),
        ('{"id": 1', r"line 1: not JSON .*; one object per line expected$"),
    ],
)
def test_json_in_another_layout_is_named_with_the_remedy(tmp_path, text, message):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_jsonl(tmp_path / "a.jsonl")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder; a file with one JSON object per line expected"):
        read_jsonl(tmp_path)
