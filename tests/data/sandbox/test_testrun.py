# ruff: noqa: E501 - one test text, one line
"""Whatever form tests have, they are run to their end."""

import pytest

from data.sandbox.testrun import run_definitions


def run(text: str, candidate: object = len) -> int:
    namespace = {"__name__": "test"}
    exec(text, namespace)
    return run_definitions(namespace, candidate)


@pytest.mark.parametrize(
    "text",
    [
        "def check(candidate):\n    assert candidate('a') == 2",
        "async def check(candidate):\n    assert candidate('a') == 2",
        "def check(candidate):\n    yield\n    assert candidate('a') == 2",
        "def test_a():\n    assert 0",
        "async def test_a(candidate):\n    assert candidate('a') == 2",
        "class TestA:\n    def test_a(self):\n        assert 0",
        "class TestA:\n    def setup_method(self): self.x = 2\n    def test_a(self):\n        assert self.x == 1",
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(1, 2)",
        "import unittest\nclass T(unittest.IsolatedAsyncioTestCase):\n    async def test_a(self): self.assertEqual(1, 2)",
    ],
)
def test_a_test_that_fails_is_noticed(text):
    with pytest.raises(AssertionError):
        run(text)


def test_tests_are_counted():
    text = "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): pass\ndef test_b(): pass\nclass TestC:\n    def test_c(self): pass\n    def other(self): assert 0"
    assert run(text) == 3
