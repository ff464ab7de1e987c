"""Text of the toy problems: steps -> docstring and body.

A body does its steps in order, one line or block each, every step in any of its styles, right or wrong.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from data.toy_primitives import Primitive

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
USUAL_STYLE = 0.7  # share of the first style among those that fit
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
    """Does it return by itself?"""
    return "return " in template


def styles_at(styles: tuple[str, ...], last: bool) -> list[str]:
    """The styles that can stand at this place: one that returns is for the end."""
    return [style for style in styles if last or not ends_function(style)]


def pick_style(rng: random.Random, styles: tuple[str, ...], last: bool) -> str:
    """The usual style or one of the others."""
    usable = styles_at(styles, last)
    if len(usable) == 1 or rng.random() < USUAL_STYLE:
        return usable[0]
    return rng.choice(usable[1:])


def same_kind(primitive: Primitive) -> bool:
    """Is the value afterwards of the type it was before?"""
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


def bug_styles(steps: list[Step]) -> Iterator[tuple[int, str, str]]:
    """(place, kind, template) of every bug that can be written at its place."""
    for place, step in enumerate(steps):
        for kind, styles in step.primitive.bugs.items():
            for template in styles_at(styles, place == len(steps) - 1):
                yield place, kind, template
