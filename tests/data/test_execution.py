# ruff: noqa: E501 - programs are one line each
"""The sandbox as its users see it: one program, many, a file of them; what it does when parts of it die."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import venv
from pathlib import Path

import pytest

from data.execution import (
    Job,
    SandboxConfig,
    VerdictCache,
    content_key,
    execute,
    judge,
    needs_inline,
    sandbox_report,
    zygote_for,
)
from data.jsonl import only_writer
from data.sandbox import kernel, report
from data.sandbox.command import main
from data.sandbox.config import LAYERS
from data.sandbox.prepare import check_tests, compile_test
from data.types import ExecutionResult, Verdict

ROOT = Path(__file__).parents[2]
ADD = {
    "prompt": "def add(a, b):\n",
    "completion": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert add(2, 2) == 4\n",
    "entry_point": "add",
}
CONFIG = SandboxConfig(workers=2)


def add(completion: str, **changes: object) -> dict:
    return ADD | {"completion": completion} | changes


# verdicts


@pytest.mark.parametrize(
    ("completion", "verdict", "kind"),
    [
        ("    return a + b\n", Verdict.PASSED, ""),
        ("    return a\n", Verdict.WRONG_ANSWER, ""),
        ("    return None\n", Verdict.WRONG_ANSWER, ""),
        ("    return a / 0\n", Verdict.RUNTIME_ERROR, "ZeroDivisionError"),
        ("    class Odd(Exception): pass\n    raise Odd\n", Verdict.RUNTIME_ERROR, "Odd"),
        ("    return (\n", Verdict.SYNTAX_ERROR, "SyntaxError"),
        ("    while True: pass\n", Verdict.TIMEOUT, ""),
        ("    return 'x' * 10**12\n", Verdict.OUT_OF_MEMORY, "MemoryError"),
        ("    while True: print('x' * 10**6)\n", Verdict.OUTPUT_LIMIT, "OSError"),
        ("    import os; os.abort()\n", Verdict.KILLED, "SIGABRT"),
        ("    import os; os._exit(0)\n", Verdict.RUNTIME_ERROR, "EarlyExit"),
        ("    pass\ndel add\n", Verdict.RUNTIME_ERROR, "NameError"),
    ],
)
def test_each_outcome(completion, verdict, kind):
    result = execute(add(completion), 0.5, CONFIG)
    assert (result.verdict, result.kind) == (verdict, kind), result
    assert result.mode == "split"


def test_an_entry_point_may_be_a_method_of_a_new_object():
    """As LeetCode's problems have it."""
    source = "class Solution:\n    def add(self, a, b): return a + b\n"
    test = "def check(candidate):\n    assert candidate(1, b=2) == 3\n"
    program = {"prompt": "", "completion": source, "test": test, "entry_point": "Solution().add"}
    assert execute(program).verdict is Verdict.PASSED
    result = execute(program | {"completion": source.replace("a + b", "a")})
    assert result.verdict is Verdict.WRONG_ANSWER
    result = execute(program | {"completion": "x = 1\n"})
    assert (result.verdict, result.kind) == (Verdict.RUNTIME_ERROR, "NameError")


def test_the_detail_names_the_test_that_failed():
    result = execute(add("    return 3\n"), 1.0, CONFIG)
    assert result.detail == "test 2: assert add(2, 2) == 4"
    assert result.tests_passed == 1


def test_a_pass_counts_its_tests_and_its_time():
    result = execute(add("    sum(range(3_000_000))\n    return a + b\n"), 5.0, CONFIG)
    assert (result.tests_passed, result.tests_total) == (2, 2)
    assert 0.01 < result.cpu <= result.wall
    assert result.max_rss > 1 << 20


def test_sleeping_for_the_whole_limit_is_a_timeout_but_waiting_for_a_core_is_none():
    started = time.monotonic()
    assert execute(add("    import time; time.sleep(60)\n"), 0.3, CONFIG).verdict is Verdict.TIMEOUT
    assert time.monotonic() - started < 20


def test_a_call_limit_and_data_for_generated_tests():
    test = (
        "def check(candidate):\n    __judge__.total(3)\n    __judge__.limit_call(0.2)\n"
        "    for a, b, c in __judge__.data:\n        assert candidate(a, b) == c\n        __judge__.passed()\n"
    )
    program = add("    return a + b\n", test=test, data=[(1, 2, 3), (4, 5, 9), (0, 0, 1)])
    result = execute(program, 5.0, CONFIG)
    assert (result.verdict, result.tests_passed, result.tests_total) == (Verdict.WRONG_ANSWER, 2, 3)
    slow = execute(program | {"completion": "    while a == 4: pass\n    return a + b\n"}, 30.0, CONFIG)
    assert (slow.verdict, slow.tests_passed) == (Verdict.TIMEOUT, 1)
    assert slow.cpu < 5


def test_large_data_and_large_tests():
    values = [float(n) for n in range(1_500_000)]  # 12 MB
    test = "def check(candidate):\n    assert candidate(__judge__.data, []) == __judge__.data\n"
    assert execute(add("    return a + b\n", test=test, data=values), 10.0, CONFIG).verdict is Verdict.PASSED
    text = "def check(candidate):\n    assert candidate([1] * 5, []) == " + "[1, 1, 1, 1, 1]" + " + []" * 1000
    text += "\nTABLE = " + repr(list(range(300_000)))
    assert execute(add("    return a + b\n", test=text), 10.0, CONFIG).verdict is Verdict.PASSED


def test_names_of_the_prompt_are_the_true_ones():
    program = {
        "prompt": "def helper(x):\n    return x + 1\n\ndef add(a, b):\n    '''Adds.'''\n",
        "completion": "    return 0\nhelper = lambda x: 0\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == helper(2)\n",
        "entry_point": "add",
    }
    assert execute(program, 1.0, CONFIG).verdict is Verdict.WRONG_ANSWER
    assert execute(program | {"completion": "    return 3\n"}, 1.0, CONFIG).verdict is Verdict.PASSED


def test_only_the_unfinished_end_of_a_prompt_is_the_programs():
    program = {
        "prompt": "def helper(x):\n    return x + 1\n\n",
        "completion": "def f(x):\n    return 0\nhelper = lambda x: 0\n",
        "test": "assert f(1) == helper(1)",
        "entry_point": "f",
    }
    assert execute(program, 1.0, CONFIG).verdict is Verdict.WRONG_ANSWER
    program = {
        "prompt": "class Stack:\n    def __init__(self): self.items = []\n    def push(self, x):\n        'Adds x.'\n",
        "completion": "        self.items.append(x)\n    def pop(self): return self.items.pop()\n",
        "test": "s = Stack()\ns.push(3)\nassert s.pop() == 3",
        "entry_point": "",
    }
    assert execute(program, 1.0, CONFIG).verdict is Verdict.PASSED


def test_modules_the_test_takes_for_granted():
    for test in ("assert math.floor(add(1, 2.5)) == 3", "assert np.sum([add(1, 1)]) == 2"):
        if "np" in test:
            pytest.importorskip("numpy", reason="NumPy is optional")
        assert execute(add("    return a + b\n", test=test), 5.0, CONFIG).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("", "empty"),
        ("def check(:", "does not compile"),
        ("def chek(candidate):\n    assert candidate(1, 2) == 3\n", "tests nothing.* it defines chek"),
        ("import math\nMETADATA = {'author': 'x'}\ndef check(candidate):\n    pass\n", "it defines check"),
        ("class Adds:\n    def add(self):\n        assert add(1, 2) == 3\n", "it defines Adds"),
        ("x = 1\n", "it defines nothing"),
        ("test_cases = [(1, 2, 3)]\ndef chek(add):\n    assert add(1, 2) == 3\n", "it defines chek"),
    ],
)
def test_a_test_that_cannot_decide_is_no_pass(test, words):
    result = execute(add("    return a + b\n", test=test), 1.0, CONFIG)
    assert result.verdict is Verdict.INTERNAL_ERROR
    assert re.search(words, result.detail)


@pytest.mark.parametrize(
    "test",
    [
        "def setup():\n    return 3\nadd(1, 2)\n",
        "if True:\n    def check(candidate):\n        assert candidate(1, 2) == 3\n",
        "check = lambda candidate: candidate(1, 2)\n",
        "class Test(Base):\n    def test_it(self):\n        assert add(1, 2) == 3\n",
        "class Case(unittest.TestCase):\n    def runTest(self):\n        self.assertEqual(add(1, 2), 3)\n",
        "@run\ndef it():\n    assert add(1, 2) == 3\n",
        "from cases import check\n",
        "def of_add(candidate):\n    assert candidate(1, 2) == 3\ncheck = of_add\n",
        "class TestAdd:\n    def adds(self):\n        assert add(1, 2) == 3\n    test_adds = adds\n",
        "if add is None:\n    raise AssertionError\n",
        "class Adds:\n    assert add(1, 2) == 3\n",
    ],
)
def test_tests_of_any_form_test_something(test):
    assert compile_test(test).code


def test_problems_with_tests_that_cannot_decide_are_named():
    tests = {"own/1": "assert f(1)", "own/2": "def chek(c): assert c(1)", "own/3": "def check(:"}
    with pytest.raises(ValueError, match=r"own/2: the test tests nothing.*chek \(others .*: own/3\); mend"):
        check_tests(tests)


@pytest.mark.filterwarnings("error")
def test_a_test_that_python_warns_of_is_no_news():
    check_tests({"own/1": "assert f(1) is 1"})


def test_a_program_without_its_keys_is_a_mistake():
    with pytest.raises(ValueError, match=r"no test, entry_point.*completion, prompt"):
        execute({"prompt": "", "completion": ""})


# inline mode

PATCHING = {
    "prompt": "",
    "completion": "import time\ndef now():\n    return time.time()\n",
    "test": "import time\ntime.time = lambda: 42\nassert now() == 42\n",
    "entry_point": "now",
}


def test_inline_mode_is_for_tests_that_share_the_programs_modules():
    assert needs_inline(PATCHING)
    assert not needs_inline(ADD)
    result = execute(PATCHING | {"mode": "inline"}, 1.0, CONFIG)
    assert (result.verdict, result.mode) == (Verdict.PASSED, "inline")


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [
        ("def now(): return 41", Verdict.WRONG_ANSWER),
        ("import os\nos._exit(0)", Verdict.RUNTIME_ERROR),
        ("raise SystemExit(0)", Verdict.RUNTIME_ERROR),
        ("import sys\ndef now(): sys.exit(0)", Verdict.RUNTIME_ERROR),
        (
            "import builtins\nbuiltins.exec = builtins.compile = lambda *a: None\ndef now(): return 1",
            Verdict.WRONG_ANSWER,
        ),
        ("def now():\n    while True: pass", Verdict.TIMEOUT),
        ("check = lambda c: None\ndef now(): return 1", Verdict.WRONG_ANSWER),
    ],
)
def test_inline_mode_is_hardened(completion, verdict):
    program = PATCHING | {"mode": "inline", "completion": completion}
    assert execute(program, 0.5, CONFIG).verdict is verdict


# many programs


def test_results_come_as_programs_finish():
    jobs = [Job("slow", add("    while True: pass\n"), 0.6), *(Job(n, ADD) for n in range(20))]
    order = [key for key, _ in judge(jobs, CONFIG)]
    assert sorted(map(str, order)) == sorted([*map(str, range(20)), "slow"])
    assert order.index("slow") > 5


def test_jobs_are_drawn_one_by_one_and_judging_can_be_left():
    drawn = []

    def endless():
        while True:
            drawn.append(len(drawn))
            yield Job(len(drawn), ADD)

    for number, (_, result) in enumerate(judge(endless(), CONFIG)):
        assert result.verdict is Verdict.PASSED
        if number == 5:
            break
    assert len(drawn) < 20
    assert execute(ADD, 1.0, CONFIG).verdict is Verdict.PASSED


def test_two_judgings_at_once():
    first, second = (
        judge([Job(n, ADD) for n in range(6)], CONFIG),
        judge([Job(n, ADD) for n in range(6)], CONFIG),
    )
    verdicts = [result.verdict for pair in zip(first, second, strict=True) for _, result in pair]
    assert verdicts == [Verdict.PASSED] * 12


def test_one_program_does_not_see_another():
    spy = "    import sys\n    seen = getattr(sys, 'left', None)\n    sys.left = 1\n    return a + b if seen is None else 0\n"
    jobs = [Job(n, add(spy, test="assert add(1, 2) == 3")) for n in range(8)]
    assert {r.verdict for _, r in judge(jobs, CONFIG)} == {Verdict.PASSED}


def test_tests_that_spoil_their_process_do_not_reach_the_next():
    spoil = "import builtins\nbuiltins.sorted = builtins.spoilt = lambda x: 7\nassert add(1, 2) == 3\n"
    lean = "assert sorted([2, 1]) == [1, 2] and add(1, 2) == 3\ntry: spoilt\nexcept NameError: pass\nelse: assert 0"
    jobs = [Job(n, add("    return a + b\n", test=spoil if n % 2 == 0 else lean)) for n in range(8)]
    assert {r.verdict for _, r in judge(jobs, SandboxConfig(workers=1))} == {Verdict.PASSED}


def test_random_numbers_are_the_same_in_every_run():
    completion = "    import random\n    return random.random()\n"
    test = "first = add(1, 2)\nraise ValueError(repr(first))"
    details = [execute(add(completion, test=test), 1.0, CONFIG).detail for _ in range(2)]
    assert details[0] == details[1]
    unseeded = SandboxConfig(workers=1, seed=-1)
    details = [execute(add(completion, test=test), 1.0, unseeded).detail for _ in range(2)]
    assert details[0] != details[1]


def test_a_cache_spares_duplicates_and_earlier_runs(tmp_path):
    jobs = [Job(n, add(f"    return a + b  # {n % 3}\n")) for n in range(9)]
    cache = VerdictCache(tmp_path / "verdicts.jsonl")
    assert {r.verdict for _, r in judge(jobs, CONFIG, cache)} == {Verdict.PASSED}
    assert len((tmp_path / "verdicts.jsonl").read_text().splitlines()) == len(cache.results) == 3
    with open(tmp_path / "verdicts.jsonl", "a") as file:
        file.write('{"content": "torn')
    again = VerdictCache(tmp_path / "verdicts.jsonl")
    assert again.results == cache.results
    for content in again.results:  # what is remembered is believed
        again.results[content] = ExecutionResult(verdict=Verdict.KILLED)
    assert {r.verdict for _, r in judge(jobs, CONFIG, again)} == {Verdict.KILLED}
    assert {r.verdict for _, r in judge(jobs, SandboxConfig(workers=2, seconds=2.0), again)} == {
        Verdict.PASSED
    }


def test_a_cached_verdict_is_that_of_one_judge_and_interpreter(monkeypatch):
    class Zygote:
        report = {"active": {"split": ""}}

    def key(**limits: int) -> str:
        return content_key(Job(0, add("    return a + b\n")), dataclasses.replace(CONFIG, **limits), Zygote())

    assert len({key(), *(key(**{name: 17}) for name in ("processes", "scratch_mb", "memory_mb"))}) == 4
    keys = {key(), key()}
    assert len(keys) == 1
    for name, other in (("JUDGE_VERSION", -1), ("numpy_version", lambda: "0.1")):
        with monkeypatch.context() as changed:
            changed.setattr(f"data.execution.{name}", other)
            keys.add(key())
    assert len(keys) == 3


# parts that die


def below(pid: int) -> list[int]:
    """All descendants of a process."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = path.read_text(errors="replace")
            parent = int(text[text.rindex(")") + 2 :].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = children.get(pid, [])
    for child in found:
        found += children.get(child, [])
    return found


@pytest.mark.skipif(not kernel.LINUX, reason="looks at /proc")
def test_judging_survives_the_death_of_any_of_its_processes():
    config = SandboxConfig(workers=3, processes=65)  # a zygote of its own
    zygote = zygote_for(config)
    kills = iter(range(1000))

    def jobs():
        for number in range(60):
            victims = below(zygote.process.pid)
            if number % 6 == 5 and victims:
                with contextlib.suppress(OSError):
                    os.kill(victims[next(kills) * 7 % len(victims)], signal.SIGKILL)
            if number == 40:
                zygote.process.kill()
            yield Job(number, add("    import time; time.sleep(0.02)\n    return a + b\n"))

    results = dict(judge(jobs(), config))
    assert len(results) == 60
    assert sum(r.verdict is Verdict.PASSED for r in results.values()) >= 55
    assert {r.verdict for r in results.values()} <= {Verdict.PASSED, Verdict.INTERNAL_ERROR, Verdict.KILLED}


@pytest.mark.skipif(not kernel.LINUX, reason="looks at /proc")
def test_nothing_is_left_when_the_host_is_killed(tmp_path):
    script = (
        "import os, sys\nfrom data.execution import *\nimport data.execution as e\n"
        "p = dict(prompt='', completion='def f():\\n    while True: pass', test='f()', entry_point='f')\n"
        "execute(p, 0.1)\nz = next(iter(e.ZYGOTES.values()))\nprint(z.process.pid, z.folder, flush=True)\nexecute(p, 60.0)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pid, folder = host.stdout.readline().split()
    time.sleep(0.3)
    processes = [int(pid), *below(int(pid))]
    assert len(processes) > 3
    host.kill()
    host.wait()
    host.stdout.close()
    end = time.monotonic() + 20
    while time.monotonic() < end and (any(map(alive, processes)) or os.path.exists(folder)):
        time.sleep(0.05)
    assert not list(filter(alive, processes))
    assert not os.path.exists(folder)


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False


def test_from_a_thread_and_beside_threads():
    results = []
    thread = threading.Thread(target=lambda: results.append(execute(ADD, 2.0, CONFIG)))
    thread.start()
    thread.join()
    assert results[0].verdict is Verdict.PASSED


# layers


@pytest.mark.skipif(not kernel.LINUX, reason="the kernel layers are Linux's")
@pytest.mark.parametrize("layer", ["namespaces", "landlock", "seccomp"])
def test_each_layer_alone(layer):
    layers = ["split", "rlimits", layer]
    config = SandboxConfig(workers=1, layers=layers)
    active = zygote_for(config).report["active"]
    if layer not in active:
        pytest.skip(f"{layer}: {zygote_for(config).report['missing'][layer]}")
    assert execute(ADD, 2.0, config).verdict is Verdict.PASSED
    attempts = {
        "namespaces": "import socket\n    socket.create_connection(('127.0.0.1', 9), 1)",
        "landlock": "open('/etc/passwd')",
        "seccomp": "import os\n    os.fork()",
    }
    attempt = (
        "    try:\n        "
        + attempts[layer].replace("\n", "\n    ")
        + "\n    except OSError: return a + b\n"
    )
    assert execute(add(attempt), 2.0, config).verdict is Verdict.PASSED
    assert sandbox_report(config).startswith("sandbox: split+rlimits")


@pytest.mark.parametrize("layers", [["split", "rlimits"], list(LAYERS)])
def test_time_is_measured_with_and_without_layers(layers):
    config = SandboxConfig(workers=1, layers=layers)
    busy = execute(add("    while True: pass\n"), 0.3, config)
    idle = execute(add("    import time; time.sleep(60)\n"), 0.3, config)
    assert (busy.verdict, idle.verdict) == (Verdict.TIMEOUT, Verdict.TIMEOUT)
    assert 0.3 <= busy.cpu < 2
    assert idle.cpu < 0.1
    crashed = execute(add("    import ctypes; ctypes.string_at(0)\n"), 3.0, config)
    assert (crashed.verdict, crashed.kind) == (Verdict.KILLED, "SIGSEGV")


def test_a_required_layer_that_is_missing_stops_everything():
    config = SandboxConfig(workers=1, layers=["split", "rlimits"], require=["split", "seccomp"])
    with pytest.raises(ValueError, match=r"sandbox.require names seccomp.*not asked for"):
        execute(ADD, 1.0, config)


def test_no_isolation_is_said_loudly():
    bare = {"active": {"split": "", "rlimits": ""}, "missing": {"seccomp": "EPERM, not permitted"}}
    assert "WARNING" in report.warning(bare)
    assert not report.warning({"active": {"landlock": "abi1"}, "missing": {}})
    line = report.report_line(bare, {"python": "3.11.1", "numpy": ""}, 2, [3.0], 4096)
    assert line == (
        "sandbox: split+rlimits | missing: seccomp (EPERM, not permitted) | python 3.11.1 | W=2 T=cpu 3s mem 4GiB"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seconds": 0}, "seconds is 0"),
        ({"workers": -1}, "workers is -1"),
        ({"require": ["vault"]}, "names the layer 'vault'"),
        ({"layers": ["seccom"]}, "names the layer 'seccom'"),
    ],
)
def test_a_wrong_setting_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        SandboxConfig(**change)


@pytest.mark.parametrize("name", ["strict", "plain"])
def test_the_configuration_files_name_every_setting(name):
    omegaconf = pytest.importorskip("omegaconf", reason="comes with hydra-core")
    settings = omegaconf.OmegaConf.load(ROOT / f"conf/sandbox/{name}.yaml")
    assert set(settings) == {field.name for field in dataclasses.fields(SandboxConfig)}
    merged = omegaconf.OmegaConf.merge(omegaconf.OmegaConf.structured(SandboxConfig), settings)
    config = omegaconf.OmegaConf.to_object(merged)
    assert set(config.layers) <= set(LAYERS)
    if name == "strict":
        assert config == SandboxConfig()


def test_a_line_that_another_program_is_writing_is_not_torn(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    code = (
        "import sys, time; from data.sandbox.cache import *\n"
        "with open(sys.argv[1], 'ab', buffering=0) as file:\n"
        "    take_turn(file, alone=True)\n"
        '    file.write(b\'{"content": "a", "verdict": \')\n'
        "    print('half', flush=True)\n"
        "    time.sleep(0.3)\n"
        "    file.write(b'\"passed\"}\\n')\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "half\n"
    cache = VerdictCache(path)
    other.communicate()
    cache.put("b", ExecutionResult(verdict=Verdict.TIMEOUT))
    assert {k: v.verdict.value for k, v in VerdictCache(path).results.items()} == {
        "a": "passed",
        "b": "timeout",
    }


# the command


def write_rows(path: Path, *changes: dict) -> Path:
    rows = [{"id": f"p{n}", "timeout": 1.0} | ADD | change for n, change in enumerate(changes)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_judges_a_file(tmp_path, capsys):
    source = write_rows(
        tmp_path / "in.jsonl", {}, {"completion": "    return 0\n"}, {"completion": "    return (\n"}
    )
    target = tmp_path / "out.jsonl"
    assert main([f"input={source}", f"output={target}", "workers=2", "require=split"]) == 0
    rows = {row["id"]: row for row in map(json.loads, target.read_text().splitlines())}
    assert [rows[f"p{n}"]["verdict"] for n in range(3)] == ["passed", "wrong_answer", "syntax_error"]
    said = capsys.readouterr().err
    assert said.startswith("sandbox: split+")
    assert "passed 1" in said


def test_the_command_goes_on_where_it_was_stopped(tmp_path):
    source = write_rows(
        tmp_path / "in.jsonl", *({"completion": f"    return a + b  # {n}\n"} for n in range(5))
    )
    target = tmp_path / "out.jsonl"
    assert main([f"input={source}", f"output={target}"]) == 0
    lines = target.read_text().splitlines()
    forged = [json.dumps(json.loads(line) | {"detail": "kept"}) for line in lines[:2]]
    changed = [json.dumps(json.loads(lines[2]) | {"content": "of another program", "detail": "kept"})]
    target.unlink()
    (tmp_path / "out.jsonl.partial").write_text("\n".join([*forged, *changed]) + '\n{"id": "p3", "ver')
    assert main([f"input={source}", f"output={target}"]) == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    kept = [row["id"] for row in rows if row["detail"] == "kept" and row["content"] != "of another program"]
    assert len(kept) == 2
    assert {row["id"] for row in rows} == {f"p{n}" for n in range(5)}
    assert len(rows) == 5


def test_the_command_judges_again_what_has_changed(tmp_path, capsys):
    source = write_rows(tmp_path / "in.jsonl", {}, {"completion": "    return 4 - a * b + 1\n"})
    target = tmp_path / "out.jsonl"
    command = [f"input={source}", f"output={target}"]
    assert main(command) == 0
    first = target.read_text()
    assert main(command) == 0
    assert "is there and whole" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
    changed = {"test": "def check(candidate):\n    assert candidate(1, 2) == 3\n"}
    write_rows(source, {}, {"completion": "    return 4 - a * b + 1\n"} | changed)
    assert main(command) == 0
    said = capsys.readouterr().err
    assert f"moved {target} to out.1.jsonl: it has other programs, tests or limits" in said
    assert "1 of 2 were judged before" in said
    assert (tmp_path / "out.1.jsonl").read_text() == first
    rows = {row["id"]: row for row in map(json.loads, target.read_text().splitlines())}
    assert [rows[f"p{n}"]["tests_total"] for n in range(2)] == [2, 1]
    assert main([*command, "memory_mb=2048"]) == 0
    said = capsys.readouterr().err
    assert "moved" in said
    assert "judged before" not in said
    assert main([*command, "memory_mb=2048"]) == 0
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.1.jsonl", "out.2.jsonl", "out.jsonl"]


def test_what_another_command_has_just_finished_is_moved_aside(tmp_path, monkeypatch):
    source, target = write_rows(tmp_path / "in.jsonl", {}), tmp_path / "out.jsonl"
    theirs = json.dumps({"id": "theirs", "content": "another", "verdict": "passed"}) + "\n"

    def after_the_other(path):
        target.write_text(theirs)
        return only_writer(path)

    monkeypatch.setattr("data.sandbox.command.only_writer", after_the_other, raising=False)
    monkeypatch.setattr("data.jsonl.only_writer", after_the_other)
    assert main([f"input={source}", f"output={target}"]) == 0
    assert (tmp_path / "out.1.jsonl").read_text() == theirs


def test_the_command_does_not_write_over_other_files(tmp_path, capsys):
    source = write_rows(tmp_path / "in.jsonl", {})
    other = tmp_path / "problems.jsonl"
    other.write_text(text := '{"task_id": "own/1", "prompt": ""}\n')
    assert main([f"input={source}", f"output={other}"]) == 1
    assert "problems.jsonl is there and holds no verdicts; name another file" in capsys.readouterr().err
    assert other.read_text() == text
    assert len([*tmp_path.iterdir()]) == 2


def test_the_command_says_when_it_failed_itself(tmp_path, monkeypatch):
    command = [f"input={write_rows(tmp_path / 'in.jsonl', {}, {})}", f"output={tmp_path / 'out.jsonl'}"]
    with monkeypatch.context() as patched:
        failed = ExecutionResult(detail="no memory for a worker")
        patched.setattr("data.sandbox.command.judge", lambda jobs, *_: ((job.key, failed) for job in jobs))
        assert main(command) == 1
    assert main(command) == 0  # the same command tries those again
    assert [path.name for path in tmp_path.glob("out*")] == ["out.jsonl"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": 1}', "line 2: no prompt, completion, test, entry_point"),
        (json.dumps({"id": "p0"} | ADD), "line 2: id 'p0' is not a new"),
        (json.dumps({"id": 2, "timeout": "3"} | ADD), "line 2: timeout '3'"),
        (json.dumps({"id": 2} | ADD | {"completion": None}), "line 2: completion is NoneType"),
        (json.dumps({"id": 2} | ADD | {"test": 3}), "line 2: test is int"),
        (json.dumps({"id": 2} | ADD | {"test": [1]}), "line 2: test is list"),
        (json.dumps({"id": 2} | ADD | {"context": 3}), "line 2: context is int"),
        (json.dumps({"id": 2} | ADD | {"mode": "free"}), "line 2: mode is 'free'"),
        (json.dumps({"id": 2} | ADD | {"timeout": float("inf")}), "line 2: timeout inf"),
        (json.dumps({"id": 2} | ADD | {"timeout": float("nan")}), "line 2: timeout nan"),
        (json.dumps({"id": True} | ADD), "line 2: id True"),
        (json.dumps(ADD), "line 2: id None"),
        (json.dumps({"id": 2} | ADD | {"test": "def check(:"}), "line 2, id 2: the test does not compile"),
        ("{", "line 2: not JSON"),
    ],
)
def test_the_command_names_the_line_of_a_mistake(tmp_path, capsys, line, words):
    source = write_rows(tmp_path / "in.jsonl", {})
    with open(source, "a") as file:
        file.write(line + "\n")
    assert main([f"input={source}", f"output={tmp_path / 'out.jsonl'}"]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["input=x"], "output= is missing"),
        (["input=x", "output=y", "worker=3"], "'worker=3' is no option"),
        (["input=x", "output=y", "seconds=soon"], "seconds=soon: a number"),
        (["input=no-such-file", "output=y"], "no-such-file does not exist"),
    ],
)
def test_the_command_names_a_wrong_argument(capsys, arguments, words):
    assert main(arguments) == 1
    assert words in capsys.readouterr().err


def test_the_command_does_not_write_over_its_input(tmp_path, capsys):
    source = write_rows(tmp_path / "in.jsonl", {})
    before = source.read_bytes()
    for output in (source, tmp_path):
        assert main([f"input={source}", f"output={output}"]) == 1
        assert "is the input or a folder" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_a_fresh_interpreter_can_execute():
    script = f"from data.execution import execute\nprint(execute({ADD!r}, 3.0).verdict)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "passed\n", done.stderr


def test_an_interpreter_installed_below_the_temporary_folder_works(tmp_path):
    """The new root has its own /tmp; a virtual environment below the machine's must stay readable in it."""
    venv.create(tmp_path / "environment", with_pip=False)
    program = {"prompt": "def f(x):\n", "completion": "    return x + 1\n", "entry_point": "f"}
    program["test"] = "def check(candidate):\n    assert candidate(1) == 2\n"
    code = f"from data.execution import execute; print(execute({program!r}).verdict)"
    python = tmp_path / "environment" / "bin" / "python"
    settings = {"cwd": Path(__file__).parents[2], "env": {"PYTHONPATH": sysconfig.get_path("purelib")}}
    done = subprocess.run([python, "-c", code], **settings, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "passed", done.stderr
