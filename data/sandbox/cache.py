"""Verdicts by content: the same program, tests, limits and layers need not run twice."""

import dataclasses
import os
from pathlib import Path

from data.jsonl import as_record, iterate_jsonl, take_turn, to_line
from data.types import ExecutionResult, Verdict


class VerdictCache:
    """In memory, and with a path also in a JSONL file that programs append to, also several at a time."""

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = Path(path) if path else None
        self.results: dict[str, ExecutionResult] = {}
        if self.path is not None and self.path.exists():
            self.read()

    def read(self) -> None:
        """Load the file; a torn last line, left by a kill, is cut off."""
        with open(self.path, "rb") as file:
            take_turn(file, alone=False)  # another program may be about to finish its line
            whole = file.read()
            if not whole.endswith(b"\n"):
                os.truncate(self.path, whole.rfind(b"\n") + 1)
            rows = [*iterate_jsonl(self.path)]
        for number, row in rows:
            where = f"{self.path}, line {number}"
            if "content" not in row or row.get("verdict") not in set(Verdict):
                raise ValueError(f"{where}: no cached verdict; delete the file or name another cache")
            result = as_record(ExecutionResult, row, where)
            self.results[row["content"]] = dataclasses.replace(result, verdict=Verdict(row["verdict"]))

    def get(self, content: str) -> ExecutionResult | None:
        return self.results.get(content)

    def put(self, content: str, result: ExecutionResult) -> None:
        """Keep a verdict; internal errors are not verdicts."""
        if result.verdict is Verdict.INTERNAL_ERROR or content in self.results:
            return
        self.results[content] = result
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = to_line({"content": content} | dataclasses.asdict(result))
            with open(self.path, "ab") as file:
                take_turn(file, alone=True)
                file.write(line.encode())
