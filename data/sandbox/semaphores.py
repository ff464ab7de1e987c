"""Semaphores of `multiprocessing` for a program that has one process.

The C library makes them as files in /dev/shm, which the sandbox does not have. A program cannot start
processes either, so threads are all that can wait for one: thread pools, queues and locks of that package
then work.
"""

import _multiprocessing
import threading

RECURSIVE = 0


class Semaphore:
    """`_multiprocessing.SemLock` among the threads of one process."""

    SEM_VALUE_MAX = _multiprocessing.SemLock.SEM_VALUE_MAX

    def __init__(self, kind: int, value: int, maxvalue: int, name: str, unlink: bool) -> None:
        self.kind, self.maxvalue, self.handle, self.name = kind, maxvalue, id(self), None
        self.value, self.owner, self.held = value, 0, 0
        self.changed = threading.Condition()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        me = threading.get_ident()
        with self.changed:
            if self.kind != RECURSIVE or self.owner != me:
                seconds = timeout if block else 0
                if not self.changed.wait_for(lambda: self.value > 0, seconds):
                    return False
                self.value -= 1
            self.owner, self.held = me, self.held + 1
            return True

    def release(self) -> None:
        with self.changed:
            if self.kind == RECURSIVE and self.owner != threading.get_ident():
                raise AssertionError("attempt to release recursive lock not owned by thread")
            if self.kind != RECURSIVE and self.value >= self.maxvalue:
                raise ValueError("semaphore or lock released too many times")
            self.held -= 1
            if self.kind != RECURSIVE or self.held == 0:
                self.value, self.owner = self.value + 1, 0
                self.changed.notify()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def _count(self) -> int:
        return self.held

    def _is_mine(self) -> bool:
        return self.held > 0 and self.owner == threading.get_ident()

    def _get_value(self) -> int:
        return self.value

    def _is_zero(self) -> bool:
        return self.value == 0

    @staticmethod
    def _after_fork() -> None:
        pass


def install() -> None:
    _multiprocessing.SemLock = Semaphore
