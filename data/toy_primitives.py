"""The table of primitives behind the toy problems: one entry is one step of a small program.

An entry says what the step takes and gives, how a docstring may ask for it, how it is rightly written,
and how beginners get it wrong. Codes are templates:

    X        the variable that holds the value before the step
    Y        the variable that holds it afterwards (never the same name as X)
    K, A, B  the constants of this use, drawn from `constants`

A template is one of three forms, told apart by its text: it has a `return` (it ends the function, so it is
used for last steps only), it assigns `Y` (a block of lines), or else it is an expression. The first style
of a tuple is the usual one.

To add a primitive, add an entry: two phrases that define the result for every input (the empty one too),
one or two right styles, one or two common bugs keyed by kind, in the same styles where that is possible,
so that a bug stays one local difference. An `endless_loop` must never end, whatever its input. A `syntax`
bug is an extra and stays rare; it needs another bug beside it. `tests/data/test_toy.py` checks the rest.
"""

from dataclasses import dataclass, field

# Values between steps. `natural` (0, 1, 2, ...) is accepted where `integer` is taken.
# `float`, `truth`, `label` and `keys` are results only: no step takes them.


@dataclass(frozen=True)
class Primitive:
    name: str
    family: str
    takes: str
    gives: str
    phrases: tuple[str, ...]
    right: tuple[str, ...]
    bugs: dict[str, tuple[str, ...]]  # kind -> styles
    constants: dict[str, tuple[int, ...]] = field(default_factory=dict)


def lines(*rows: str) -> str:
    """A block."""
    return "\n".join(rows)


def each(value: str) -> tuple[str, str]:
    """Replace every number n by `value`: as a comprehension and as a loop."""
    return f"[{value} for n in X]", lines("Y = []", "for n in X:", f"    Y.append({value})")


def keep(condition: str, item: str = "n") -> tuple[str, str]:
    """Keep the items for which `condition` holds: as a comprehension and as a loop."""
    return (
        f"[{item} for {item} in X if {condition}]",
        lines("Y = []", f"for {item} in X:", f"    if {condition}:", f"        Y.append({item})"),
    )


def guarded(value: str, empty: str) -> tuple[str, str]:
    """`value`, or `empty` where there is nothing: as an expression and as an early return."""
    return f"{value} if X else {empty}", lines("if not X:", f"    return {empty}", f"return {value}")


def choose(condition: str, first: str, second: str) -> tuple[str, str]:
    """One of two values: as an expression and as a statement."""
    return (
        f"{first} if {condition} else {second}",
        lines(f"if {condition}:", f"    Y = {first}", "else:", f"    Y = {second}"),
    )


def tally(item: str) -> tuple[str, str]:
    """How often each item occurs, as a dict."""
    return (
        lines("Y = {}", f"for {item} in X:", f"    Y[{item}] = Y.get({item}, 0) + 1"),
        f"{{{item}: X.count({item}) for {item} in X}}",
    )


LISTS = [
    Primitive(
        "keep_even", "lists", "numbers", "numbers",
        ("keep the even numbers", "drop the odd numbers"),
        keep("n % 2 == 0"),
        {"operator": keep("n % 2 == 1"), "syntax": ("[n for n in X if n % 2 = 0]",)},
    ),
    Primitive(
        "keep_greater", "lists", "numbers", "numbers",
        ("keep the numbers greater than K", "keep the numbers above K"),
        keep("n > K"),
        {"boundary": keep("n >= K"), "syntax": ("[n for n in X if n > K",)},
        {"K": tuple(range(2, 9))},
    ),
    Primitive(
        "keep_at_most", "lists", "numbers", "numbers",
        ("keep the numbers that are at most K", "drop the numbers larger than K"),
        keep("n <= K"),
        {"boundary": keep("n < K"), "name": keep("number <= K")},
        {"K": tuple(range(3, 10))},
    ),
    Primitive(
        "square_each", "lists", "numbers", "numbers",
        ("square each number", "replace each number by its square"),
        each("n * n"),
        {"operator": each("n * 2"), "name": each("num * num")},
    ),
    Primitive(
        "add_each", "lists", "numbers", "numbers",
        ("add K to each number", "increase each number by K"),
        each("n + K"),
        {"type": each("n + str(K)"), "operator": ("X + [K]",)},
        {"K": tuple(range(1, 10))},
    ),
    Primitive(
        "multiply_each", "lists", "numbers", "numbers",
        ("multiply each number by K", "scale each number by K"),
        each("n * K"),
        {"operator": ("X * K",)},
        {"K": tuple(range(2, 7))},
    ),
    Primitive(
        "absolute_each", "lists", "numbers", "numbers",
        ("replace each number by its absolute value", "make each number non-negative"),
        each("abs(n)"),
        {"method": each("n.abs()"), "operator": each("-n")},
    ),
    Primitive(
        "halve_each", "lists", "numbers", "numbers",
        ("halve each number, rounding down", "divide each number by 2, rounding down"),
        each("n // 2"),
        {"division": each("n / 2")},
    ),
    Primitive(
        "sort_up", "lists", "numbers", "numbers",
        ("sort the numbers in ascending order", "sort the numbers from smallest to largest"),
        ("sorted(X)", lines("Y = list(X)", "Y.sort()")),
        {"no_return": ("X.sort()",), "order": ("sorted(X, reverse=True)",)},
    ),
    Primitive(
        "sort_down", "lists", "numbers", "numbers",
        ("sort the numbers in descending order", "sort the numbers from largest to smallest"),
        ("sorted(X, reverse=True)", lines("Y = sorted(X)", "Y.reverse()")),
        {"order": ("sorted(X)",), "type": ("sorted(X, descending=True)",)},
    ),
    Primitive(
        "reverse_list", "lists", "numbers", "numbers",
        ("reverse the list", "put the numbers in reverse order"),
        ("X[::-1]", "list(reversed(X))"),
        {"no_return": ("X.reverse()",), "type": ("reversed(X)",)},
    ),
    Primitive(
        "take_first", "lists", "numbers", "numbers",
        ("take the first K numbers", "keep only the first K numbers"),
        ("X[:K]",),
        {"boundary": ("X[:K - 1]",), "empty_case": ("[X[i] for i in range(K)]",)},
        {"K": (2, 3, 4, 5)},
    ),
    Primitive(
        "skip_first", "lists", "numbers", "numbers",
        ("skip the first K numbers", "drop the first K numbers"),
        ("X[K:]",),
        {"boundary": ("X[K + 1:]",), "syntax": ("X[K:",)},
        {"K": (1, 2, 3)},
    ),
    Primitive(
        "unique", "lists", "numbers", "numbers",
        ("remove duplicates, keeping the first of each", "remove repeated numbers, keeping the first ones"),
        ("list(dict.fromkeys(X))", keep("n not in Y")[1]),
        {"order": ("sorted(set(X))",), "method": ("X.unique()",)},
    ),
    Primitive(
        "running_totals", "lists", "numbers", "numbers",
        ("compute the running totals", "replace each number by the running total"),
        (
            lines("Y = []", "acc = 0", "for n in X:", "    acc += n", "    Y.append(acc)"),
            "[sum(X[:i + 1]) for i in range(len(X))]",
        ),
        {
            "boundary": (
                lines("Y = []", "acc = 0", "for n in X:", "    Y.append(acc)", "    acc += n"),
                "[sum(X[:i]) for i in range(len(X))]",
            ),
            "name": (lines("Y = []", "for n in X:", "    acc += n", "    Y.append(acc)"),),
        },
    ),
    Primitive(
        "differences", "lists", "numbers", "numbers",
        ("take the differences between neighbours", "subtract from each next number the one before it"),
        (
            "[X[i + 1] - X[i] for i in range(len(X) - 1)]",
            lines("Y = []", "for i in range(len(X) - 1):", "    Y.append(X[i + 1] - X[i])"),
        ),
        {
            "boundary": (
                "[X[i + 1] - X[i] for i in range(len(X))]",
                lines("Y = []", "for i in range(len(X)):", "    Y.append(X[i + 1] - X[i])"),
            ),
            "operator": ("[X[i] - X[i + 1] for i in range(len(X) - 1)]",),
        },
    ),
]  # fmt: skip

STATISTICS = [
    Primitive(
        "total", "statistics", "numbers", "integer",
        ("add up the numbers", "compute the sum of the numbers"),
        ("sum(X)", lines("Y = 0", "for n in X:", "    Y += n")),
        {"method": ("X.sum()",), "boundary": ("sum(X[1:])",)},
    ),
    Primitive(
        "product", "statistics", "numbers", "integer",
        ("multiply the numbers together, or take 1 if there are none",
         "compute the product, or 1 if the list is empty"),
        (lines("Y = 1", "for n in X:", "    Y *= n"),),
        {"initial_value": (lines("Y = 0", "for n in X:", "    Y *= n"),),
         "operator": (lines("Y = 1", "for n in X:", "    Y += n"),)},
    ),
    Primitive(
        "largest", "statistics", "numbers", "integer",
        ("find the largest number, or 0 if there is none", "take the maximum, or 0 if the list is empty"),
        ("max(X, default=0)", *guarded("max(X)", "0")),
        {"empty_case": ("max(X)",), "initial_value": ("max(X + [0])",)},
    ),
    Primitive(
        "smallest", "statistics", "numbers", "integer",
        ("find the smallest number, or 0 if there is none", "take the minimum, or 0 if the list is empty"),
        ("min(X, default=0)", *guarded("min(X)", "0")),
        {"initial_value": (lines("Y = 0", "for n in X:", "    if n < Y:", "        Y = n"),),
         "empty_case": ("min(X)",)},
    ),
    Primitive(
        "mean", "statistics", "numbers", "float",
        ("compute the mean, or 0 if there are no numbers", "compute the average, or 0 if the list is empty"),
        guarded("sum(X) / len(X)", "0"),
        {"division": guarded("sum(X) // len(X)", "0"), "empty_case": ("sum(X) / len(X)",)},
    ),
    Primitive(
        "median", "statistics", "numbers", "float",
        ("find the median, or 0 if there are no numbers", "compute the median, or 0 if the list is empty"),
        (lines("if not X:", "    return 0", "s = sorted(X)", "m = len(s) // 2",
               "return (s[m] + s[~m]) / 2"),),
        {
            "empty_case": (lines("s = sorted(X)", "m = len(s) // 2", "return (s[m] + s[~m]) / 2"),),
            "division": (
                lines("if not X:", "    return 0", "s = sorted(X)", "m = len(s) // 2",
                      "return (s[m] + s[~m]) // 2"),
            ),
        },
    ),
    Primitive(
        "count_numbers", "statistics", "numbers", "natural",
        ("count the numbers", "tell how many numbers there are"),
        ("len(X)",),
        {"method": ("X.length()",), "boundary": ("len(X) - 1",)},
    ),
    Primitive(
        "spread", "statistics", "numbers", "natural",
        ("subtract the smallest number from the largest, or take 0 if there is none",
         "compute the range of the numbers, or 0 if the list is empty"),
        guarded("max(X) - min(X)", "0"),
        {"empty_case": ("max(X) - min(X)",), "operator": guarded("min(X) - max(X)", "0")},
    ),
    Primitive(
        "last_number", "statistics", "numbers", "integer",
        ("take the last number, or 0 if there is none", "pick the last number, or 0 if the list is empty"),
        guarded("X[-1]", "0"),
        {"boundary": guarded("X[len(X)]", "0"), "empty_case": ("X[-1]",)},
    ),
]  # fmt: skip

COUNTING = [
    Primitive(
        "count_each_number", "counting", "numbers", "counts",
        ("count how often each number occurs", "map each number to how often it occurs"),
        tally("n"),
        {"key": (lines("Y = {}", "for n in X:", "    Y[n] += 1"),),
         "name": (lines("for n in X:", "    Y[n] = Y.get(n, 0) + 1"),)},
    ),
    Primitive(
        "count_letters", "counting", "text", "counts",
        ("count how often each character occurs", "map each character to how often it occurs"),
        tally("c"),
        {"initial_value": (lines("Y = {}", "for c in X:", "    Y[c] = Y.get(c, 1) + 1"),),
         "key": (lines("Y = {}", "for c in X:", "    Y[c] += 1"),)},
    ),
    Primitive(
        "count_each_word", "counting", "words", "counts",
        ("count how often each word occurs", "map each word to how often it occurs"),
        tally("w"),
        {"key": (lines("Y = {}", "for w in X:", "    Y[w] += 1"),),
         "operator": (lines("Y = {}", "for w in X:", "    Y[w] = 1"),)},
    ),
    Primitive(
        "add_scores", "counting", "pairs", "counts",
        ("add up the scores of each name", "map each name to the sum of its scores"),
        (lines("Y = {}", "for name, score in X:", "    Y[name] = Y.get(name, 0) + score"),),
        {"key": (lines("Y = {}", "for name, score in X:", "    Y[name] += score"),),
         "operator": ("dict(X)",)},
    ),
    Primitive(
        "keep_frequent", "counting", "counts", "counts",
        ("keep the entries with a value of at least K", "drop the entries with a value below K"),
        ("{k: v for k, v in X.items() if v >= K}",
         lines("Y = {}", "for k, v in X.items():", "    if v >= K:", "        Y[k] = v")),
        {"boundary": ("{k: v for k, v in X.items() if v > K}",
                      lines("Y = {}", "for k, v in X.items():", "    if v > K:", "        Y[k] = v")),
         "type": ("{k: v for k, v in X if v >= K}",)},
        {"K": (2, 3, 4)},
    ),
    Primitive(
        "highest_value", "counting", "counts", "integer",
        ("find the highest value, or 0 if there are no entries", "take the largest value, or 0 for none"),
        ("max(X.values(), default=0)", *guarded("max(X.values())", "0")),
        {"empty_case": ("max(X.values())",), "type": ("max(X, default=0)",)},
    ),
    Primitive(
        "sorted_keys", "counting", "counts", "keys",
        ("list the keys in sorted order", "give a sorted list of the keys"),
        ("sorted(X)", "sorted(X.keys())"),
        {"method": ("X.keys().sort()",), "order": ("list(X)",)},
    ),
]  # fmt: skip

STRINGS = [
    Primitive(
        "upper", "strings", "text", "text",
        ("convert the text to upper case", "make all letters upper case"),
        ("X.upper()",),
        {"method": ("X.to_upper()",), "no_return": ("X.upper",)},
    ),
    Primitive(
        "lower", "strings", "text", "text",
        ("convert the text to lower case", "make all letters lower case"),
        ("X.lower()",),
        {"no_return": ("X.lower",), "method": ("X.lowercase()",)},
    ),
    Primitive(
        "strip", "strings", "text", "text",
        ("remove the spaces at both ends", "strip the spaces around the text"),
        ("X.strip()", "X.strip(' ')"),
        {"method": ("X.trim()",), "boundary": ("X.lstrip()",)},
    ),
    Primitive(
        "reverse_text", "strings", "text", "text",
        ("reverse the text", "write the text backwards"),
        ("X[::-1]",),
        {"method": ("X.reverse()",), "type": ("reversed(X)",)},
    ),
    Primitive(
        "drop_vowels", "strings", "text", "text",
        ("remove the vowels", "leave out all vowels"),
        ("''.join(c for c in X if c not in 'aeiouAEIOU')",
         lines("Y = ''", "for c in X:", "    if c not in 'aeiouAEIOU':", "        Y += c")),
        {"type": ("[c for c in X if c not in 'aeiouAEIOU']",),
         "operator": ("''.join(c for c in X if c in 'aeiouAEIOU')",)},
    ),
    Primitive(
        "add_length", "strings", "text", "text",
        ("append the length of the text", "add the number of characters at the end"),
        ("X + str(len(X))", "f'{X}{len(X)}'"),
        {"type": ("X + len(X)",), "method": ("X + str(X.length)",)},
    ),
    Primitive(
        "replace_spaces", "strings", "text", "text",
        ("replace spaces by underscores", "turn each space into an underscore"),
        ("X.replace(' ', '_')", "'_'.join(X.split(' '))"),
        {"operator": ("X.replace('_', ' ')",), "type": ("X.replace(' ')",)},
    ),
    Primitive(
        "first_characters", "strings", "text", "text",
        ("take the first K characters", "keep only the first K characters"),
        ("X[:K]",),
        {"boundary": ("X[1:K]",), "empty_case": ("''.join(X[i] for i in range(K))",)},
        {"K": (3, 4, 5, 6)},
    ),
    Primitive(
        "count_vowels", "strings", "text", "natural",
        ("count the vowels", "tell how many vowels there are"),
        ("sum(1 for c in X if c in 'aeiouAEIOU')",
         lines("Y = 0", "for c in X:", "    if c in 'aeiouAEIOU':", "        Y += 1")),
        {"type": ("sum(c for c in X if c in 'aeiouAEIOU')",),
         "boundary": ("sum(1 for c in X[1:] if c in 'aeiouAEIOU')",)},
    ),
    Primitive(
        "is_palindrome", "strings", "text", "truth",
        ("tell whether it reads the same backwards", "check whether it is a palindrome"),
        ("X == X[::-1]",),
        {"method": ("X == X.reverse()",), "type": ("X == reversed(X)",), "syntax": ("X = X[::-1]",)},
    ),
    Primitive(
        "split_words", "strings", "text", "words",
        ("split the text into words", "break the text into its words"),
        ("X.split()",),
        {"type": ("list(X)",), "method": ("X.words()",)},
    ),
    Primitive(
        "join_words", "strings", "words", "text",
        ("join the words with dashes", "put the words together with dashes between them"),
        ("'-'.join(X)",),
        {"method": ("X.join('-')",), "operator": ("''.join(X)",)},
    ),
    Primitive(
        "long_words", "strings", "words", "words",
        ("keep the words with more than K letters", "keep the words longer than K letters"),
        keep("len(w) > K", "w"),
        {"boundary": keep("len(w) >= K", "w"), "type": keep("w > K", "w")},
        {"K": (2, 3, 4)},
    ),
    Primitive(
        "capitalize_words", "strings", "words", "words",
        ("capitalize each word", "start each word with a capital letter, the rest in lower case"),
        ("[w.capitalize() for w in X]", lines("Y = []", "for w in X:", "    Y.append(w.capitalize())")),
        {"method": ("[w.capital() for w in X]", lines("Y = []", "for w in X:", "    Y.append(w.capital())")),
         "name": ("[word.capitalize() for w in X]",)},
    ),
    Primitive(
        "longest_word", "strings", "words", "text",
        ("find the first longest word, or '' if there is none",
         "take the longest word (the first on a tie), or '' if there is none"),
        ("max(X, key=len, default='')", *guarded("max(X, key=len)", "''")),
        {"empty_case": ("max(X, key=len)",), "order": ("max(X, default='')",)},
    ),
]  # fmt: skip

LOOPS = [
    Primitive(
        "digit_sum", "loops", "natural", "natural",
        ("add up its digits", "compute the sum of its digits"),
        (lines("Y = 0", "while X > 0:", "    Y += X % 10", "    X //= 10"), "sum(int(d) for d in str(X))"),
        {"endless_loop": (lines("Y = 0", "while X >= 0:", "    Y += X % 10", "    X //= 10"),),
         "type": ("sum(d for d in str(X))",)},
    ),
    Primitive(
        "halvings", "loops", "natural", "natural",
        ("count how often it can be halved, rounding down, until it is 0",
         "count the halvings, rounding down, until it is 0"),
        (lines("Y = 0", "while X > 0:", "    X //= 2", "    Y += 1"),),
        {"boundary": (lines("Y = 0", "while X > 1:", "    X //= 2", "    Y += 1"),),
         "endless_loop": (lines("Y = 0", "while X >= 0:", "    X //= 2", "    Y += 1"),)},
    ),
    Primitive(
        "common_divisor", "loops", "natural", "natural",
        ("take the greatest common divisor with K", "find the greatest common divisor of it and K"),
        (lines("a, b = X, K", "while b:", "    a, b = b, a % b", "Y = a"),),
        {"endless_loop": (lines("a, b = X, K", "while b:", "    a, b = a % b, b", "Y = a"),),
         "operator": (lines("a, b = X, K", "while b:", "    a, b = b, a // b", "Y = a"),)},
        {"K": (6, 8, 9, 10, 12, 15, 18)},
    ),
    Primitive(
        "sum_up_to", "loops", "natural", "natural",
        ("add up all numbers from 1 to it", "compute the sum of the numbers from 1 up to it"),
        ("sum(range(1, X + 1))", lines("Y = 0", "for i in range(1, X + 1):", "    Y += i")),
        {"boundary": ("sum(range(1, X))", lines("Y = 0", "for i in range(1, X):", "    Y += i")),
         "name": (lines("for i in range(1, X + 1):", "    Y += i"),)},
    ),
    Primitive(
        "count_divisors", "loops", "natural", "natural",
        ("count its divisors from 1 to itself", "count the numbers from 1 to it that divide it"),
        ("sum(1 for d in range(1, X + 1) if X % d == 0)",
         lines("Y = 0", "for d in range(1, X + 1):", "    if X % d == 0:", "        Y += 1")),
        {"division": ("sum(1 for d in range(X + 1) if X % d == 0)",
                      lines("Y = 0", "for d in range(X + 1):", "    if X % d == 0:", "        Y += 1")),
         "boundary": ("sum(1 for d in range(1, X) if X % d == 0)",)},
    ),
    Primitive(
        "power", "loops", "natural", "natural",
        ("raise it to the power of K", "take its K-th power"),
        ("X ** K", lines("Y = 1", "for i in range(K):", "    Y *= X")),
        {"operator": ("X ^ K",), "initial_value": (lines("Y = 0", "for i in range(K):", "    Y *= X"),)},
        {"K": (2, 3)},
    ),
    Primitive(
        "reverse_digits", "loops", "natural", "natural",
        ("reverse its digits", "write its digits in reverse order"),
        ("int(str(X)[::-1])", lines("Y = 0", "while X > 0:", "    Y = Y * 10 + X % 10", "    X //= 10")),
        {"type": ("str(X)[::-1]",), "method": ("int(str(X).reverse())",)},
    ),
    Primitive(
        "list_digits", "loops", "natural", "numbers",
        ("list its digits", "split it into its digits"),
        ("[int(d) for d in str(X)]",),
        {"type": ("[d for d in str(X)]",), "syntax": ("[int(d) for d in str(X)",)},
    ),
]  # fmt: skip

CONDITIONALS = [
    Primitive(
        "clamp", "conditionals", "integer", "natural",
        ("limit it to the range from A to B", "raise it to at least A and lower it to at most B"),
        ("max(A, min(B, X))", lines("if X < A:", "    X = A", "if X > B:", "    X = B", "Y = X")),
        {"operator": ("min(A, max(B, X))",),
         "no_return": (lines("if X < A:", "    return A", "if X > B:", "    return B"),)},
        {"A": (1, 2, 3), "B": (6, 8, 10, 15)},
    ),
    Primitive(
        "sign", "conditionals", "integer", "integer",
        ("replace it by its sign: 1, 0 or -1", "take its sign as 1, 0 or -1"),
        (lines("if X > 0:", "    Y = 1", "elif X < 0:", "    Y = -1", "else:", "    Y = 0"),
         "(X > 0) - (X < 0)"),
        {"boundary": (lines("if X >= 0:", "    Y = 1", "elif X < 0:", "    Y = -1", "else:", "    Y = 0"),),
         "syntax": (lines("if X > 0", "    Y = 1", "elif X < 0:", "    Y = -1", "else:", "    Y = 0"),)},
    ),
    Primitive(
        "magnitude", "conditionals", "integer", "natural",
        ("take its absolute value", "drop its sign"),
        ("abs(X)", *choose("X < 0", "-X", "X")),
        {"method": ("X.abs()",), "operator": choose("X > 0", "-X", "X")},
    ),
    Primitive(
        "halve_or_triple", "conditionals", "integer", "integer",
        ("halve it if it is even, otherwise triple it", "if it is even halve it, else multiply it by 3"),
        choose("X % 2 == 0", "X // 2", "X * 3"),
        {"operator": choose("X % 2 == 1", "X // 2", "X * 3"),
         "name": choose("X % 2 == 0", "m // 2", "m * 3")},
    ),
    Primitive(
        "subtract", "conditionals", "integer", "integer",
        ("subtract K from it", "decrease it by K"),
        ("X - K",),
        {"order": ("K - X",), "type": ("X - 'K'",)},
        {"K": tuple(range(2, 10))},
    ),
    Primitive(
        "is_between", "conditionals", "integer", "truth",
        ("tell whether it lies between A and B, both included", "check whether it is from A to B inclusive"),
        ("A <= X <= B", "X >= A and X <= B"),
        {"boundary": ("A < X < B", "X > A and X < B"), "operator": ("X >= A or X <= B",)},
        {"A": (2, 3, 4), "B": (7, 8, 9, 12)},
    ),
    Primitive(
        "parity", "conditionals", "integer", "label",
        ("say 'even' or 'odd'", "tell whether it is 'even' or 'odd'"),
        ("'even' if X % 2 == 0 else 'odd'",
         lines("if X % 2 == 0:", "    return 'even'", "return 'odd'")),
        {"no_return": (lines("if X % 2 == 0:", "    return 'even'"),),
         "operator": ("'even' if X % 2 else 'odd'",)},
    ),
    Primitive(
        "grade", "conditionals", "integer", "label",
        ("say 'low' below A, 'high' above B and 'middle' otherwise",
         "call it 'low' below A, 'high' above B and else 'middle'"),
        (lines("if X < A:", "    return 'low'", "if X > B:", "    return 'high'", "return 'middle'"),),
        {"boundary": (lines("if X <= A:", "    return 'low'", "if X > B:", "    return 'high'",
                            "return 'middle'"),),
         "no_return": (lines("if X < A:", "    return 'low'", "if X > B:", "    return 'high'"),)},
        {"A": (2, 3, 4), "B": (7, 8, 9, 12)},
    ),
]  # fmt: skip

RECORDS = [
    Primitive(
        "by_score", "records", "pairs", "pairs",
        ("sort the pairs by score, lowest first", "order the pairs by increasing score"),
        ("sorted(X, key=lambda p: p[1])", lines("Y = list(X)", "Y.sort(key=lambda p: p[1])")),
        {"order": ("sorted(X, key=lambda p: p[0])", lines("Y = list(X)", "Y.sort(key=lambda p: p[0])")),
         "no_return": ("X.sort(key=lambda p: p[1])",)},
    ),
    Primitive(
        "by_score_down", "records", "pairs", "pairs",
        ("sort the pairs by score, highest first", "order the pairs by decreasing score"),
        ("sorted(X, key=lambda p: -p[1])", lines("Y = list(X)", "Y.sort(key=lambda p: -p[1])")),
        {"order": ("sorted(X, key=lambda p: p[1])", lines("Y = list(X)", "Y.sort(key=lambda p: p[1])")),
         "name": ("sorted(X, key=-p[1])",)},
    ),
    Primitive(
        "by_name", "records", "pairs", "pairs",
        ("sort the pairs by name", "order the pairs by name"),
        ("sorted(X, key=lambda p: p[0])", lines("Y = list(X)", "Y.sort(key=lambda p: p[0])")),
        {"name": ("sorted(X, key=p[0])",), "no_return": ("X.sort(key=lambda p: p[0])",)},
    ),
    Primitive(
        "keep_scores", "records", "pairs", "pairs",
        ("keep the pairs with a score of at least K", "drop the pairs with a score below K"),
        keep("p[1] >= K", "p"),
        {"boundary": keep("p[1] > K", "p"), "type": keep("p >= K", "p")},
        {"K": (3, 4, 5, 6)},
    ),
    Primitive(
        "names", "records", "pairs", "words",
        ("list the names", "take the name of each pair"),
        ("[p[0] for p in X]", "[name for name, score in X]"),
        {"method": ("[p.name for p in X]",), "syntax": ("[p[0] for p in X",)},
    ),
    Primitive(
        "scores", "records", "pairs", "numbers",
        ("list the scores", "take the score of each pair"),
        ("[p[1] for p in X]", "[score for name, score in X]"),
        {"boundary": ("[p[2] for p in X]",), "method": ("[p.score for p in X]",)},
    ),
    Primitive(
        "best_name", "records", "pairs", "label",
        ("find the name with the first highest score, or '' if there is none",
         "give the name of the first pair with the highest score, or ''"),
        guarded("max(X, key=lambda p: p[1])[0]", "''"),
        {"empty_case": ("max(X, key=lambda p: p[1])[0]",), "order": guarded("max(X)[0]", "''")},
    ),
    Primitive(
        "by_length", "records", "words", "words",
        ("sort the words by length, shortest first", "order the words from shortest to longest"),
        ("sorted(X, key=len)", lines("Y = list(X)", "Y.sort(key=len)")),
        {"type": ("sorted(X, key=len())",), "order": ("sorted(X)",)},
    ),
]  # fmt: skip

PRIMITIVES: dict[str, Primitive] = {
    p.name: p for p in LISTS + STATISTICS + COUNTING + STRINGS + LOOPS + CONDITIONALS + RECORDS
}
