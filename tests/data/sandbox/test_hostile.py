"""Every hostile program gets an honest verdict and leaves nothing behind.

All programs are judged once, in one batch; each then has its own test. What could leak is watched from
outside: listeners for connections, a secret file and a secret in the environment, names of files, processes
alive.
"""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from data.execution import Job, SandboxConfig, judge, zygote_for
from data.sandbox import kernel
from tests.data.sandbox import hostile, hostile_forged, hostile_host, hostile_peer
from tests.data.sandbox.hostile import Case

CASES = [
    *hostile.CASES,
    *hostile_peer.CASES,
    *hostile_host.CASES,
    *hostile_forged.CASES,
]  # the first also holds most of the others'
ROOT = Path(__file__).parents[3]
TOKEN = f"sandbox-breach-{os.getpid()}"
ABSTRACT = f"sandbox-test-{os.getpid()}"  # other runs of this suite on the machine have their own
STRICT = SandboxConfig(workers=4, memory_mb=1024, scratch_mb=32)
PLAIN = SandboxConfig(workers=4, memory_mb=1024, layers=["split", "rlimits"])
WATCHED = ["/", "/tmp", "/var/tmp", "/dev/shm", str(Path.home()), str(ROOT), os.path.dirname(os.__file__)]

pytestmark = pytest.mark.skipif(not kernel.LINUX, reason="the kernel layers are Linux's")


class Listeners:
    """One socket of each kind a program could reach from inside."""

    def __init__(self) -> None:
        self.sockets = {
            "tcp": socket.socket(),
            "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            "abstract": socket.socket(socket.AF_UNIX),
            "abstract datagram": socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        }
        self.sockets["tcp"].bind(("127.0.0.1", 0))
        self.sockets["udp"].bind(("127.0.0.1", 0))
        self.sockets["abstract"].bind(f"\0{ABSTRACT}")
        self.sockets["abstract datagram"].bind(f"\0{ABSTRACT}-dgram")
        for one in self.sockets.values():
            one.setblocking(False)
            with contextlib.suppress(OSError):
                one.listen()

    def heard(self) -> list[str]:
        heard = []
        for name, one in self.sockets.items():
            with contextlib.suppress(BlockingIOError):
                one.accept() if one.type == socket.SOCK_STREAM else one.recv(10)
                heard.append(name)
        return heard


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The verdicts of all cases with all layers, and what was seen from outside."""
    folder = tmp_path_factory.mktemp("secrets")
    secret = folder / "secret.txt"
    secret.write_text("secret")
    secret.chmod(0o600)
    listeners = Listeners()
    os.environ["SANDBOX_TEST_SECRET"] = "secret"
    words = {
        "TCP_PORT": str(listeners.sockets["tcp"].getsockname()[1]),
        "UDP_PORT": str(listeners.sockets["udp"].getsockname()[1]),
        "SECRET_FILE": str(secret),
        "SECRET_FOLDER": str(folder),
        "PROJECT": str(ROOT),
        "TOKEN": TOKEN,
        "sandbox-test": ABSTRACT,
    }
    active = zygote_for(STRICT).report["active"]
    cases = [case for case in CASES if all(layer in active for layer in case.needs)]
    ordered = [case for case in cases if case.name.startswith("after:")]
    results = dict(judge(jobs([c for c in cases if c not in ordered], words), STRICT))
    results |= dict(judge(jobs(ordered, words), SandboxConfig(**vars(STRICT) | {"workers": 1})))
    yield {"results": results, "heard": listeners.heard(), "secret": secret}
    for one in listeners.sockets.values():
        one.close()


def jobs(cases: list[Case], words: dict[str, str]) -> list[Job]:
    return [Job(case.name, program(case, words), case.seconds) for case in cases]


def program(case: Case, words: dict[str, str]) -> dict:
    source = case.source
    for word, value in words.items():
        source = source.replace(word, value)
    return {"prompt": case.prompt, "completion": source, "test": case.test, "entry_point": "f"}


def test_there_are_enough_different_cases():
    assert len({case.name for case in CASES}) == len(CASES) >= 400


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_program(world, case):
    if case.name not in world["results"]:
        pytest.skip(f"needs {', '.join(case.needs)}, which this machine does not give")
    result = world["results"][case.name]
    assert result.verdict.value in case.verdicts, result


def test_no_connection_was_made(world):
    assert not world["heard"]


def test_the_secret_is_untouched(world):
    assert world["secret"].read_text() == "secret"
    assert world["secret"].stat().st_mode & 0o777 == 0o600
    assert len(list(world["secret"].parent.iterdir())) == 1


def test_no_file_appeared_outside(world):
    for folder in WATCHED:
        with contextlib.suppress(PermissionError, FileNotFoundError):
            assert not [name for name in os.listdir(folder) if TOKEN in name], folder
    assert not list(ROOT.rglob(f"*{TOKEN}*"))


def test_no_process_survives(world):
    """Below the zygotes there are only idle workers: a watchdog and a worker each."""
    zygotes = [zygote_for(STRICT), zygote_for(STRICT, "numpy")]
    parents = process_parents()
    below, todo = set(), [zygote.process.pid for zygote in zygotes]
    while todo:
        parent = todo.pop()
        found = [pid for pid, one in parents.items() if one == parent]
        below.update(found)
        todo += found
    each = 4  # watchdog, judge, nursery, and the next program's process, waiting
    assert len(below) == each * sum(len(zygote.idle) for zygote in zygotes)
    sleepers = [
        name for name in os.listdir("/proc") if name.isdigit() and command(name) in (b"sleep\x0030\0",)
    ]
    assert not sleepers


def command(pid: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def process_parents() -> dict[int, int]:
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{name}/stat").read_text(errors="replace")
                parents[int(name)] = int(text[text.rindex(")") + 2 :].split()[1])
    return parents


def test_cheats_fail_by_the_split_alone():
    """Without any kernel layer no cheat becomes a pass."""
    cheats = [case for case in CASES if case.name.startswith("cheat:")]
    for name, result in judge(jobs(cheats, {"TOKEN": TOKEN}), PLAIN):
        assert result.verdict.value not in ("passed", "internal_error"), (name, result)
