"""Delete a folder a hostile program has filled: any depth, any modes, links never followed."""

import contextlib
import os
import stat


def remove_tree(path: str) -> bool:
    """Delete `path` and everything below, as far as permitted; True when it is gone.

    No recursion and no long paths: folders deeper than a path name may be are first moved up.
    """
    with contextlib.suppress(OSError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return True
        unlock(path)
        for _ in range(1_000_000):
            folders = remove_files(path)
            if not folders:
                os.rmdir(path)
                return True
            for number, name in enumerate(folders):
                raise_children(path, name, number)
    return not os.path.lexists(path)


def unlock(path: str) -> None:
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700, follow_symlinks=False) if os.chmod in os.supports_follow_symlinks else os.chmod(
            path, 0o700
        )


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


def raise_children(path: str, name: str, number: int) -> None:
    """Delete the files of a folder, move its folders up beside it, delete it."""
    full = os.path.join(path, name)
    for index, child in enumerate(remove_files(full)):
        os.rename(os.path.join(full, child), os.path.join(path, f".{number}.{index}.{len(name) % 7}.up"))
    os.rmdir(full)
