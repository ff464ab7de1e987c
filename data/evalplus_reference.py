"""Run a benchmark's own reference solution on its inputs: a process of its own, started by data/evalplus.py.

Reads a pickled job from standard input, writes the pickled (outputs, seconds) to standard output. The
reference solution is part of a published file whose sha256 is checked; it is kept out of our process all the
same, because it may be slow, print, or change the interpreter. Imports nothing of this project.
"""

import copy
import io
import os
import pickle
import sys
import time
from contextlib import redirect_stderr, redirect_stdout


def run_reference(
    source: str, entry_point: str, inputs: list, only_not_none: bool
) -> tuple[list, list[float]]:
    """Outputs (or, for answers that cannot be stored, whether they are not None) and seconds per input."""
    namespace: dict = {}
    outputs, seconds = [], []
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        exec(source, namespace)
        for arguments in inputs:
            arguments = copy.deepcopy(arguments)
            start = time.perf_counter()
            output = namespace[entry_point](*arguments)
            seconds.append(time.perf_counter() - start)
            outputs.append(output is not None if only_not_none else output)
    return outputs, seconds


if __name__ == "__main__":
    sys.set_int_max_str_digits(0) if hasattr(sys, "set_int_max_str_digits") else None
    job = pickle.load(sys.stdin.buffer)
    sys.stdin = io.StringIO()
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the reference writes to descriptor 1 is no answer
    answer.write(pickle.dumps(run_reference(*job), protocol=4))
