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

import copy
import hashlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from data.toy_primitives import PRIMITIVES, Primitive
from data.types import Problem

SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}
STARTS = {"numbers": 0.36, "text": 0.2, "words": 0.1, "natural": 0.1, "integer": 0.08, "pairs": 0.16}
LENGTHS = {1: 0.12, 2: 0.54, 3: 0.34}
NAMES = ("solve", "compute", "process", "answer", "run", "convert", "work", "evaluate")
ARGUMENTS = {
    "numbers": ("numbers", "values", "items"),
    "text": ("text", "s"),
    "words": ("words", "items"),
    "natural": ("n", "x"),
    "integer": ("n", "x"),
    "pairs": ("pairs", "records"),
}
NOUNS = {
    "numbers": "a list of numbers",
    "text": "a text",
    "words": "a list of words",
    "natural": "a number from 0 up",
    "integer": "a number",
    "pairs": "a list of (name, score) pairs",
}
# A step's variable is the first of these that the body has not used yet.
VARIABLES = {
    "words": ("words", "parts", "output", "final"),
    "counts": ("counts", "kept"),
    "natural": ("total", "value", "answer"),
    "integer": ("total", "value", "answer"),
}
OTHER_VARIABLES = ("result", "output", "final")
USUAL_STYLE = 0.7  # share of the first style among the right ones
SLIP_RATE = 0.03  # of other bugs, in every primitive
SYNTAX_RATE = 0.08  # in the primitives that have a syntax bug
LARGEST_VALUE = 20_000  # larger intermediate values make no test
TESTS = 6
MOST_TESTS = 8
PLACEHOLDER = re.compile(r"\b[A-Z]\b")


@dataclass(frozen=True)
class Step:
    """A primitive with its constants."""

    primitive: Primitive
    constants: tuple[tuple[str, int], ...]

    def fill(self, template: str) -> str:
        """Put the constants into a phrase or a code template."""
        return fill(template, self.constants)


@cache
def fill(template: str, values: tuple[tuple[str, object], ...]) -> str:
    """Replace the placeholders (whole capital letters) that `values` names."""
    table = dict(values)
    return PLACEHOLDER.sub(lambda match: str(table.get(match.group(), match.group())), template)


# --- compositions and their split


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
    return [
        Step(p, tuple((name, rng.choice(values)) for name, values in p.constants.items()))
        for p in map(PRIMITIVES.__getitem__, composition)
    ]


# --- text


def write_prompt(rng: random.Random, steps: list[Step], name: str, argument: str) -> str:
    """Signature and docstring."""
    takes = steps[0].primitive.takes
    phrases = [step.fill(rng.choice(step.primitive.phrases)) for step in steps]
    form = rng.randrange(3)
    if form == 0 or len(phrases) == 1:
        sentence = ", then ".join(phrases)
    elif form == 1:
        sentence = "first " + ", next ".join(phrases[:-1]) + " and finally " + phrases[-1]
    else:
        sentence = ". Then ".join(phrases) + ". Return the result"
    if takes == "pairs" or rng.random() < 0.5:
        sentence = f"Given {NOUNS[takes]}, {sentence}."
    else:
        sentence = sentence[0].upper() + sentence[1:] + "."
    return f'def {name}({argument}):\n    """{sentence}"""\n'


def ends_function(template: str) -> bool:
    return "return " in template


def styles_at(styles: tuple[str, ...], last: bool) -> list[str]:
    """The styles that can stand at this place: one that returns is for the end."""
    return [style for style in styles if last or not ends_function(style)]


def pick_style(rng: random.Random, styles: tuple[str, ...], last: bool) -> str:
    usable = styles_at(styles, last)
    if len(usable) == 1 or rng.random() < USUAL_STYLE:
        return usable[0]
    return rng.choice(usable[1:])


def same_kind(primitive: Primitive) -> bool:
    numbers = ("natural", "integer")
    return primitive.takes == primitive.gives or (primitive.takes in numbers and primitive.gives in numbers)


def write_body(steps: list[Step], templates: list[str], argument: str, reassign: bool = True) -> str:
    """The indented body; `templates` holds one code template per step."""
    rows, variable, used = [], argument, {argument}
    for place, (step, template) in enumerate(zip(steps, templates, strict=True)):
        block, last = "Y" in PLACEHOLDER.findall(template), place == len(steps) - 1
        if same_kind(step.primitive) and reassign and not block:
            target = variable
        else:
            names = VARIABLES.get(step.primitive.gives, OTHER_VARIABLES)
            target = next(name for name in names if name not in used)
            used.add(target)
        code = fill(template, (*step.constants, ("X", variable), ("Y", target)))
        if ends_function(template):
            rows += code.split("\n")
        elif block:
            rows += code.split("\n") + [f"return {target}"] * last
        else:
            rows.append(f"return {code}" if last else f"{target} = {code}")
        variable = target
    return "".join(f"    {row}\n" for row in rows)


# --- tests


WORDS = (
    "level",
    "Anna",
    "noon",
    "a",
    "of",
    "the",
    "tree",
    "Apple",
    "sky",
    "river",
    "go",
    "Echo",
    "xyz",
    "radar",
)
EDGES = {
    "numbers": ([], [5], [0, -3]),
    "text": ("", "a", " noon "),
    "words": ([], ["tree"]),
    "natural": (0, 1, 10),
    "integer": (0, 1, -7),
    "pairs": ([], [("bob", 4)]),
}


def draw_input(rng: random.Random, kind: str) -> object:
    """A random argument, with repeats and with values near the constants of the table."""
    if kind == "numbers":
        return [rng.randint(-6, 12) for _ in range(rng.choice((1, 2, 4, 5, 6, 7, 8, 9)))]
    if kind == "words":
        return [rng.choice(WORDS) for _ in range(rng.randint(1, 7))]
    if kind == "text":
        text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4)))
        text = rng.choice((text, text, text + text[::-1], text.replace(" ", "_")))
        return rng.choice((text, f" {text} ", f"{text} "))
    if kind == "natural":
        return rng.choice((rng.randint(2, 20), rng.randint(2, 130), rng.randint(100, 400)))
    if kind == "integer":
        return rng.randint(-25, 40)
    people = ("bob", "eve", "Amy", "zoe", "kim")
    return [(rng.choice(people), rng.randint(0, 9)) for _ in range(rng.randint(1, 7))]


FAILED = object()  # the value of a program that raised


@cache
def compile_step(name: str, constants: tuple, template: str) -> Callable[[object], object] | None:
    """One step as a function; None where the template does not compile."""
    step = Step(PRIMITIVES[name], constants)
    namespace: dict = {}
    try:
        exec("def step(x):\n" + write_body([step], [template], "x"), namespace)
    except SyntaxError:
        return None
    return namespace["step"]


def apply(step: Step, template: str, value: object) -> object:
    """The value after the step, or FAILED. The argument is left as it was."""
    function = compile_step(step.primitive.name, step.constants, template)
    if function is None or value is FAILED:
        return FAILED
    try:
        return function(copy.copy(value))
    except Exception:
        return FAILED


def small(value: object) -> bool:
    if isinstance(value, (list, dict)):
        return all(map(small, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or abs(value) <= LARGEST_VALUE


def trace(steps: list[Step], value: object) -> list[object]:
    """The values before, between and after the right steps."""
    values = [value]
    for step in steps:
        values.append(apply(step, step.primitive.right[0], values[-1]))
        if not small(values[-1]):
            break
    return values


def survives(steps: list[Step], values: list[object], place: int, template: str | None) -> bool:
    """Is the result right although step `place` is written as `template` (None: left out)?

    The later steps are tried in all their styles: one may forgive what another does not.
    """
    value = values[place] if template is None else apply(steps[place], template, values[place])
    later = steps[place + 1 :]
    for number in range(max((len(step.primitive.right) for step in later), default=1)):
        result = value
        for step in later:
            result = apply(step, step.primitive.right[number % len(step.primitive.right)], result)
        if equal(result, values[-1]):
            return True
    return False


def bug_styles(steps: list[Step]) -> Iterator[tuple[int, str, str]]:
    """(place, kind, template) of every bug that can be written at its place."""
    for place, step in enumerate(steps):
        for kind, styles in step.primitive.bugs.items():
            for template in styles_at(styles, place == len(steps) - 1):
                yield place, kind, template


def equal(value: object, expected: object) -> bool:
    """Would `assert value == expected` hold?"""
    try:
        return value is not FAILED and bool(value == expected)
    except Exception:
        return False


def choose_tests(rng: random.Random, steps: list[Step]) -> list[tuple[object, object]] | None:
    """(argument, result) pairs under which every wrong program fails; None where the search finds none."""
    takes = steps[0].primitive.takes
    drawn = [*EDGES[takes], *(draw_input(rng, takes) for _ in range(20))]
    arguments = {repr(argument): argument for argument in drawn}.values()  # each once
    traces = [t for t in (trace(steps, argument) for argument in arguments) if small(t[-1])]
    if len(traces) < MOST_TESTS:
        return None
    if any(value is FAILED for t in traces for value in t):
        raise ValueError(f"a right solution of {[s.primitive.name for s in steps]} raised; fix the table")
    mutants = [(place, template) for place, kind, template in bug_styles(steps) if kind != "endless_loop"]
    mutants += [(place, None) for place, step in enumerate(steps) if same_kind(step.primitive)]
    caught = [
        {m for m in mutants if not survives(steps, t, *m)} | ({"echo"} if t[-1] != t[0] else set())
        for t in traces
    ]
    chosen, missing = [0], {*mutants, "echo"} - caught[0]
    while missing:
        best = max(range(len(traces)), key=lambda i: len(caught[i] & missing))
        if not caught[best] & missing or len(chosen) == MOST_TESTS:
            return None
        chosen.append(best)
        missing -= caught[best]
    others = [i for i in range(len(traces)) if i not in chosen]
    others.sort(key=lambda i: any(traces[i][-1] == traces[j][-1] for j in chosen))  # new results first
    chosen += others[: max(1, TESTS - len(chosen))]
    results = [traces[i][-1] for i in chosen]
    if all(result == results[0] for result in results):
        return None
    return [(traces[i][0], traces[i][-1]) for i in chosen]


def write_test(tests: list[tuple[object, object]]) -> str:
    rows = (f"    assert candidate({argument!r}) == {result!r}\n" for argument, result in tests)
    return "def check(candidate):\n" + "".join(rows)


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
    problems, seen = [], set()
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
        tests = None if docstring in seen else choose_tests(rng, steps)
        if tests is None:
            continue
        seen.add(docstring)
        right = [pick_style(rng, s.primitive.right, s is steps[-1]) for s in steps]
        problems.append(
            Problem(
                task_id=f"toy/{split}/{len(problems)}"
                if seed == 0
                else f"toy/{split}/{seed}/{len(problems)}",
                prompt=prompt,
                test=write_test(tests),
                entry_point=name,
                canonical_solution=write_body(steps, right, argument),
                split=split,
                meta={
                    "family": steps[-1].primitive.family,
                    "composition": list(composition),
                    "constants": [dict(step.constants) for step in steps],
                    "bugs": [
                        {
                            "step": composition[place],
                            "kind": kind,
                            "body": write_body(steps, right[:place] + [bug] + right[place + 1 :], argument),
                        }
                        for place, kind, bug in bug_styles(steps)
                    ],
                },
            )
        )
    if len(problems) < count:
        raise ValueError(f"only {len(problems)} different {split} problems found, {count} asked for")
    return problems


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
