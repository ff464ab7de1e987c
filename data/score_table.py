"""A summary (data/statistics.py) as text for the terminal."""

DECODINGS = ("greedy", "sampled", "unstated")


def score_table(summary: dict) -> str:
    """Scores with intervals, verdicts, and the paired comparison when there is one."""
    lines = ["", f"{'':<18}{'pass@1':>8}  {'95 % interval':<16}{'problems':>9}{'samples each':>14}"]
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
    if "difference" in summary:
        lines += comparison_lines(summary["difference"])
    return "\n".join(lines)


def score_lines(name: str, score: dict) -> list[str]:
    """pass@1, then pass@k for the powers of two and the largest k; summary.json has every k."""
    lines = [
        f"{name:<18}{score['pass_at_1']:>8.3f}  {interval(score):<16}"
        f"{score['n_problems']:>9}{score['n_samples']:>14}"
    ]
    last = max(map(int, score["pass_at_k"]))
    for k in range(2, last + 1):
        if k & (k - 1) == 0 or k == last:
            at_k = score["pass_at_k"][str(k)]
            lines.append(f"{f'  pass@{k}':<18}{at_k['mean']:>8.3f}  {interval(at_k)}")
    return lines


def interval(score: dict) -> str:
    return f"[{score['ci_low']:.3f}, {score['ci_high']:.3f}]"


def comparison_lines(difference: dict) -> list[str]:
    lines = [f"\nagainst {difference['against']}"]
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
