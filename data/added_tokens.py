"""Tokens that are matched as a whole before a vocabulary sees the text, and the space put in front of text.

Every published tokenizer has both, written down in up to five files; data/tokenizer.py collects them here.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class AddedToken:
    """One such token, with the names that tokenizer.json gives its properties."""

    id: int
    content: str
    special: bool = True  # False: matched in plain text too, and part of decoded text
    lstrip: bool = False  # takes the white space before it along
    rstrip: bool = False  # and after it
    normalized: bool = False
    single_word: bool = False


@dataclass(frozen=True)
class Prefix:
    """The space that some tokenizers put in front of text."""

    scheme: str  # "never"; "first": at the very start; "always": after every added token too
    doubled: bool = True  # also where the text already starts with a space

    def wanted(self, text: str, at_start: bool) -> bool:
        """Whether `text` gets one; `at_start`: nothing at all precedes it."""
        if self.scheme == "never" or (self.scheme == "first" and not at_start):
            return False
        return self.doubled or not text.startswith((" ", "\u2581"))


NO_PREFIX = Prefix("never")


class TokenSplitter:
    """Cut text at added tokens: leftmost first, the longest where several begin at one place."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        tokens = sorted(tokens, key=lambda token: -len(token.content))
        self.ids = [token.id for token in tokens]
        cases, first = [], ""
        for token in tokens:
            word = (r"(?<!\w)", r"(?!\w)") if token.single_word else ("", "")
            before, after = r"\s*" * token.lstrip, r"\s*" * token.rstrip
            cases.append(f"{before}{word[0]}({re.escape(token.content)}){word[1]}{after}")
            first += r"\s" * token.lstrip + re.escape(token.content[0])
        self.pattern = re.compile(f"(?=[{first}])(?:{'|'.join(cases)})") if cases else None

    def split(self, text: str) -> Iterator[str | int]:
        """Stretches of text (never empty) and ids of added tokens, in order."""
        position = 0
        for match in self.pattern.finditer(text) if self.pattern else ():
            if match.start() > position:
                yield text[position : match.start()]
            yield self.ids[match.lastindex - 1]
            position = match.end()
        if position < len(text):
            yield text[position:]
