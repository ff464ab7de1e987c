"""The program inside a model's answer: cut at a stop, take the fenced block, keep what the entry point needs.

Modes of `extract`:
- "none": the text as it is.
- "fenced": the last code block of a chat answer that defines the entry point.
- "keep" (for collection): what the entry point needs (data/needed.py), from that block; names that it leaves
  open are looked for in the answer's other blocks. Where the entry point cannot be found the text comes back
  unchanged, so that the verdict, not the extraction, says what was wrong with it.
- "evalplus": what EvalPlus's sanitizer returns, faults included (data/evalplus_sanitizer.py).
"""

import re
import textwrap

from data.evalplus_sanitizer import evalplus_sanitize
from data.longest_program import program_runs
from data.needed import defines, needed
from data.syntax import parse

MODES = ("none", "fenced", "keep", "evalplus")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*$", re.MULTILINE)
PARTS = 12  # programs of an answer that are put together


def extract(text: str, entry_point: str, mode: str = "keep") -> str:
    """The program in `text` (a whole answer, or prompt + completion for a base model)."""
    if mode not in MODES:
        raise ValueError(f"extraction mode {mode!r} does not exist; there are {', '.join(MODES)}")
    if mode == "none":
        return text
    if mode == "evalplus":
        return evalplus_sanitize(text, entry_point)
    text = ANSI.sub("", text)
    return fenced(text, entry_point) if mode == "fenced" else keep(text, entry_point)


def cut_at_stop(text: str, stops: tuple[str, ...]) -> str:
    """`text` up to the earliest stop string."""
    ends = [position for position in (text.find(stop) for stop in stops) if position >= 0]
    return text[: min(ends)] if ends else text


def fenced(text: str, entry_point: str) -> str:
    """The last fenced block that defines the entry point, else the last block, else all of `text`."""
    blocks = fenced_blocks(text)
    defining = [block for block in blocks if defines(block, entry_point)]
    return (defining or blocks or [text])[-1]


def fenced_blocks(text: str) -> list[str]:
    """Contents of the fenced blocks; a block that is never closed ends with the text."""
    blocks, opened = [], None
    for match in FENCE.finditer(text):
        if opened is None:
            opened = match
        elif match[1][0] == opened[1][0] and len(match[1]) >= len(opened[1]):
            blocks.append(text[opened.end() + 1 : match.start()])
            opened = None
    if opened is not None:
        blocks.append(text[opened.end() + 1 :])
    return blocks


def keep(text: str, entry_point: str) -> str:
    """The statements the entry point needs, of the program that defines it and, where that leaves names open,
    of the answer's other programs."""
    found = programs(text, entry_point)
    main = next((source for source in reversed(found) if defines(source, entry_point)), None)
    if main is None:
        return text
    found.remove(main)
    for _ in range(PARTS):
        kept, open_names = needed(main, entry_point)
        other = next((s for s in reversed(found) if any(defines(s, name) for name in open_names)), None)
        if other is None:
            break
        found.remove(other)
        main = f"{other}\n{main}"  # what the first one defines itself comes last, and counts
    return kept


def programs(text: str, entry_point: str) -> list[str]:
    """The parts of an answer that parse, the likeliest solution last: blocks as they come, else by length."""
    text = text.removeprefix("\ufeff")
    if defines(text, entry_point):
        return [text]
    blocks = [part for block in fenced_blocks(text) for part in parsable_parts(block)]
    if any(defines(block, entry_point) for block in blocks):
        return blocks
    one_liners = [line for line in text.split("\n") if line.startswith(f"def {entry_point}") and parse(line)]
    return one_liners + parsable_parts(text)


def parsable_parts(text: str) -> list[str]:
    """The text, or itself less its indentation, if that parses; else its runs that do, the longest last."""
    for whole in (text, textwrap.dedent(text)):
        if parse(whole) is not None:
            return [whole]
    return sorted(program_runs(text), key=len)
