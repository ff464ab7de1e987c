"""Tests beside the program, for tests that no process border can cut (monkeypatching, the solution's
classes).

Weaker than the split, and recorded as such: a program that looks for the tests finds them and may forge the
answer. What can be done is done: own process and layers as ever; the tests are compiled, and the functions
that run them taken, before the program's first line; the judge believes only a nonce sent after the last
test.
"""

import marshal
import types

from data.sandbox.testrun import run_definitions


class Inline:
    """Test code held while the program executes."""

    def __init__(self, module: types.ModuleType, code: bytes, entry_point: str) -> None:
        self.module, self.entry_point = module, entry_point
        self.code = marshal.loads(code)
        self.execute, self.run_definitions = exec, run_definitions

    def run(self, nonce: bytes) -> bytes:
        """All tests, then the nonce. Anything raised is the tests' end."""
        namespace = self.module.__dict__
        candidate = namespace[self.entry_point] if self.entry_point else None
        namespace["candidate"] = candidate
        self.execute(self.code, namespace)
        self.run_definitions(namespace, candidate)
        return nonce
