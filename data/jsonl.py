"""JSON lines in, JSON lines out: errors that name the line, writes that are whole or absent.

A finished file is written under a temporary name and renamed. A long job appends to `<name>.partial`
(`JsonlAppender`) and renames when it is done, so a file under its own name is complete and an
interrupted one can go on. One program at a time writes it (`only_writer`). `<name>.meta.json` beside a file
says what made it (`write_provenance`).
"""

import dataclasses
import errno
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import IO, BinaryIO, TypeVar

try:
    import fcntl
except ImportError:  # a system without such locks, as Windows
    fcntl = None

Record = TypeVar("Record")
SURROGATE = re.compile("[\ud800-\udfff]")
HELD: set[Path] = set()  # lock files of this process


def iterate_jsonl(path: Path | str) -> Iterator[tuple[int, dict]]:
    """Yield (line number, object) of a plain or gzipped file; blank lines are skipped."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; a file with one JSON object per line expected")
    with open(path, "rb") as raw:
        gzipped = path.suffix == ".gz" or raw.peek(2)[:2] == b"\x1f\x8b"
        stream = gzip.GzipFile(fileobj=raw) if gzipped else raw
        try:
            for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8-sig"), start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:  # also too many digits, too deeply nested
                    raise ValueError(
                        f"{path}, line {number}: not JSON ({error}); one object per line expected"
                        + {"[": with_jq(path, ".[]"), "{": with_jq(path, ".")}.get(line.strip(), "")
                    ) from None
                if not isinstance(row, dict):
                    raise ValueError(
                        f"{path}, line {number}: {type(row).__name__} found, a JSON object expected"
                        + with_jq(path, ".[]") * isinstance(row, list)
                    )
                yield number, row
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: cannot be read as {'gzipped ' * gzipped}UTF-8 text: {error}") from None


def with_jq(path: Path, what: str) -> str:
    """How to bring JSON of another layout into lines."""
    return f", and all of the file is one value: jq -c '{what}' {path} > lines.jsonl"


def read_jsonl(path: Path | str) -> list[dict]:
    """All objects of a file; an empty file is an error."""
    rows = [row for _, row in iterate_jsonl(path)]
    if not rows:
        raise ValueError(f"{path} holds no rows; one JSON object per line expected")
    return rows


def as_record(cls: type[Record], row: dict, where: str) -> Record:
    """dict -> dataclass. Unknown keys are left out; a missing required key is named together with `where`.

    Where a field has a default, null counts as absent.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    required = {
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    missing = sorted(required - row.keys())
    if missing:
        raise ValueError(
            f"{where}: no {', '.join(missing)}; found the keys {', '.join(sorted(row)) or '(none)'}"
        )
    given = {name: value for name, value in row.items() if name in fields}
    return cls(**{name: value for name, value in given.items() if value is not None or name in required})


def to_line(row: object) -> str:
    """A dataclass or dict as one JSON line. Half a surrogate pair is escaped: UTF-8 cannot hold it."""
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        row = dataclasses.asdict(row)
    line = json.dumps(row, ensure_ascii=False) + "\n"
    return line if line.isascii() or not SURROGATE.search(line) else json.dumps(row) + "\n"


def write_text(path: Path | str, text: str) -> None:
    """Write a whole file or nothing: temporary name, flush to disk, rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_jsonl(path: Path | str, rows: Iterable[object]) -> None:
    """Write all rows or nothing."""
    write_text(path, "".join(map(to_line, rows)))


def write_json(path: Path | str, value: object) -> None:
    """Write one indented JSON document or nothing."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def only_writer(path: Path | str) -> ExitStack:
    """Keep other programs from writing `path`, a file or folder that may be there or not yet; ValueError when
    one does already.

    Holds until the end of a `with`, `close()` or the end of the process, however it ends; what the process
    itself asks for again, it has. The lock is on `.<name>.lock` beside the path, which is deleted after use;
    one that a killed program left is free. A record lock: child processes do not inherit it. Where a system
    or file system has none, and in a folder that nobody here may write, this does nothing.
    """
    path, held = Path(path), ExitStack()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.parent.resolve() / f".{path.name}.lock"
    if lock in HELD or fcntl is None:
        return held
    for _ in range(9):
        try:
            file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EROFS):  # what is finished there can still be found
                return held
            raise
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            process = os.read(file, 99).decode(errors="replace")
            os.close(file)
            raise ValueError(
                f"{path} is being written by another program (process {process or 'unknown'}); wait for it "
                "or set run.name"
            ) from None
        except OSError:
            pass
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(lock)):
                break
        os.close(file)  # its owner deleted it after it was opened here
    else:  # a file system that never gives back what was opened
        return held
    os.truncate(file, 0)
    os.write(file, f"{os.getpid()} on {os.uname().nodename}".encode())
    HELD.add(lock)
    held.callback(release, lock, file, os.getpid())
    return held


def release(lock: Path, file: int, owner: int) -> None:
    """End what `only_writer` began; in a fork of the process that did, nothing."""
    if os.getpid() == owner:
        HELD.discard(lock)
        lock.unlink(missing_ok=True)
        os.close(file)


def take_turn(file: BinaryIO, *, alone: bool) -> None:
    """Wait until no other program writes a file or, to be `alone`, uses it. Lasts till it closes."""
    with suppress(OSError):  # a file system without locks
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)


class JsonlAppender:
    """Append rows to `<path>.partial`, one flushed line each; `finish` renames it to `path`.

    `done` holds the rows an interrupted run left; a torn last line is cut off, and of rows with the same
    values under the names of `key` (all names, if none is given) only the last is kept.
    """

    def __init__(self, path: Path | str, key: tuple[str, ...] = ()) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.lock = only_writer(self.path)
        with ExitStack() as failed:
            failed.push(self.lock)
            self.done = self.read(key) if self.partial.exists() else []
            self.file: IO[str] = self.open()
            failed.pop_all()

    def open(self) -> IO[str]:
        return self.partial.open("a", encoding="utf-8", errors="surrogatepass")

    def read(self, key: tuple[str, ...]) -> list[dict]:
        whole = self.partial.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]
        with open(self.partial, "r+b") as file:
            file.truncate(len(whole))
        try:
            rows = [row for _, row in iterate_jsonl(self.partial)]
        except ValueError as error:
            raise ValueError(f"{error}; delete that line, or the file to begin again") from None
        last = {to_line({name: row.get(name) for name in key or sorted(row)}): row for row in rows}
        unique = [*last.values()]
        if len(unique) < len(rows):
            print(f"dropped    {len(rows) - len(unique)} rows of {self.partial}: they repeat others")
            write_jsonl(self.partial, unique)
        return unique

    def keep(self, rows: list[dict]) -> None:
        """Go on from these rows instead of `done`."""
        self.file.close()
        write_jsonl(self.partial, rows)
        self.done, self.file = rows, self.open()

    def write(self, row: object) -> None:
        self.file.write(to_line(row))
        self.file.flush()

    def finish(self) -> None:
        self.file.close()
        os.replace(self.partial, self.path)

    def __enter__(self) -> "JsonlAppender":
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()
        self.lock.close()


def digest(*values: object) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of `values`."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path | str) -> str:
    """16 hex digits of SHA-256 over a file's bytes."""
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()[:16]
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()[:16]
        )


def commit_id() -> str:
    """The commit of the code that runs, with a plus when files differ from it; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True
        )
    except OSError:
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def free_place(path: Path, suffixes: Iterable[str] = ("",)) -> Path:
    """`name.N.ext` beside a path, to move it to: the first N where nothing is, with any of the suffixes."""
    for number in count(1):
        place = path.with_name(f"{path.stem}.{number}{path.suffix}")
        if not any(place.with_name(place.name + suffix).exists() for suffix in suffixes):
            return place


def write_provenance(path: Path | str, **facts: object) -> None:
    """Write `<path>.meta.json`: when and by which commit the file was made, and `facts`."""
    path = Path(path)
    write_json(
        path.with_name(path.name + ".meta.json"),
        {
            "file": path.name,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "commit": commit_id(),
        }
        | facts,
    )
