"""A system-call filter written by hand: what no program under test needs is refused with EPERM.

A denied call looks like a missing permission, so programs get an ordinary exception. Allowed by default,
because a list of what Python, NumPy and three C libraries call would be wrong on the next machine. Two
filters share the list, and the stricter answer counts: the nursery loads the long one for all programs,
because the kernel takes a while to compile it, each program's process a short one. Numbers for x86-64 and
aarch64; elsewhere the layer is missing. Facts from <linux/audit.h>, <linux/seccomp.h>, the kernel's tables.
"""

import ctypes
import errno
import os

from data.sandbox import kernel

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
SET_MODE_FILTER, FLAG_SPEC_ALLOW = 1, 4  # without the flag, kernels before 5.16 slow every memory access
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000
LAST_KNOWN = 462  # mseal; what came later is answered as if the kernel did not have it

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16

# name: (x86-64, aarch64); None where the architecture has no such call
DENIED = {
    # network and local sockets (socketpair has a rule of its own)
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "accept4": (288, 242),
    "bind": (49, 200), "listen": (50, 201),
    # new programs and processes (clone and clone3 have rules)
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    # other processes' memory, descriptors, groups
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "setsid": (112, 157),
    "setpgid": (109, 154),
    "move_pages": (279, 239), "migrate_pages": (256, 238), "ioprio_set": (251, 30),
    # events of files that may not be opened
    "inotify_init": (253, None), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27),
    # attributes that outlive a write, and Landlock does not know
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    # shared memory, semaphores, queues, files without a name
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181), "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # namespaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    # large kernel surfaces nobody needs here
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "bpf": (321, 280), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "seccomp": (317, 277), "personality": (135, 92),
    # the machine
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "sethostname": (170, 161),
    "setdomainname": (171, 162), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "acct": (163, 89),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "syslog": (103, 116), "vhangup": (153, 58),
    # identity
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setgroups": (116, 159), "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151),
    "setfsgid": (123, 152), "capset": (126, 91),
}  # fmt: skip
# denied unless the root folder is our own read-only one: Landlock does not restrict them
MODES_AND_TIMES = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip
# first argument: a process, which must be the caller (the last two also take 0)
TO_ITSELF = {
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}  # fmt: skip
TO_ITSELF_OR_ZERO = {
    "prlimit64": (302, 261), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274),
}  # fmt: skip
CLONE, CLONE3, CLONE_THREAD = (56, 220), (435, 435), 0x00010000
SOCKETPAIR, SENDTO, SETPRIORITY, FCNTL, IOCTL, PRCTL = (
    (53, 199),
    (44, 206),
    (141, 140),
    (72, 25),
    (16, 29),
    (157, 167),
)
SET_OWNER = (8, 15)  # fcntl F_SETOWN, F_SETOWN_EX: would have the kernel signal another process
DENIED_IOCTLS = (0x5412, 0x541C, 0x8901, 0x8902)  # TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP
DENIED_PRCTLS = (1, 22, 35)  # PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_MM


class Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint32),
    ]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction))]


# what a worker's nursery does and no program may: these wait for the second filter
OF_THE_NURSERY = frozenset(
    {
        "io_uring_setup", "io_uring_register", "mount", "umount2", "setsid", "capset", "seccomp",
        *MODES_AND_TIMES,
    }
)  # fmt: skip

OWN_PID = -1  # stands for the caller's process id until `load` fills it in
Line = tuple[int, ...]  # (code, value, instructions to skip when true, when false)
Rule = tuple[tuple[int | None, int | None], list[Line]]  # numbers of a call, what happens to it
TO_ALLOW: Line = (RETURN, ALLOW)
TO_DENY: Line = (RETURN, ERRNO | errno.EPERM)
LEAF = 10  # numbers compared one after the other at the end of the search


class Filter:
    """The filter as instructions: a search tree over call numbers, because the kernel, to know which calls
    need no check, walks the filter once for every number when it is loaded.

    `rules` are pairs of a call's numbers and what happens to it.
    """

    def __init__(self, rules: list[Rule], machine: str = kernel.MACHINE) -> None:
        if machine not in ARCHITECTURE:
            raise OSError(errno.ENOSYS, f"no system-call table for {machine}")
        column = 0 if machine == "x86_64" else 1
        bodies = {number: body for pair, body in rules if (number := pair[column]) is not None}
        code = [
            (LOAD, ARCHITECTURE_AT),
            (JUMP_EQUAL, ARCHITECTURE[machine], 1, 0),
            (RETURN, KILL),
            (LOAD, NUMBER_AT),
            (JUMP_GREATER_EQUAL, X32_BIT, 0, 1),
            (RETURN, KILL),
            (JUMP_GREATER_EQUAL, LAST_KNOWN + 1, 0, 1),
            (RETURN, ERRNO | errno.ENOSYS),
            *search(sorted(bodies.items())),
        ]
        padded = [(*line, 0, 0)[:4] for line in code]
        self.code = [(operation, yes, no, value) for operation, value, yes, no in padded]
        self.array = (Instruction * len(self.code))(*(Instruction(*line) for line in self.code))
        self.words = ctypes.cast(self.array, ctypes.POINTER(ctypes.c_uint32))  # two an instruction
        self.own_pid_at = [2 * index + 1 for index, line in enumerate(self.code) if line[3] == OWN_PID]
        self.program = Program(len(self.code), self.array)
        self.call = kernel.prepared(
            kernel.SYS_SECCOMP, SET_MODE_FILTER, FLAG_SPEC_ALLOW, ctypes.byref(self.program)
        )

    def load(self) -> None:
        """Bind this process, for good. Needs no privilege after PR_SET_NO_NEW_PRIVS."""
        pid = os.getpid()
        for index in self.own_pid_at:
            self.words[index] = pid
        kernel.run_prepared([self.call])


def search(rules: list[tuple[int, list[Line]]]) -> list[Line]:
    """Code that finds the call's number among `rules`, sorted, and runs its body; any other number is
    allowed."""
    if len(rules) == 1 and rules[0][1] != [TO_DENY]:
        number, body = rules[0]
        return [(JUMP_EQUAL, number, 0, len(body)), *body, TO_ALLOW]
    if len(rules) <= LEAF and all(body == [TO_DENY] for _, body in rules):
        tests = [(JUMP_EQUAL, number, len(rules) - index, 0) for index, (number, _) in enumerate(rules)]
        return [*tests, TO_ALLOW, TO_DENY]
    middle = len(rules) // 2
    below, above = search(rules[:middle]), search(rules[middle:])
    return [(JUMP_GREATER_EQUAL, rules[middle][0], len(below), 0), *below, *above]


def common_rules() -> list[Rule]:
    """What a nursery does without, too: it loads this once, and all programs' processes inherit it."""
    is_zero = [load_argument(0), (JUMP_EQUAL, 0, 0, 1), TO_ALLOW, TO_DENY]
    return [
        *((pair, [TO_DENY]) for name, pair in DENIED.items() if name not in OF_THE_NURSERY),
        (CLONE3, [(RETURN, ERRNO | errno.ENOSYS)]),  # its flags are in memory; the C library falls back
        # a datagram pair could send to any local address; a stream pair reaches only its other end
        (SOCKETPAIR, [load_argument(0), (JUMP_EQUAL, 1, 0, 4),
                      load_argument(1), (AND, 0xF), (JUMP_EQUAL, 1, 0, 1), TO_ALLOW, TO_DENY]),
        (SENDTO, [load_argument(4), (JUMP_EQUAL, 0, 0, 3), load_argument(4, 4), *is_zero[1:]]),
        (FCNTL, refuse_values(1, SET_OWNER)),
        (IOCTL, refuse_values(1, DENIED_IOCTLS)),
    ]  # fmt: skip


def own_rules(own_root: bool) -> list[Rule]:
    """The rest, loaded by each program's process: what depends on its number, what the nursery needs."""
    itself = [load_argument(0), (JUMP_EQUAL, OWN_PID, 0, 1), TO_ALLOW, TO_DENY]
    or_zero = [load_argument(0), (JUMP_EQUAL, 0, 1, 0), (JUMP_EQUAL, OWN_PID, 0, 1), TO_ALLOW, TO_DENY]
    denied = DENIED if own_root else DENIED | MODES_AND_TIMES
    return [
        *((pair, [TO_DENY]) for name, pair in denied.items() if name in OF_THE_NURSERY),
        *((pair, itself) for pair in TO_ITSELF.values()),
        *((pair, or_zero) for pair in TO_ITSELF_OR_ZERO.values()),
        (CLONE, [load_argument(0), (JUMP_ANY_BIT, CLONE_THREAD, 0, 1), TO_ALLOW, TO_DENY]),
        (SETPRIORITY, [load_argument(0), (JUMP_EQUAL, 0, 1, 0), TO_DENY, load_argument(1), *or_zero[1:]]),
        (PRCTL, refuse_values(0, DENIED_PRCTLS)),
    ]


def refuse_values(argument: int, values: tuple[int, ...]) -> list[Line]:
    """Deny a call by the value of one argument."""
    tests = [(JUMP_EQUAL, value, len(values) - index, 0) for index, value in enumerate(values)]
    return [load_argument(argument), *tests, TO_ALLOW, TO_DENY]


def load_argument(index: int, half: int = 0) -> Line:
    """Load the low 32 bits of an argument (half 4: the high ones, on these little-endian machines)."""
    return LOAD, ARGUMENTS_AT + 8 * index + half
