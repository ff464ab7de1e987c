"""Options of the test suite."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--benchmarks",
        type=Path,
        default=None,
        help="folder with the published benchmark files; default: the cache folder of data/problems.py",
    )


@pytest.fixture(scope="session")
def benchmarks(request: pytest.FixtureRequest) -> Path:
    """Where published files are looked for; a test that needs one skips when it is not there."""
    from data.problems import CACHE

    return request.config.getoption("--benchmarks") or CACHE
