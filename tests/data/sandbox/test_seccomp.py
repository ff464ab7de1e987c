"""The filters, run on an interpreter of their instructions: every call number, both architectures."""

import pytest

from data.sandbox import seccomp
from data.sandbox.seccomp import ALLOW, ERRNO, KILL, TO_DENY, Filter, common_rules, own_rules

DENY = TO_DENY[1]
PID = 4242
MACHINES = ["x86_64", "aarch64"]


class Filters:
    """Those of a program's process; the kernel takes the strictest answer."""

    def __init__(self, own_root: bool, machine: str) -> None:
        self.all = [Filter(common_rules(), machine), Filter(own_rules(own_root), machine)]

    def run(self, *call: int) -> int:
        strictness = {KILL: 2, ALLOW: 0}
        return max((run(one, *call) for one in self.all), key=lambda answer: strictness.get(answer, 1))


def run(filter: Filter, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: a classic BPF machine with one register."""
    memory = {0: number, 4: architecture}
    for index in range(6):
        value = arguments[index] if index < len(arguments) else 0
        memory[16 + 8 * index], memory[20 + 8 * index] = value & 0xFFFFFFFF, value >> 32
    at = register = 0
    while True:
        code, yes, no, value = filter.code[at]
        value = PID if value == seccomp.OWN_PID else value
        at += 1
        if code == seccomp.RETURN:
            return value
        if code == seccomp.LOAD:
            register = memory[value]
        elif code == seccomp.AND:
            register &= value
        else:
            holds = {
                seccomp.JUMP_EQUAL: register == value,
                seccomp.JUMP_GREATER_EQUAL: register >= value,
                seccomp.JUMP_ANY_BIT: bool(register & value),
            }[code]
            at += yes if holds else no


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("own_root", [False, True])
def test_exactly_the_listed_calls_are_denied(machine, own_root):
    column, filters = MACHINES.index(machine), Filters(own_root, machine)
    denied = seccomp.DENIED if own_root else seccomp.DENIED | seccomp.MODES_AND_TIMES
    rules = common_rules() + own_rules(own_root)
    special = {pair[column] for pair, body in rules if body != [TO_DENY]}
    assert len({pair[column] for pair, _ in rules if pair[column]}) == sum(bool(p[column]) for p, _ in rules)
    numbers = {pair[column] for pair in denied.values()} - {None}
    assert not numbers & special
    for filter in filters.all:
        assert all(0 <= line[1] < 256 and 0 <= line[2] < 256 for line in filter.code)
    for number in set(range(seccomp.LAST_KNOWN + 1)) - special:
        answer = filters.run(seccomp.ARCHITECTURE[machine], number)
        assert answer == (DENY if number in numbers else ALLOW), number


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_are_judged_by_their_arguments(machine):
    column, filters = MACHINES.index(machine), Filters(True, machine)

    def answer(pair: tuple[int, int], *arguments: int) -> bool:
        found = filters.run(seccomp.ARCHITECTURE[machine], pair[column], *arguments)
        assert found in (ALLOW, DENY)
        return found == ALLOW

    for pair in seccomp.TO_ITSELF.values():
        assert answer(pair, PID, 9)
        assert not answer(pair, 1, 9)
        assert not answer(pair, 0, 9)
        assert not answer(pair, 0xFFFFFFFF, 9)
    for pair in seccomp.TO_ITSELF_OR_ZERO.values():
        assert answer(pair, PID)
        assert answer(pair, 0)
        assert not answer(pair, PID + 1)
    assert answer(seccomp.CLONE, 0x3D0F00 | seccomp.CLONE_THREAD)
    assert not answer(seccomp.CLONE, 17)
    assert answer(seccomp.SOCKETPAIR, 1, 1 | 0o2000000)
    assert not answer(seccomp.SOCKETPAIR, 1, 2)
    assert not answer(seccomp.SOCKETPAIR, 1, 5)
    assert answer(seccomp.SENDTO, 3, 0, 0, 0, 0)
    assert not answer(seccomp.SENDTO, 3, 0, 0, 0, 1)
    assert not answer(seccomp.SENDTO, 3, 0, 0, 0, 1 << 32)
    assert answer(seccomp.SETPRIORITY, 0, 0)
    assert answer(seccomp.SETPRIORITY, 0, PID)
    assert not answer(seccomp.SETPRIORITY, 0, 1)
    assert not answer(seccomp.SETPRIORITY, 1, 0)
    for pair, allowed, refused in (
        (seccomp.FCNTL, 2, 8),
        (seccomp.FCNTL, 1, 15),
        (seccomp.IOCTL, 0x5401, 0x5412),
    ):
        assert answer(pair, 3, allowed)
        assert not answer(pair, 3, refused)
    assert answer(seccomp.PRCTL, 15)
    assert not answer(seccomp.PRCTL, 1)


def test_other_architectures_and_unknown_numbers():
    native = seccomp.ARCHITECTURE["x86_64"]
    for filter in Filters(True, "x86_64").all:
        assert run(filter, 0x40000003, 1) == KILL  # 32-bit calls
        assert run(filter, native, seccomp.X32_BIT + 1) == KILL
        assert run(filter, native, 5000) == ERRNO | 38
    assert Filters(True, "x86_64").run(native, seccomp.CLONE3[0]) == ERRNO | 38
    with pytest.raises(OSError, match="riscv64"):
        Filter(own_rules(True), "riscv64")


@pytest.mark.parametrize("machine", MACHINES)
def test_the_nursery_may_go_on_after_it_has_loaded_its_part(machine):
    column, common = MACHINES.index(machine), Filter(common_rules(), machine)
    known = seccomp.DENIED | seccomp.MODES_AND_TIMES | seccomp.TO_ITSELF
    for name in (*seccomp.OF_THE_NURSERY, *seccomp.TO_ITSELF):
        number = known[name][column]
        assert number is None or run(common, seccomp.ARCHITECTURE[machine], number, 1) == ALLOW, name
    assert run(common, seccomp.ARCHITECTURE[machine], seccomp.CLONE[column], 17) == ALLOW  # fork
