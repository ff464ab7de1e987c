"""Right programs pass, however awkward; and the oracle, one plain interpreter, agrees that they are right."""

import json
import os
import signal
import subprocess
import sys

import pytest

from data.execution import Job, SandboxConfig, judge
from tests.data.sandbox import benign, benign_habits, benign_library, benign_tests, benign_values

CASES = [
    case
    for module in (benign, benign_habits, benign_library, benign_tests, benign_values)
    for case in module.CASES
]

# one process per program, nothing between program and test: what a verdict must agree with
ORACLE = """
import json, os, sys, types
failed = open("failed.txt", "w")
for name, program, test in json.load(open("cases.json")):
    pid = os.fork()
    if pid == 0:
        os.mkdir(str(os.getpid()))
        os.chdir(str(os.getpid()))
        module = sys.modules["solution"] = types.ModuleType("solution")
        module.__dict__.pop("__doc__")
        exec(program, module.__dict__)
        exec(test, module.__dict__)
        check = module.__dict__.get("check")
        check and check(module.f)
        os._exit(77)
    if os.waitpid(pid, 0)[1] != 77 << 8:
        print(name, file=failed, flush=True)
"""
CONFIG = SandboxConfig(workers=2)
PLAIN = SandboxConfig(workers=2, layers=["split", "rlimits"])


def jobs() -> list[Job]:
    return [
        Job(
            case.name,
            {
                "prompt": case.prompt,
                "completion": case.source,
                "test": case.test,
                "entry_point": case.entry_point,
            },
            case.seconds,
        )
        for case in CASES
    ]


@pytest.fixture(scope="module")
def results():
    return dict(judge(jobs(), CONFIG))


def test_there_are_enough_different_cases():
    assert len({case.name for case in CASES}) == len(CASES) >= 250


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_benign_program_passes(results, case):
    if "numpy" in case.source:
        pytest.importorskip("numpy", reason="the program uses NumPy")
    assert results[case.name].verdict.value == "passed", results[case.name]


def test_benign_programs_pass_without_kernel_layers():
    failed = {name: result for name, result in judge(jobs(), PLAIN) if result.verdict.value != "passed"}
    assert not failed


def test_the_oracle_agrees(tmp_path):
    pytest.importorskip("numpy", reason="some programs use NumPy")
    cases = [(case.name, case.prompt + case.source, case.test) for case in CASES]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run(
        [sys.executable, "-c", ORACLE],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=tmp_path,
        timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
        env=os.environ | {"PYTHONIOENCODING": "utf-8:backslashreplace"},
    )
    assert not (tmp_path / "failed.txt").read_text(), done.stderr[-500:]
    assert done.returncode == 0
