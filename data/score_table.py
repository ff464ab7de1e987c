"""A summary (data/statistics.py) as text for the terminal."""

DECODINGS = ("greedy", "sampled", "unstated")
CELLS = 3  # pass@k on a line


def score_table(summary: dict) -> str:
    """Scores with intervals, verdicts, and the paired comparison when there is one."""
    lines = ["", f"{'decoding':<18}{'pass@1':>8}  {'95 % interval':<16}{'problems':>9}{'samples each':>14}"]
    sections = [("", summary)] + ([("base tests ", summary["base"])] if "base" in summary else [])
    for prefix, section in sections:
        lines += [
            line
            for name in DECODINGS
            if name in section
            for line in score_lines(prefix + name, section[name])
        ]
    lines.append("verdicts    " + ", ".join(f"{kind} {n}" for kind, n in summary["verdicts"].items()))
    if summary.get("extraction_failed"):
        lines.append(f"extraction  failed on {summary['extraction_failed']}: the entry point is not in them")
    if "protocol" in summary:
        lines.append("protocol    {name} {digest}".format(**summary["protocol"]))
    if "seconds" in summary:
        lines.append("seconds     " + ", ".join(f"{name} {s:g}" for name, s in summary["seconds"].items()))
    if "difference" in summary:
        lines += comparison_lines(summary["difference"])
    return "\n".join(lines)


def score_lines(name: str, score: dict) -> list[str]:
    """pass@1, then pass@k for every other k, some to a line."""
    cells = [
        f"pass@{k:<4}{at_k['mean']:.3f} {interval(at_k)}"
        for k, at_k in score["pass_at_k"].items()
        if k != "1"
    ]
    return [
        f"{name:<18}{score['pass_at_1']:>8.3f}  {interval(score):<16}"
        f"{score['n_problems']:>9}{score['n_samples']:>14}",
        *("  " + "   ".join(cells[i : i + CELLS]) for i in range(0, len(cells), CELLS)),
    ]


def interval(score: dict) -> str:
    return f"[{score['ci_low']:.3f}, {score['ci_high']:.3f}]"


def comparison_lines(difference: dict) -> list[str]:
    lines = [f"\nagainst {difference['against']}"]
    lines += [f"  note: {note}" for note in difference["notes"]]
    for name in DECODINGS:
        if name in difference:
            d = difference[name]
            lines.append(
                f"{name:<18}{d['mean']:>+8.3f}  [{d['ci_low']:+.3f}, {d['ci_high']:+.3f}]  "
                f"p {d['p_value']:.2g}, fixed {d['fixed']}, broken {d['broken']} of {d['n_problems']}"
            )
            lines += [f"  {kind} {shortened(d[f'{kind}_problems'])}" for kind in ("fixed", "broken")]
    return lines


def shortened(tasks: list[str], limit: int = 6) -> str:
    return (", ".join(tasks[:limit]) or "none") + f", and {len(tasks) - limit} more" * (len(tasks) > limit)
