"""Does a layer hold? Each is tried with what it should prevent, in a process isolated like a program's."""

import json
import os
import select
import socket
import threading

from data.sandbox import capabilities
from data.sandbox.limits import limit_program

PROBE_LIMITS = {"seconds": 2.0, "memory_mb": 4096, "output_mb": 1, "files": 64}
PATIENCE_MS = 10_000


def probe(isolation: object) -> dict[str, str | None]:
    """{layer: None, or why it does not hold} for every layer that was prepared."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        try:
            os.dup2(write_end, isolation.channel)
            isolation.enter_program()
            limit_program(0, **PROBE_LIMITS, processes=isolation.processes)
            report = json.dumps(attempts(isolation)).encode()
        except BaseException as error:
            report = json.dumps({"split": f"{type(error).__name__}: {error}"}).encode()
        os.write(isolation.channel, report)
        os._exit(0)
    os.close(write_end)
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    poll.poll(PATIENCE_MS)
    with open(read_end, "rb") as file:
        text = file.read()
    os.waitpid(pid, 0)
    if not text:
        return {"split": "the probe's process died"}
    return json.loads(text)


def attempts(isolation: object) -> dict[str, str | None]:
    active = isolation.active
    results = {"rlimits": refused(use_memory)}
    if "capabilities" in active:
        results["capabilities"] = None if not any(capabilities.held()) else "some are still held"
    if isolation.own_pids and os.getppid() != 1:
        results["namespaces"] = "the nursery is not the first process"
    if "tmpfs" in active:
        view = os.statvfs(isolation.scratch)
        size = view.f_blocks * view.f_frsize >> 20
        results["tmpfs"] = None if size <= isolation.options["scratch_mb"] else f"{size} MiB"
    if isolation.ruleset is not None:
        results["landlock"] = refused(lambda: os.listdir("/")) or works(use_scratch)
    if isolation.filter is not None:
        results["seccomp"] = (
            refused(lambda: socket.socket().close())
            or refused(lambda: os.kill(os.getppid(), 0))
            or refused(fork_and_leave)
            or works(use_thread)
        )
    return results


def refused(attempt: object) -> str | None:
    """None when the attempt fails as it should."""
    try:
        attempt()
    except OSError:
        return None
    return "what it should prevent was possible"


def works(attempt: object) -> str | None:
    try:
        attempt()
    except (OSError, RuntimeError) as error:
        return f"it prevents ordinary use: {error}"
    return None


def fork_and_leave() -> None:
    if os.fork() == 0:
        os._exit(0)


def use_memory() -> None:
    """Map one byte more than is allowed. Imported here: nobody else needs it."""
    import mmap

    mmap.mmap(-1, (PROBE_LIMITS["memory_mb"] << 20) + 1)


def use_scratch() -> None:
    with open("probe", "wb") as file:
        file.write(b"x")
    os.unlink("probe")


def use_thread() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    for end in socket.socketpair():
        end.close()
