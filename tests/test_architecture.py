"""The dependency rule of docs/architecture.md and README's line budget, checked on the source itself."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"model", "losses", "data"}
TORCH_IN_DATA = {"data/pairs.py"}
PROGRAMS_IN_DATA = {"data/collect.py", "data/execution.py", "data/problems.py", "data/summary.py"}
ALLOWED = {"torch", "numpy", "sentencepiece", "safetensors", "tqdm", "hydra", "omegaconf"}
OPTIONAL = {"tokenizers", "jinja2", "tensorboard"}  # imported inside the function that needs them


def sources(*folders: str) -> list[Path]:
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in files if ".venv" not in path.parts]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """First names of everything a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_do_not_import_one_another(package):
    for path in sources(package):
        assert not imports(path) & (PACKAGES - {package}), name(path)
        assert not imports(path) & {"variants", "bench", "tests"}, name(path)


def test_no_package_knows_the_configuration():
    for path in sources(*PACKAGES):
        if name(path) not in PROGRAMS_IN_DATA:
            assert not imports(path) & {"conf", "hydra", "omegaconf"}, name(path)


def test_data_is_free_of_torch_but_for_one_file():
    for path in sources("data"):
        assert ("torch" in imports(path)) <= (name(path) in TORCH_IN_DATA), name(path)


def test_nothing_imports_variants():
    for path in [*sources(*PACKAGES, "conf"), *ROOT.glob("*.py")]:
        assert "variants" not in imports(path), name(path)


def test_only_the_six_packages_are_imported_at_the_top():
    stdlib = sys.stdlib_module_names
    own = PACKAGES | {"conf", "variants"} | {path.stem for path in ROOT.glob("*.py")}
    for path in [*sources(*PACKAGES, "conf"), *ROOT.glob("*.py")]:
        foreign = imports(path, top_level_only=True) - stdlib - own - ALLOWED
        assert not foreign, f"{name(path)} imports {foreign}"
        assert not imports(path) - stdlib - own - ALLOWED - OPTIONAL, name(path)


def test_requirements_are_the_six_packages():
    rows = [row for row in (ROOT / "requirements.txt").read_text().splitlines() if row and row[0] != "#"]
    packages = {row.split("=")[0].split(">")[0] for row in rows}
    assert packages == {"torch", "numpy", "sentencepiece", "safetensors", "tqdm", "hydra-core"}


def test_the_reading_order_of_the_readme_stays_under_1200_lines():
    order = r"\*\*Reading order\*\*:(.*?); under 1,200 lines together"
    files = re.findall("`(.+?)`", re.search(order, (ROOT / "README.md").read_text(), re.DOTALL)[1])
    assert "train_dpo.py" in files
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in files}
    assert sum(lengths.values()) < 1200, lengths


def test_programs_start_without_the_compiler_whose_import_takes_as_long_as_all_others():
    code = "import sys, evaluate, sample, train_dpo; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
