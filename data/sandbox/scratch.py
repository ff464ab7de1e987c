"""Delete a folder a hostile program has filled: any depth, any modes, links never followed."""

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator


def remove_tree(path: str) -> bool:
    """Delete `path` and everything below, as far as permitted; True when it is gone."""
    with contextlib.suppress(OSError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
        else:
            empty_folder(path)
            os.rmdir(path)
    return not os.path.lexists(path)


def empty_folder(path: str) -> None:
    """Delete everything below `path`. OSError when something cannot be deleted.

    No recursion and no long paths: what lies deeper than a path name may be is moved up first.
    """
    unlock(path)
    moved = itertools.count()
    while folders := remove_files(path):
        for name in folders:
            raise_children(path, name, moved)


def restore_folder(path: str) -> None:
    """Make `path` an empty folder again, whatever a program that could reach it did to it."""
    if os.path.islink(path) or not os.path.isdir(path):
        remove_tree(path)
        os.mkdir(path, 0o700)
    empty_folder(path)


def unlock(path: str) -> None:
    """Give the owner all rights on a folder (the caller has seen that it is no link)."""
    if os.lstat(path).st_mode & 0o700 != 0o700:
        os.chmod(path, 0o700)


def remove_files(path: str) -> list[str]:
    """Delete what is no folder directly in `path`; the names of the folders that remain."""
    folders = []
    with os.scandir(path) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in names:
        full = os.path.join(path, name)
        if not is_folder:
            os.unlink(full)
        else:
            unlock(full)
            try:
                os.rmdir(full)
            except OSError:
                folders.append(name)
    return folders


def raise_children(path: str, name: str, moved: Iterator[int]) -> None:
    """Delete the files of a folder, move its folders up beside it under new names, delete it."""
    full = os.path.join(path, name)
    for child in remove_files(full):
        target = os.path.join(path, f".moved-{os.getpid()}-{next(moved)}")
        while os.path.lexists(target):
            target += "-"
        os.rename(os.path.join(full, child), target)
    os.rmdir(full)
