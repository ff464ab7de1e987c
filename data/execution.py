"""Run untrusted programs against tests: `execute` for one, `judge` for many, a command for a file of them.

Tests and program share no process (but see `mode`): the tests run in a judge, which asks the program's for
answers and sees only plain data (data/sandbox/). What surrounds the program's process is
`SandboxConfig.layers`; what of it works on this machine, `sandbox_report` says in one line.

A program is a dict: `prompt` and `completion`, joined to the program's text; `test`, text that defines
`check(candidate)` or just asserts; `entry_point`, the name under which the tests know the candidate (may be
empty). Optional: `context`, trusted text whose definitions the tests may use (default: the prompt); `data`,
a plain value that the tests find as `__judge__.data` (data/sandbox/trial.py, `Report`); `mode`, "inline"
for tests that must share the program's process (weaker, see `needs_inline`): those that derive classes from
the program's, compute with its objects and plain numbers together, call methods of its exceptions, or patch
more than the streams, `input`, `print` and `open`.

    python -m data.execution input=programs.jsonl output=verdicts.jsonl [cache=FILE] [workers=8 seconds=1 ...]

judges a file: `id`, the program's keys and `timeout` in; `id`, `verdict` and the rest of the result out.

Not protected against: kernel exploits, side channels (time, load, caches), and a test that passes wrong
answers.
"""

import atexit
import functools
import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from data.jsonl import digest
from data.sandbox.cache import VerdictCache
from data.sandbox.config import SandboxConfig
from data.sandbox.encoder import Encoder
from data.sandbox.pool import Task, Zygote, run_tasks
from data.sandbox.prepare import BrokenTest, compile_test, failed_test, mistake_in, test_text
from data.sandbox.report import check_required, report_line, warning
from data.types import ExecutionResult, Verdict

__all__ = [
    "ExecutionResult",
    "Job",
    "SandboxConfig",
    "Verdict",
    "VerdictCache",
    "execute",
    "judge",
    "needs_inline",
    "sandbox_report",
]


@dataclass(frozen=True)
class Job:
    """A program with the key its result comes back under. `timeout` 0: the sandbox's `seconds`."""

    key: Hashable
    program: dict
    timeout: float = 0.0


JUDGE_VERSION = 2  # raise when the same program would get another verdict: earlier ones are then not reused
ZYGOTES: dict[tuple, Zygote] = {}


def execute(program: dict, timeout: float = 3.0, config: SandboxConfig | None = None) -> ExecutionResult:
    """Judge one program. `timeout` is CPU seconds; the wall cap is three times that plus one second."""
    ((_, result),) = judge([Job(None, program, timeout)], config or SandboxConfig(workers=1))
    return result


def judge(
    jobs: Iterable[Job], config: SandboxConfig | None = None, cache: VerdictCache | None = None
) -> Iterator[tuple[Hashable, ExecutionResult]]:
    """(key, result) of each job as it finishes, in no fixed order. Jobs are drawn as workers get free.

    With a cache, a program already judged by the same tests under the same limits is not run again, neither
    one of an earlier run nor a duplicate among `jobs`.
    """
    config = config or SandboxConfig()
    zygote = zygote_for(config)
    ready: list[tuple[Hashable, ExecutionResult]] = []
    running: dict[int, Job] = {}
    waiting: dict[str, list[Job]] = {}  # content -> duplicates of a job that is running

    def tasks() -> Iterator[Task]:
        for number, job in enumerate(jobs):
            try:
                task = make_task(number, job, config)
            except BrokenTest as error:
                ready.append((job.key, ExecutionResult(detail=str(error)[:300])))
                continue
            if cache is not None:
                content = content_key(job, config, zygote)
                if content in waiting:
                    waiting[content].append(job)
                    continue
                known = cache.get(content)
                if known is not None:
                    ready.append((job.key, known))
                    continue
                waiting[content] = []
            running[number] = job
            yield task

    workers = config.workers or core_count()
    for number, raw in run_tasks(tasks(), lambda modules: zygote_for(config, modules), workers):
        job = running.pop(number)
        result = as_result(raw, job.program)
        ready.append((job.key, result))
        if cache is not None:
            content = content_key(job, config, zygote)
            cache.put(content, result)
            ready += [(duplicate.key, result) for duplicate in waiting.pop(content)]
        yield from ready
        ready.clear()
    yield from ready


def needs_inline(program: dict, timeout: float = 10.0, config: SandboxConfig | None = None) -> bool:
    """Whether a problem's tests work only beside the program. `program` must hold the reference solution.

    Decide this once per problem and pass `mode="inline"` for all its programs; never decide it by what a
    program under test did.
    """
    split = execute(program | {"mode": "split"}, timeout, config)
    if split.verdict is Verdict.PASSED:
        return False
    return execute(program | {"mode": "inline"}, timeout, config).verdict is Verdict.PASSED


def content_key(job: Job, config: SandboxConfig, zygote: Zygote) -> str:
    """Digest of all that decides a verdict: judge and interpreter, program, tests, limits, layers."""
    program = job.program
    data = program.get("data")
    return digest(
        judge_identity(),
        program["prompt"] + program["completion"],
        test_text(program["test"]),
        program["entry_point"],
        program.get("context", program["prompt"]),
        program.get("mode", "split"),
        hashlib.sha256(encode_data(data)).hexdigest() if data is not None else "",
        job.timeout or config.seconds,
        (config.judge_seconds, config.memory_mb, config.output_mb, config.scratch_mb, config.processes),
        (config.files, config.seed),
        sorted(zygote.report["active"].items()),
    )


def judge_identity() -> tuple[int, str, str]:
    """What decides a verdict beside program, tests and sandbox: versions of the judge, Python and NumPy."""
    return JUDGE_VERSION, sys.version.split()[0], numpy_version()


def make_task(number: int, job: Job, config: SandboxConfig) -> Task:
    program = job.program
    mistake = mistake_in(program, job.timeout)
    if mistake:
        raise ValueError(f"program of job {job.key!r}: {mistake}")
    text = test_text(program["test"])
    compiled = compile_test(text)
    prompt = program["prompt"]
    context = program.get("context", prompt)
    source = prompt + program["completion"]
    return Task(
        key=number,
        job={
            "program": source,
            "seconds": float(job.timeout or config.seconds),
            "judge_seconds": config.judge_seconds,
            "memory_mb": config.memory_mb,
            "output_mb": config.output_mb,
            "files": config.files,
            "seed": config.seed,
            "mode": program.get("mode", "split"),
            "demote": config.workers > core_count(),  # long programs give way where cores are short
        },
        tests={
            "entry_point": program["entry_point"],
            "context": context,
            "asserts": compiled.asserts,
            "expects_stop": compiled.expects_stop,
            "spoils": compiled.spoils,
            "surrounds": compiled.surrounds,
            "classes": "class " in context,
            "numpy_random": "numpy random" if "numpy" in text and "random" in text else "",
        },
        attachments=(compiled.code, encode_data(program.get("data"))),
        modules="numpy" if "numpy" in source or "numpy" in text else "",
    )


def encode_data(data: object) -> bytes:
    """A plain value for the judge; bytes are taken as already encoded."""
    if data is None:
        return b""
    if isinstance(data, bytes):
        return data
    encoder = Encoder(refuse_foreign)
    encoder.encode(data)
    return b"".join(encoder.parts)


def refuse_foreign(value: object) -> bytes:
    raise ValueError(f"program['data'] holds a {type(value).__name__}; plain data expected")


def as_result(raw: dict, program: dict) -> ExecutionResult:
    """The judge's report as a record; says which test failed."""
    verdict = Verdict(raw["verdict"])
    passed, total = raw.get("tests_passed", 0), raw.get("tests_total", 0)
    detail = raw.get("detail", "")
    if raw.get("line"):
        index, text = failed_test(test_text(program["test"]), raw["line"])
        if not total:
            passed = index
        if verdict is Verdict.WRONG_ANSWER:
            generated = total and detail  # then the line is the generator's, and the message says it all
            detail = f"test {passed + 1}: {detail if generated else text}" + (
                f" ({detail})" if detail and not generated else ""
            )
    return ExecutionResult(
        verdict=verdict,
        kind=raw.get("kind", ""),
        detail=detail[:300],
        cpu=raw.get("cpu", 0.0),
        wall=raw.get("wall", 0.0),
        max_rss=raw.get("max_rss", 0),
        tests_passed=passed,
        tests_total=total,
        mode=raw.get("mode", "split"),
    )


def sandbox_report(config: SandboxConfig | None = None, timeouts: Iterable[float] = ()) -> str:
    """Which layers hold on this machine, in one line. Starts the sandbox; ValueError when a required one is
    missing. `timeouts` are those of the jobs to come, where they have their own."""
    config = config or SandboxConfig()
    zygote = zygote_for(config)
    workers = config.workers or core_count()
    seconds = {timeout or config.seconds for timeout in timeouts} or {config.seconds}
    return report_line(zygote.report, zygote.about, workers, seconds, config.memory_mb)


def zygote_for(config: SandboxConfig, modules: str = "") -> Zygote:
    """The warm process for this kind of sandbox; one per process and kind, closed at exit.

    Programs that use NumPy get a zygote that has imported it; the others are forked faster without.
    """
    options = {
        "layers": [*config.layers],
        "scratch_mb": config.scratch_mb,
        "processes": config.processes,
        "memory_mb": config.memory_mb,
        "seed": config.seed,
    }
    key = (os.getpid(), modules, *map(str, options.values()))
    if key not in ZYGOTES:
        zygote = Zygote(options, modules)
        zygote.about["numpy"] = numpy_version()
        zygote.idle.append(zygote.worker())
        ZYGOTES[key] = zygote
        loud = warning(zygote.report)
        if loud and not modules:
            print(loud, file=sys.stderr)
    check_required(ZYGOTES[key].report, config.require)
    return ZYGOTES[key]


@functools.cache
def numpy_version() -> str:
    try:
        return importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        return ""


def core_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@atexit.register
def close_zygotes() -> None:
    for zygote in ZYGOTES.values():
        zygote.close()
    ZYGOTES.clear()


if __name__ == "__main__":
    from data.sandbox.command import main

    sys.exit(main(sys.argv[1:]))
