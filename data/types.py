"""The records that stages exchange, one JSON line each. No torch here.

Problem -> Completion -> ExecutionResult -> PreferencePair is the whole line. Every record is a frozen
dataclass; files may carry more keys than a record has, never fewer than it requires (data/jsonl.py).
"""

from dataclasses import dataclass, field
from enum import Enum


class Verdict(str, Enum):
    """What the judge saw. Only PASSED says that all tests ran to their end and held."""

    PASSED = "passed"
    WRONG_ANSWER = "wrong_answer"  # a test's assertion failed, or the test choked on the value
    RUNTIME_ERROR = "runtime_error"  # uncaught exception, missing entry point, early exit
    SYNTAX_ERROR = "syntax_error"  # the source does not compile
    TIMEOUT = "timeout"  # CPU limit, wall cap, or idle for the whole limit
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"
    KILLED = "killed"  # died by a signal that was not ours
    INTERNAL_ERROR = "internal_error"  # ours; never a label, never counted against the program

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Problem:
    """A programming task: `prompt + completion` is the program, `test` defines `check(candidate)`."""

    task_id: str
    prompt: str
    test: str
    entry_point: str
    canonical_solution: str = ""
    split: str = ""
    meta: dict = field(default_factory=dict)  # composition, source, and what a benchmark adds


@dataclass(frozen=True)
class Completion:
    """One sampled answer. `ids` are the sampled tokens, end token included when one was drawn."""

    task_id: str
    sample: int  # 0.. within a task; a greedy answer has temperature 0
    text: str
    prompt_ids: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    finished: bool = True  # False: cut by the length limit
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class ExecutionResult:
    """One verdict with what is needed to understand it."""

    task_id: str = ""
    sample: int = 0
    verdict: Verdict = Verdict.INTERNAL_ERROR
    kind: str = ""  # exception class where there was one, as reported (untrusted text)
    detail: str = ""  # at most 300 printable characters
    cpu: float = 0.0  # seconds of CPU the program used
    wall: float = 0.0  # seconds on the clock
    max_rss: int = 0  # bytes
    tests_passed: int = 0
    tests_total: int = 0
    mode: str = "split"  # "inline": tests and program in one process, weaker; see data/sandbox/


@dataclass(frozen=True)
class PreferencePair:
    """One training example. Text is what people read; ids, when present, are what is trained on."""

    task_id: str
    prompt: str
    chosen: str
    rejected: str
    prompt_ids: list[int] = field(default_factory=list)
    chosen_ids: list[int] = field(default_factory=list)
    rejected_ids: list[int] = field(default_factory=list)
    meta: dict = field(default_factory=dict)  # verdicts, sampler, digests, distances
