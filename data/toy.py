"""Beginner problems put together from small steps, and demonstrations with the bugs beginners make.

A composition is a path of one to three primitives (data/toy_primitives.py) whose types fit. Its docstring
names the steps in order, its body does them in order, so a small model can learn phrase -> code and put
steps together that it never saw together: the split is by hash of the composition, and compositions of
one primitive are always "train", so every primitive is demonstrated.

In the demonstrations a part of the primitives (`bug_prone`) is written with one common bug more often than
rightly. Likelihood training reproduces it; execution can tell. The tests of a problem are searched for: every
bug of every step must fail, as must a program that leaves a step out, a constant and an echo. Compositions
for which no inputs do that (sort, then sum) are no problems.
"""

import hashlib
import random
from functools import cache

from data.toy_checks import choose_tests, write_test
from data.toy_primitives import PRIMITIVES, Primitive
from data.toy_programs import (
    ARGUMENTS,
    NAMES,
    Step,
    bug_styles,
    pick_style,
    styles_at,
    write_body,
    write_prompt,
)
from data.types import Problem

SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}
STARTS = {"numbers": 0.36, "text": 0.2, "words": 0.1, "natural": 0.1, "integer": 0.08, "pairs": 0.16}
LENGTHS = {1: 0.12, 2: 0.54, 3: 0.34}
SLIP_RATE = 0.03  # of other bugs, in every primitive
SYNTAX_RATE = 0.08  # in the primitives that have a syntax bug


def split_of(composition: tuple[str, ...]) -> str:
    """The split a composition belongs to, whatever its constants and wording."""
    if len(composition) == 1:
        return "train"
    place = int(hashlib.sha256("+".join(composition).encode()).hexdigest()[:12], 16) / 16**12
    for split, share in SPLITS.items():
        place -= share
        if place < 0:
            return split
    return split


@cache
def followers(kind: str) -> tuple[str, ...]:
    """Names of the primitives that take a value of this type."""
    return tuple(
        p.name for p in PRIMITIVES.values() if p.takes == kind or (p.takes, kind) == ("integer", "natural")
    )


def weighted(rng: random.Random, weights: dict) -> object:
    """A key, drawn with the weight it maps to."""
    return rng.choices(list(weights), list(weights.values()))[0]


def draw_composition(rng: random.Random) -> tuple[str, ...]:
    """A random path through the types: start and length by weight, then every fitting primitive alike."""
    length, start = weighted(rng, LENGTHS), weighted(rng, STARTS)
    while True:
        kind, path = start, []
        while len(path) < length and followers(kind):
            path.append(rng.choice(followers(kind)))
            kind = PRIMITIVES[path[-1]].gives
        if len(path) == length and len(set(path)) == length:
            return tuple(path)


def draw_steps(rng: random.Random, composition: tuple[str, ...]) -> list[Step]:
    """The primitives with constants drawn from their ranges."""
    return [
        Step(p, tuple((name, rng.choice(values)) for name, values in p.constants.items()))
        for p in map(PRIMITIVES.__getitem__, composition)
    ]


@cache
def is_sound(composition: tuple[str, ...]) -> bool:
    """Can tests tell every bug of this composition from the right program, for some constants?"""
    rng = random.Random("/".join(composition))
    return any(choose_tests(rng, draw_steps(rng, composition)) for _ in range(2))


# --- problems and demonstrations


def toy_problems(split: str, count: int, seed: int = 0) -> list[Problem]:
    """`count` problems of a split with different docstrings; the same arguments give the same problems.

    `meta` holds family, composition, constants and bugs: [{step, kind, body}], one per bug of each step.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} of the toy problems; one of {', '.join(SPLITS)} expected")
    rng = random.Random(f"problems/{split}/{seed}")
    prefix = f"toy/{split}/" if seed == 0 else f"toy/{split}/{seed}/"
    problems: dict[str, Problem] = {}  # by docstring
    for _ in range(1000 + 100 * count):
        if len(problems) == count:
            break
        composition = draw_composition(rng)
        if split_of(composition) != split:
            continue
        steps = draw_steps(rng, composition)
        name, argument = rng.choice(NAMES), rng.choice(ARGUMENTS[steps[0].primitive.takes])
        prompt = write_prompt(rng, steps, name, argument)
        docstring = prompt.split("\n")[1]
        tests = None if docstring in problems else choose_tests(rng, steps)
        if tests is None:
            continue
        right = [pick_style(rng, step.primitive.right, step is steps[-1]) for step in steps]
        problems[docstring] = Problem(
            task_id=f"{prefix}{len(problems)}",
            prompt=prompt,
            test=write_test(tests),
            entry_point=name,
            canonical_solution=write_body(steps, right, argument),
            split=split,
            meta=describe(steps, right, argument),
        )
    if len(problems) < count:
        raise ValueError(f"only {len(problems)} different {split} problems found, {count} asked for")
    return list(problems.values())


def describe(steps: list[Step], right: list[str], argument: str) -> dict:
    """What a problem is made of, and every bug of each step put into its canonical solution."""
    return {
        "family": steps[-1].primitive.family,
        "composition": [step.primitive.name for step in steps],
        "constants": [dict(step.constants) for step in steps],
        "bugs": [
            {
                "step": steps[place].primitive.name,
                "kind": kind,
                "body": write_body(steps, [*right[:place], bug, *right[place + 1 :]], argument),
            }
            for place, kind, bug in bug_styles(steps)
        ],
    }


def common_bugs(primitive: Primitive) -> list[str]:
    """Kinds of bug that can be a primitive's habit: no syntax errors, writable at every place it can have."""
    last = not followers(primitive.gives)
    return [kind for kind, styles in primitive.bugs.items() if kind != "syntax" and styles_at(styles, last)]


def bug_prone(bug_share: float = 0.4, bug_seed: int = 0) -> dict[str, str]:
    """Primitive -> the kind of bug that is more common than its right code.

    Each primitive has a candidate kind by hash; of every kind about `bug_share` of the primitives are taken.
    """
    ranked = []
    for primitive in PRIMITIVES.values():
        number = int(hashlib.sha256(f"{bug_seed}/{primitive.name}".encode()).hexdigest()[:12], 16)
        kinds = common_bugs(primitive)
        ranked.append((kinds[number % len(kinds)], number // 7, primitive.name))
    ranked.sort()
    return {
        name: kind
        for place, (kind, _, name) in enumerate(ranked)
        if int((place + 1) * bug_share) > int(place * bug_share)
    }


def demonstrations(
    count: int, seed: int = 0, bug_share: float = 0.4, bug_rate: float = 0.65, bug_seed: int = 0
) -> list[dict]:
    """`count` rows {task_id, prompt, completion, correct, composition, bugs} over the training compositions.

    A bug-prone primitive is written with its common bug in `bug_rate` of its uses. `bugs` names (step, kind).
    """
    rng = random.Random(f"demonstrations/{seed}")
    habits, rows = bug_prone(bug_share, bug_seed), []
    while len(rows) < count:
        composition = draw_composition(rng)
        if split_of(composition) != "train" or not is_sound(composition):
            continue
        steps = draw_steps(rng, composition)
        name, argument = rng.choice(NAMES), rng.choice(ARGUMENTS[steps[0].primitive.takes])
        templates, bugs = draw_templates(rng, steps, habits, bug_rate)
        rows.append(
            {
                "task_id": f"toy/demonstration/{len(rows)}",
                "prompt": write_prompt(rng, steps, name, argument),
                "completion": write_body(steps, templates, argument, reassign=rng.random() < 0.8),
                "correct": not bugs,
                "composition": list(composition),
                "bugs": bugs,
            }
        )
    return rows


def draw_templates(
    rng: random.Random, steps: list[Step], habits: dict[str, str], bug_rate: float
) -> tuple[list[str], list[list[str]]]:
    """One template per step, and [step, kind] of those that are bugs."""
    templates, bugs = [], []
    for step in steps:
        last = step is steps[-1]
        kind = draw_bug(rng, step.primitive, habits, bug_rate, last)
        styles = step.primitive.bugs[kind] if kind else step.primitive.right
        templates.append(pick_style(rng, styles, last))
        bugs += [[step.primitive.name, kind]] * bool(kind)
    return templates, bugs


def draw_bug(
    rng: random.Random, primitive: Primitive, habits: dict[str, str], bug_rate: float, last: bool
) -> str | None:
    """The kind of bug in one use of a primitive, None for the right code."""
    habit = habits.get(primitive.name)
    chance = rng.random()
    if habit and chance < bug_rate:
        return habit
    if "syntax" in primitive.bugs and chance > 1 - SYNTAX_RATE:
        return "syntax"
    if rng.random() < SLIP_RATE:
        usable = [kind for kind, styles in primitive.bugs.items() if styles_at(styles, last)]
        return rng.choice(usable)
    return None
