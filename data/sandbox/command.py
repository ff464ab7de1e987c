"""python -m data.execution: judge a JSONL file of programs, streaming; go on where a run was stopped."""

import collections
import dataclasses
import sys
from collections.abc import Hashable
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from data.execution import Job, SandboxConfig, VerdictCache, content_key, judge, sandbox_report, zygote_for
from data.jsonl import JsonlAppender, free_place, iterate_jsonl, only_writer
from data.sandbox.prepare import BrokenTest, compile_test, mistake_in, test_text
from data.types import Verdict


def main(arguments: list[str]) -> int:
    """The command. Returns the exit code: 1 for a mistake or when internal errors remain."""
    try:
        options, config = parse_arguments(arguments)
        return judge_file(Path(options["input"]), Path(options["output"]), options.get("cache"), config)
    except (ValueError, OSError) as error:
        print(f"data.execution: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130


def parse_arguments(arguments: list[str]) -> tuple[dict, SandboxConfig]:
    """key=value: input, output, cache, and the fields of SandboxConfig (lists with commas)."""
    known = {field.name: field for field in dataclasses.fields(SandboxConfig)}
    options, settings = {}, {}
    usage = (
        "python -m data.execution input=FILE output=FILE [cache=FILE] [workers=N seconds=S require=A,B ...]"
    )
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not (name in known or name in ("input", "output", "cache")):
            raise ValueError(f"{argument!r} is no option; usage: {usage}")
        if name not in known:
            options[name] = value
        elif known[name].type in (int, float):
            try:
                settings[name] = known[name].type(value)
            except ValueError:
                raise ValueError(f"{name}={value}: a number expected") from None
        else:
            settings[name] = [part for part in value.split(",") if part]
    for name in ("input", "output"):
        if name not in options:
            raise ValueError(f"{name}= is missing; usage: {usage}")
    return options, SandboxConfig(**settings)


def judge_file(source: Path, target: Path, cache: str | None, config: SandboxConfig) -> int:
    """Judge every row of `source` not yet in `target`; stream the verdicts; 1 when internal errors remain.

    A verdict is kept as long as program, tests, limits, layers and judge are the same. A finished file with
    other verdicts than wanted now is moved aside.
    """
    jobs = read_jobs(source)
    if target.is_dir() or (target.exists() and target.samefile(source)):
        raise ValueError(f"output={target} is the input or a folder; name another file")
    print(sandbox_report(config), file=sys.stderr)
    zygote = zygote_for(config)
    contents = {job.key: content_key(job, config, zygote) for job in jobs}
    with ExitStack() as held:
        held.enter_context(only_writer(target))  # who may just have finished it
        found = read_verdicts(target) if target.exists() else []
        out = held.enter_context(JsonlAppender(target, key=("id",)))
        kept = {
            row["id"]: row
            for row in [*found, *out.done]
            if contents.get(row["id"]) == row["content"] and row["verdict"] != Verdict.INTERNAL_ERROR
        }
        changed = {row["id"]: row["content"] for row in found} != contents
        if len(kept) == len(jobs) == len(found) and not changed:
            print(f"{target} is there and whole: the same programs, tests and limits", file=sys.stderr)
            out.partial.unlink()
            return 0
        if [*kept.values()] != out.done:
            out.keep([*kept.values()])
        if found and changed:
            aside = free_place(target)
            target.rename(aside)
            print(f"moved {target} to {aside.name}: it has other programs, tests or limits", file=sys.stderr)
        counts = collections.Counter(row["verdict"] for row in kept.values())
        left = [job for job in jobs if job.key not in kept]
        if kept:
            print(f"{len(kept)} of {len(jobs)} were judged before", file=sys.stderr)
        progress = tqdm(total=len(jobs), initial=len(kept), unit="program", disable=None)
        for key, result in judge(left, config, VerdictCache(cache)):
            row = dataclasses.asdict(result) | {"verdict": result.verdict.value}
            out.write({"id": key, "content": contents[key]} | {k: row[k] for k in COLUMNS})
            counts[result.verdict.value] += 1
            progress.update()
            progress.set_postfix(passed=counts["passed"], refresh=False)
        progress.close()
        out.finish()
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())), file=sys.stderr)
    return int(counts["internal_error"] > 0)


def read_verdicts(path: Path) -> list[dict]:
    """The rows of an earlier output."""
    rows = [row for _, row in iterate_jsonl(path)]
    if not all({"id", "content", "verdict"} <= row.keys() for row in rows):
        raise ValueError(f"output={path} is there and holds no verdicts; name another file")
    return rows


COLUMNS = (
    "verdict",
    "kind",
    "detail",
    "cpu",
    "wall",
    "max_rss",
    "tests_passed",
    "tests_total",
    "mode",
)


def read_jobs(path: Path) -> list[Job]:
    """Rows with id, prompt, completion, test, entry_point and perhaps timeout; each mistake named with its
    line."""
    jobs: dict[Hashable, Job] = {}
    for number, row in iterate_jsonl(path):
        where = f"{path}, line {number}"
        key, timeout = row.get("id"), row.get("timeout") or 0
        mistake = mistake_in(row, timeout)
        if mistake:
            raise ValueError(f"{where}: {mistake}")
        if not isinstance(key, (str, int)) or isinstance(key, bool) or key in jobs:
            raise ValueError(f"{where}: id {key!r} is not a new text or number")
        try:
            compile_test(test_text(row["test"]))
        except BrokenTest as error:
            raise ValueError(f"{where}, id {key!r}: {error}") from None
        jobs[key] = Job(key, row, float(timeout))
    if not jobs:
        raise ValueError(f"{path} holds no rows; id, prompt, completion, test, entry_point expected")
    return list(jobs.values())
