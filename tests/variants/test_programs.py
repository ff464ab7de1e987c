"""Programs in forked processes: what a shell would see."""

import json
import os
from pathlib import Path

import pytest

from variants.programs import run


@pytest.fixture(autouse=True)
def repository(monkeypatch):
    """Programs are started where they lie."""
    monkeypatch.chdir(Path(__file__).parents[2])


@pytest.mark.slow
def test_a_program_runs_with_its_arguments_and_leaves_output_and_cost(tmp_path):
    program = tmp_path / "say.py"
    program.write_text(
        "import sys, torch\n"
        "if __name__ == '__main__':\n"
        "    print(sys.argv[1:], torch.get_num_threads())\n"
        "    sum(range(5_000_000))\n"
    )
    cost = tmp_path / "cpu.json"
    assert run([str(program), "a=1", "b"], tmp_path / "log", threads=1, cost=cost) is None
    assert (tmp_path / "log").read_text() == "['a=1', 'b'] 1\n"
    assert 0 < json.loads(cost.read_text())["say"] < 60
    cost.write_text(json.dumps({"say": 100.0, "other": 1.0}))
    assert run([str(program)], tmp_path / "log", cost=cost) is None
    assert json.loads(cost.read_text()) == {"say": 100.0, "other": 1.0}  # the most it took


@pytest.mark.slow
def test_a_failure_is_its_exit_code_and_last_line(tmp_path):
    failure = run(["-m", "variants.compare", "+exp=quickstart"], tmp_path / "log", cost=tmp_path / "cpu.json")
    assert failure.startswith("exit code 1: error: this program needs the settings folder")
    assert not (tmp_path / "cpu.json").exists()


@pytest.mark.slow
def test_each_program_has_a_process_of_its_own(tmp_path):
    program = tmp_path / "who.py"
    program.write_text("import os; print(os.getpid())")
    for _ in range(2):
        assert run([str(program)], tmp_path / "log") is None
    first, second = map(int, (tmp_path / "log").read_text().split())
    assert len({first, second, os.getpid()}) == 3
