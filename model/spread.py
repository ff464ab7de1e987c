"""Work on items in several processes at once: this one, and one of its own for each further GPU or core.

Sampling uses it. Decoding a small model on a CPU is a thousand small operations a token, which two threads
of one process hardly speed up and two processes do; several GPUs need a process each.
"""

import queue
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import Process, Queue, get_context, parent_process

Work = Callable[[Iterable], Iterator]  # items -> results
LOOK_SECONDS = 1.0  # between two looks whether the other processes are alive


class Ended:
    """A process's last message; `error` is what stopped it, if anything did."""

    def __init__(self, number: int, error: Exception | None = None) -> None:
        self.number, self.error = number, error


def spread(here: Work, elsewhere: Sequence[Work], items: Iterable) -> Iterator:
    """Yield the results of `here` and, as they arrive, of `elsewhere`, on items dealt out in turn.

    Each of `elsewhere` runs in a new process, which imports what it needs; it and the items must be
    picklable. A ValueError or OSError there is raised here, another one as a RuntimeError, and the death of
    a process as a ChildProcessError. Close the iterator to end the others early.
    """
    if not elsewhere:
        yield from here(items)
        return
    items, context, count = list(items), get_context("spawn"), len(elsewhere) + 1
    results = context.Queue()
    running = {
        number: context.Process(target=run, args=(number, work, items[number::count], results), daemon=True)
        for number, work in enumerate(elsewhere, start=1)
    }
    processes = list(running.values())
    try:
        start(processes)
        for result in here(items[::count]):
            yield result
            yield from arrived(results, running, wait=False)
        while running:
            yield from arrived(results, running, wait=True)
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()


def start(processes: Sequence[Process]) -> None:
    """Ctrl-C reaches every process of a terminal; only this one heeds it and decides what happens."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # new processes inherit that
    try:
        for process in processes:
            process.start()
    finally:
        signal.signal(signal.SIGINT, handler)


def arrived(results: Queue, running: dict[int, Process], wait: bool) -> Iterator:
    """What the other processes have sent; with `wait`, at least one message or the news that one is dead."""
    silent = 0
    while running:
        try:
            message = results.get(timeout=LOOK_SECONDS) if wait else results.get_nowait()
        except queue.Empty:
            if not wait:
                return
            dead = [process.exitcode for process in running.values() if process.exitcode is not None]
            silent += bool(dead)
            if silent == 2:  # what it had sent before would have been found at the second look
                raise ChildProcessError(
                    f"a process has died (exit code {dead[0]}; -9: killed, perhaps for want of memory); the "
                    "same command goes on, decode.processes=1 without other processes"
                ) from None
            continue
        wait = False
        if not isinstance(message, Ended):
            yield message
        elif message.error is None:
            del running[message.number]
        else:
            raise message.error


def run(number: int, work: Work, items: Sequence, results: Queue) -> None:
    """The life of another process; it ends with the first one."""
    try:
        for result in work(items):
            results.put(result)
            if not parent_process().is_alive():
                return
        results.put(Ended(number))
    except (ValueError, OSError) as error:
        results.put(Ended(number, error))
    except Exception:
        results.put(Ended(number, RuntimeError(traceback.format_exc())))
