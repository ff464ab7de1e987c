"""When an answer counts as right in HumanEval+ and MBPP+ (Liu et al. 2023, 2305.01210).

The text of this file is the first part of the test that the judge runs (data/evalplus.py appends the cases
and `check`), so it imports the standard library and numpy only. Rules as in EvalPlus's repository, where
HumanEval/32 accepts any root; its release 0.3.1 fails that task even for the reference solution.
"""

import math
import reprlib

import numpy as np

SET_EQUAL = {  # MBPP+ tasks whose answer is a collection in any order
    "similar_elements",  # 2
    "find_char_long",  # 7
    "common_in_nested_lists",  # 111
    "extract_singly",  # 140
    "larg_nnum",  # 232
    "intersection_array",  # 249
    "find_dissimilar",  # 579
    "Diff",  # 769
}
NOT_NONE = {"check_str", "text_match_three", "text_starta_endb"}  # answers are match objects: any will do


def is_float_like(value: object) -> bool:
    """A float, a non-empty list or tuple of floats, or a float array: compared with a tolerance of 1e-6."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, float) for item in value)
    if isinstance(value, np.ndarray):
        return value.dtype in (np.float64, np.float32)
    return isinstance(value, float)


def polynomial(coefficients: list, x: float) -> float:
    return sum(c * math.pow(x, power) for power, c in enumerate(coefficients))


def pyramid_surface(base: float, height: float) -> int:
    """MBPP/581 reads "height" as the slant height; the perpendicular height is accepted too."""
    return round(base * base + 2 * base * math.sqrt((base / 2) ** 2 + height * height))


def digit_distance(a: int, b: int) -> int:
    """MBPP/558 for numbers of different length: the shorter one is padded with zeros."""
    width = max(len(str(a)), len(str(b)))
    digits = zip(str(a).zfill(width), str(b).zfill(width), strict=True)
    return sum(abs(int(one) - int(other)) for one, other in digits)


def matches(
    benchmark: str, entry_point: str, arguments: list, got: object, expected: object, atol: float
) -> bool:
    """Equality, or what the special oracle of an MBPP+ task makes of it.

    `==` comes first for every task, as in EvalPlus: where it raises (arrays of two shapes), the answer is
    wrong whatever the oracle would say.
    """
    equal = got == expected
    if benchmark == "mbpp":
        if entry_point in SET_EQUAL:
            equal = set(got) == set(expected)
        elif entry_point in NOT_NONE:
            equal = got == expected if isinstance(got, bool) else expected == (got is not None)
        elif entry_point == "are_equivalent":  # 164: the task is ambiguous, any answer counts
            equal = equal or True
        elif entry_point == "sum_div":  # 295
            equal = equal or got == 0
        elif entry_point == "surface_Area":  # 581
            equal = equal or abs(got - pyramid_surface(*arguments)) <= atol
        elif entry_point == "digit_distance_nums":  # 558
            equal = equal or got == digit_distance(*arguments)
    return bool(equal)


class Shortened(reprlib.Repr):
    """Text of plain data for a message; an object of the program is named by its type and not asked."""

    def repr_instance(self, value: object, level: int) -> str:
        plain = isinstance(value, (bool, float, complex, bytes, type(None), np.generic))
        return repr(value)[:40] if plain else f"<{type(value).__name__}>"

    def repr_int(self, value: int, level: int) -> str:
        return repr(value) if abs(value) < 10**40 else f"an integer of {value.bit_length()} bits"


def message(entry_point: str, arguments: list, got: object, expected: object) -> str:
    """What a failed case says; inputs as the program left them."""
    short = Shortened()
    given = ", ".join(map(short.repr, arguments))
    return f"{entry_point}({given}) gave {short.repr(got)}, expected {short.repr(expected)}"


def check_cases(candidate: object, judge: object, benchmark: str, entry_point: str, atol: float) -> None:
    """Every case in turn, each under its own time limit; the first wrong answer raises AssertionError.

    `judge.data` is (arguments, expected answers, seconds), a list each (data/evalplus.py).
    """
    cases = list(zip(*judge.data, strict=True))
    judge.total(len(cases))
    for arguments, expected, seconds in cases:
        judge.limit_call(seconds)
        got = candidate(*arguments)
        if benchmark == "humaneval" and entry_point == "find_zero":  # HumanEval/32: any root is right
            right = abs(polynomial(*arguments, got)) <= atol
        else:
            right = matches(benchmark, entry_point, arguments, got, expected, atol)
            if atol == 0 and is_float_like(expected):
                atol = 1e-6  # and it stays so for the cases after this one, as in EvalPlus
            right = right or atol != 0 and is_close(got, expected, atol)
        assert right, message(entry_point, arguments, got, expected)
        judge.passed()


def is_close(got: object, expected: object, atol: float) -> bool:
    """|got - expected| <= atol + 1e-7 |expected|, between values of one type and length."""
    if type(got) is not type(expected):
        return False
    if isinstance(expected, (list, tuple)) and len(got) != len(expected):
        return False
    return bool(np.allclose(got, expected, rtol=1e-7, atol=atol))
