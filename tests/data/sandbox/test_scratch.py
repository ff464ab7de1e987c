"""Deleting what a hostile program left."""

import os

from data.sandbox.scratch import empty_folder, remove_tree


def test_deep_closed_and_odd_trees_go_and_links_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    start = os.getcwd()
    os.chdir(scratch)
    try:
        for name in ("a\nb", " ", "-rf", "x" * 255, ".moved-1-0"):
            os.mkdir(name)
            open(os.path.join(name, "file"), "w").close()
        os.symlink(outside, "link")
        os.symlink("nowhere", "dangling")
        os.mkfifo("pipe")
        for _ in range(3000):
            os.mkdir("d")
            os.chdir("d")
        os.chdir(scratch)
        os.makedirs("closed/inner")
        os.chmod("closed/inner", 0)
        os.chmod("closed", 0)
    finally:
        os.chdir(start)
    inode = scratch.stat().st_ino
    scratch.chmod(0)
    empty_folder(str(scratch))
    assert os.listdir(scratch) == []
    assert scratch.stat().st_ino == inode
    (scratch / "more").mkdir()
    assert remove_tree(str(scratch))
    assert not scratch.exists()
    assert (outside / "kept").read_text() == "kept"


def test_a_file_a_link_and_nothing_at_all(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert remove_tree(str(tmp_path / "link"))
    assert (tmp_path / "file").exists()
    assert remove_tree(str(tmp_path / "file"))
    assert remove_tree(str(tmp_path / "never-was"))
