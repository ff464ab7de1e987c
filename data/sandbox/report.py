"""The sandbox in one line: which layers hold, which are missing and why, and whether that is enough."""

from collections.abc import Collection

from data.sandbox.config import LAYERS


def report_line(report: dict, about: dict, workers: int, seconds: Collection[float], memory_mb: int) -> str:
    """E.g. `sandbox: split+rlimits+landlock(abi7) | missing: seccomp (EPERM) | python 3.11 | W=2 T=cpu 3s
    mem 4GiB`."""
    active, missing = report["active"], report["missing"]
    held = "+".join(f"{n}({active[n]})" if active[n] else n for n in LAYERS if n in active)
    lacking = ", ".join(f"{n} ({missing[n]})" for n in LAYERS if n in missing) or "none"
    times = " to ".join(f"{s:g}" for s in dict.fromkeys((min(seconds), max(seconds))))
    numpy = f" numpy {about['numpy']}" if about.get("numpy") else ""
    return (
        f"sandbox: {held} | missing: {lacking} | python {about['python']}{numpy} | "
        f"W={workers} T=cpu {times}s mem {memory_mb / 1024:g}GiB"
    )


def check_required(report: dict, require: list[str]) -> None:
    """ValueError when a required layer is missing."""
    for layer in require:
        if layer in report["missing"]:
            raise ValueError(
                f"sandbox.require names {layer}, which this machine does not give: "
                f"{report['missing'][layer]}; remove it from sandbox.require or run where it works"
            )


def warning(report: dict) -> str:
    """A loud line when programs could reach files or the network, else empty."""
    if any(layer in report["active"] for layer in ("seccomp", "landlock", "namespaces")):
        return ""
    return (
        "sandbox: WARNING: no kernel isolation. Programs run with your rights: they can read and write your "
        "files and use the network. Run in a container or virtual machine."
    )
