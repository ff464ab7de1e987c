"""What README, docs/ and the headers of programs and experiments show is what there is."""

import re
import shlex

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from conf.program import check_arguments
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
PROGRAM = r"(?:\w+\.py|-m (?:data\.(?:collect|summary)|variants\.\w+)) "  # those that read conf/
PLACEHOLDERS = {"...", "+exp=NAME", "+exp=mine", "SETTINGS", "decode.processes=N"}
SHOWN = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.py"), *ROOT.glob("variants/*.py")]
SHOWN += [*ROOT.glob("data/*.py"), *ROOT.glob("conf/exp/*.yaml")]


def commands() -> dict[tuple[str, ...], str]:
    """Every command line of these programs as {settings: where it stands}; no sweeps and no placeholders."""
    found = {}
    for path in SHOWN:
        text = re.sub(r" \\{1,2}\n[ #]*", " ", path.read_text())
        lines = re.findall(rf"^[ #]*python ({PROGRAM}.*=.*)", text, re.MULTILINE)
        for line in lines + re.findall(rf"`python ({PROGRAM}[^`]*=[^`]*)`", text):
            words = shlex.split(line, comments=True)
            file = words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0]
            assert (ROOT / file).exists(), f"{path}: {line}"
            if not PLACEHOLDERS & {*words} and "-m" not in words[1:]:
                found.setdefault(tuple(words[1 + (words[0] == "-m") :]), path.relative_to(ROOT).as_posix())
    return found


def test_the_functions_that_readme_shows_are_those_of_the_source():
    shown = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    sources = [path.read_text() for path in (ROOT / "losses/dpo.py", ROOT / "train_dpo.py")]
    assert shown
    for block in shown:
        assert any(block in source for source in sources), block


def test_commands_of_the_documentation_compose():
    shown = commands()
    assert len(shown) > 50
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for given, where in shown.items():
            try:
                check_arguments(given)
                compose("config", [*given])
            except (HydraException, SystemExit) as error:
                raise AssertionError(f"{where}: {' '.join(given)}") from error


def test_readme_names_every_loss():
    table = README[README.index("## Losses") : README.index("## How fast")]
    for path in (ROOT / "conf/loss").glob("*.yaml"):
        assert re.search(rf"\b{path.stem}\b", table), path.stem


def test_readme_counts_the_methods_of_the_comparison():
    table = (ROOT / "docs/experiments.md").read_text().partition("What the table says")[0]
    said = re.search(r"compares (\d+) methods", README)[1]
    assert len(re.findall(r"^\| \w.* (?:lr|epochs)=", table, re.MULTILINE)) == int(said)
    assert f"{said} methods, all with three seeds" in table
