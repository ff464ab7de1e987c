"""The bytecode that a child has compiled is what this process imports."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
sys.path.insert(0, {root!r})
from data.sandbox.warm import have_compiled
have_compiled("small_module", {bytecode!r})
import small_module
print(small_module.__cached__, small_module.VALUE, sys.dont_write_bytecode)
"""


def run(folder: Path, root: Path) -> subprocess.CompletedProcess:
    text = SCRIPT.format(folder=str(folder), root=str(root), bytecode=str(folder / "bytecode"))
    return subprocess.run([sys.executable, "-B", "-c", text], capture_output=True, text=True)


def test_a_module_comes_from_the_bytecode_of_the_child(tmp_path, request):
    (tmp_path / "small_module.py").write_text("import os\nVALUE = os.getpid()\n")
    cached, value, closed = run(tmp_path, request.config.rootpath).stdout.split()
    assert cached.startswith(str(tmp_path / "bytecode"))
    assert [*(tmp_path / "bytecode").rglob("small_module*.pyc")]
    assert value.isdigit()
    assert closed == "True"


def test_a_module_that_cannot_be_compiled_says_so_here(tmp_path, request):
    (tmp_path / "small_module.py").write_text("VALUE = (\n")
    assert "SyntaxError" in run(tmp_path, request.config.rootpath).stderr
