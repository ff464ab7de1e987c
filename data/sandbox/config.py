"""What a sandbox may be told. Plain types only: the same class types conf/sandbox/*.yaml."""

from dataclasses import dataclass, field

LAYERS = ("split", "rlimits", "capabilities", "namespaces", "tmpfs", "landlock", "seccomp", "cgroup")


@dataclass
class SandboxConfig:
    """Limits of one program and the layers around it. Not frozen: OmegaConf would make its node read-only."""

    seconds: float = 3.0  # CPU time of a program, and the longest it may sit idle; wall cap 3 x this + 1 s
    judge_seconds: float = 30.0  # CPU time of the tests themselves
    memory_mb: int = 4096  # address space of the program
    output_mb: int = 16  # standard output and error together, and the largest file
    scratch_mb: int = 256  # the private temporary folder (needs the layer tmpfs)
    processes: int = 64  # threads and processes of one program, where the kernel counts them per sandbox
    files: int = 64  # open descriptors
    workers: int = 0  # programs at a time; 0: one per core
    seed: int = 0  # of `random` and `numpy.random` in program and tests; -1: unseeded
    layers: list[str] = field(default_factory=lambda: list(LAYERS))  # to try
    require: list[str] = field(default_factory=lambda: ["split", "rlimits"])  # refuse to start without these

    def __post_init__(self) -> None:
        for name, positive in (
            ("seconds", self.seconds),
            ("judge_seconds", self.judge_seconds),
            ("memory_mb", self.memory_mb),
            ("output_mb", self.output_mb),
            ("scratch_mb", self.scratch_mb),
            ("processes", self.processes),
            ("files", self.files),
        ):
            if not positive > 0:
                raise ValueError(f"sandbox.{name} is {positive}; a positive number expected")
        if self.workers < 0:
            raise ValueError(f"sandbox.workers is {self.workers}; 0 (one per core) or more expected")
        for option, names in (("layers", self.layers), ("require", self.require)):
            for name in names:
                if name not in LAYERS:
                    raise ValueError(
                        f"sandbox.{option} names the layer {name!r}; known are {', '.join(LAYERS)}"
                    )
