"""What it means to run a test text: execute it, then call what it defines.

`check(candidate)` if there is one (HumanEval). Otherwise the text itself was the test (MBPP's assertions),
together with its `unittest.TestCase` classes, its classes named `Test*` and its functions named `test_*`,
which would else be defined and never run.
"""

import collections
import inspect
import io
import sys


class TestsFailed(AssertionError):
    """A unittest result that was not successful."""


def run_definitions(namespace: dict, candidate: object) -> int:
    """Call what the test text defined; how many tests that were. Raises what they raise."""
    check = namespace.get("check")
    if inspect.isfunction(check) and check is not candidate:
        finish(check(candidate))
        return 0
    own = [
        value
        for value in list(namespace.values())
        if getattr(value, "__module__", None) == namespace["__name__"]
    ]
    count = 0
    unittest = sys.modules.get("unittest")  # a test case cannot exist without
    case = unittest.TestCase if unittest else ()
    for value in own:
        if isinstance(value, type) and issubclass(value, case):
            count += run_cases(value)
        elif isinstance(value, type) and value.__name__.startswith("Test"):
            count += run_methods(value)
    for value in own:
        if inspect.isfunction(value) and value.__name__.startswith("test_") and value is not candidate:
            finish(value(*([candidate] if inspect.signature(value).parameters else [])))
            count += 1
    return count


def run_methods(kind: type) -> int:
    """The test methods of a class as pytest would run them, each on an object of its own."""
    names = [
        name for name, value in vars(kind).items() if name.startswith("test_") and inspect.isfunction(value)
    ]
    for name in names:
        instance = kind()
        if hasattr(instance, "setup_method"):
            instance.setup_method()
        finish(getattr(instance, name)())
    return len(names)


def finish(result: object) -> None:
    """A test written as a coroutine or generator has not run yet when it returns."""
    if inspect.iscoroutine(result):
        import asyncio  # costs every program's process, which inherits this module, some pages

        asyncio.run(result)
    elif inspect.isgenerator(result):
        collections.deque(result, 0)


def run_cases(case: type) -> int:
    import unittest

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    for name, text in result.failures + result.errors:
        raise TestsFailed(f"{name}: {text.strip().splitlines()[-1]}")
    if result.unexpectedSuccesses or (suite.countTestCases() and not result.testsRun):
        raise TestsFailed(f"{case.__name__}: not all tests ran as expected")
    return result.testsRun - len(result.skipped)
