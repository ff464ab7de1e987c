"""What makes a training run another one, who may write its folder, and what is moved aside when."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import train_dpo
import train_sft
from conf.loss_function import loss_function
from conf.objective import claim_output, code_of, training_objective
from conf.program import RESERVED
from conf.schema import Config, LoraConfig, OptimConfig
from data.jsonl import read_jsonl, write_jsonl
from tests.conftest import compose_config
from tests.data.test_jsonl import other_program
from tests.test_train_sft import SMALL as SMALL_SFT

LOSS = """from losses.dpo import dpo_loss
from .scale import SCALE

def my_loss(policy, reference, *, beta):
    return dpo_loss(policy, reference, beta=beta * SCALE)
"""


OPTIM = {
    "lr": 1.0,
    "schedule": "constant",
    "warmup": 0.5,
    "betas": [0.5, 0.5],
    "eps": 1.0,
    "weight_decay": 0.5,
    "clip": 9.0,
    "batch": 3,
    "epochs": 9,
}
HARMLESS = {"microbatch", "max_steps", "log_every", "validate_every", "save_every"}
LORA = {"rank": 3, "alpha": 1.5, "targets": ["q_proj"]}
OTHER_VALUES = [
    ("loss", "loss.beta", 0.5),
    ("weights", "data.weights", "none"),
    ("reference", "run.reference", "none"),
    *(("optim", f"optim.{name}", value) for name, value in OPTIM.items()),
    *(("lora", f"model.lora.{name}", value) for name, value in LORA.items()),
    ("dtype", "model.dtype", "amp"),
    ("validation_share", "data.validation_share", 0.5),
    ("seed", "run.seed", 9),
]


@pytest.fixture
def train(run_program, tiny_policy, tiny_pairs):
    """train(*overrides) -> exit code of three steps on the tiny policy."""

    def run(*overrides: str) -> int:
        given = (f"model.path={tiny_policy}", f"data.pairs={tiny_pairs}", "run.name=t", "device=cpu")
        return run_program(train_dpo.main, *given, "optim.batch=4", "optim.max_steps=3", *overrides)

    return run


def objective(cfg: Config) -> dict:
    return training_objective(cfg, cfg.model.dtype, loss_function(cfg.loss), init="a", pairs="b")


def test_all_that_an_objective_holds_has_another_value_here():
    names = {"init", "pairs", "measured", "loss_code", *(key for key, _, _ in OTHER_VALUES)}
    assert objective(compose_config()).keys() == names
    assert {field.name for field in fields(OptimConfig)} == OPTIM.keys() | HARMLESS
    assert {field.name for field in fields(LoraConfig)} == LORA.keys()


@pytest.mark.parametrize(("key", "name", "value"), OTHER_VALUES)
def test_an_unfinished_run_with_another_value_is_refused(tmp_path, key, name, value):
    cfg, folder = compose_config(), tmp_path / "dpo"
    (folder / "training").mkdir(parents=True)
    noted = {"step": 1, "last_step": 2, "objective": objective(cfg)}
    (folder / "training/position.json").write_text(json.dumps(noted))
    with RESERVED:
        assert claim_output(folder, objective(cfg), 2, None) == 1
        OmegaConf.update(cfg, name, value)
        with pytest.raises(ValueError, match=rf"unfinished run \(step 1 of 2\) .*, now {{'{key}': "):
            claim_output(folder, objective(cfg), 2, None)


def test_a_run_from_other_weights_on_other_pairs_or_in_another_type_is_another_one(
    train, tiny_policy, tiny_pairs, tmp_path, capsys
):
    assert train() == 0
    where = Path("out/t/dpo/training/position.json")
    where.write_text(where.read_text().replace('"step": 3', '"step": 2'))
    shutil.copytree("out/t/dpo", tmp_path / "policy")
    write_jsonl(tmp_path / "pairs.jsonl", read_jsonl(tiny_pairs)[1:])
    for key, override in (
        ("init", f"model.path={tmp_path / 'policy'}"),
        ("pairs", f"data.pairs={tmp_path / 'pairs.jsonl'}"),
        ("dtype", "model.dtype=bf16"),
    ):
        assert train(override) == 1
        assert f"now {{'{key}': " in capsys.readouterr().err


def position(change) -> None:
    """Change the objective that a run has noted."""
    path = Path("out/t/dpo/training/position.json")
    noted = json.loads(path.read_text())
    change(noted["objective"])
    path.write_text(json.dumps(noted))


def test_a_loss_that_computes_something_else_makes_another_run(train, tmp_path, monkeypatch, capsys):
    package = tmp_path / "package_of_mine"
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    (package / "mine.py").write_text(LOSS)
    (package / "scale.py").write_text("SCALE = 1.0\n")
    mine = ("loss._target_=package_of_mine.mine.my_loss", "~loss.label_smoothing")
    assert train(*mine) == 0
    (package / "mine.py").write_text(
        LOSS.replace("    return", '    """Mine."""\n    return') + "# the end\n"
    )
    capsys.readouterr()
    assert train(*mine) == 0
    assert "out/t/dpo: finished" in capsys.readouterr().out

    (package / "scale.py").write_text("SCALE = 2.0\n")
    assert train(*mine) == 0
    assert "out/t/dpo: a finished run with other loss_code" in capsys.readouterr().out
    (package / "mine.py").write_text(LOSS.replace("beta * SCALE", "beta"))
    where = Path("out/t/dpo/training/position.json")
    where.write_text(where.read_text().replace('"step": 3', '"step": 2'))
    assert train(*mine) == 1
    error = capsys.readouterr().err
    assert "unfinished run (step 2 of 3)" in error
    assert "'loss_code': {'package_of_mine.mine': " in error
    assert "package_of_mine.scale" not in error


def test_a_run_that_did_not_note_the_code_of_its_loss_is_the_same(train, capsys):
    assert train() == 0
    position(lambda objective: objective.pop("loss_code"))
    assert train() == 0
    assert "out/t/dpo: finished" in capsys.readouterr().out


def test_the_code_of_a_loss_is_that_of_all_its_parts_and_what_they_import():
    def modules(name: str) -> set[str]:
        return {
            module.removeprefix("losses.") for module in code_of(loss_function(compose_config(name).loss))
        }

    assert modules("loss=dpo") == {"dpo", "types"}
    assert modules("loss=mpo") == {"mixture", "dpo", "bco", "sft", "types"}
    assert modules("loss=alpha_dpo") == {"alpha_dpo", "beta_dpo", "types"}
    assert modules("loss=wpo") == {"wpo", "dpo", "types"}


def test_the_code_of_a_loss_elsewhere_is_that_of_losses_it_calls_too(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    Path(tmp_path, "loss_elsewhere.py").write_text(LOSS.replace("from .scale import SCALE", "SCALE = 1.0"))
    mine = ("loss._target_=loss_elsewhere.my_loss", "~loss.label_smoothing")
    assert set(code_of(loss_function(compose_config(*mine).loss))) == {
        "loss_elsewhere",
        "losses.dpo",
        "losses.types",
    }


def test_a_finished_run_stays_in_place_when_the_next_cannot_begin(train, tmp_path, capsys):
    assert train() == 0
    (tmp_path / "damaged.safetensors").write_text("")
    before = sorted(tmp_path.rglob("*"))
    for column in ("data.weights", "run.reference"):
        assert train(f"{column}=damaged.safetensors") == 1
        assert "damaged.safetensors is damaged" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_cannot_be_its_own_reference(train, capsys):
    assert train() == 0
    assert train("run.reference=dpo") == 1
    assert "run.reference=dpo is out/t/dpo, where this run would be saved" in capsys.readouterr().err


def test_a_folder_has_one_training_run_at_a_time(train, run_program, capsys):
    for stage in ("dpo", "sft"):
        other = other_program(Path("out/t", stage).absolute(), "sys.stdin.read()")
        assert other.stdout.readline() == "mine\n"
        assert (train() if stage == "dpo" else run_program(train_sft.main, *SMALL_SFT)) == 1
        assert f"out/t/{stage} is being written by another program" in capsys.readouterr().err
        assert all(path.suffix == ".lock" for path in Path("out/t").iterdir())
        other.communicate("")


def test_a_folder_is_free_once_its_run_has_ended(train):
    assert train("optim.max_steps=1") == 0
    assert not [*Path("out/t").glob(".*.lock")]
    other = other_program(Path("out/t/dpo").absolute())
    assert other.communicate()[0] == "mine\n"


def test_what_is_left_of_a_run_that_was_moved_aside_stays(train):
    assert train("optim.max_steps=1") == 0
    for name in ("dpo.1.metrics.jsonl", "dpo.2-best"):
        Path("out/t", name).write_text("of an earlier run")
    assert train("optim.max_steps=1", "run.seed=7") == 0
    assert Path("out/t/dpo.1.metrics.jsonl").read_text() == "of an earlier run"
    assert Path("out/t/dpo.3").is_dir()


def test_likelihood_has_no_reference(run_program, capsys):
    few = (*SMALL_SFT, "optim.max_steps=1")
    assert run_program(train_sft.main, *few) == 0
    path = Path("out/t/sft/training/position.json")
    noted = json.loads(path.read_text())
    assert not {"reference", "weights", "loss_code"} & set(noted["objective"])
    noted["objective"]["reference"] = None  # as runs of before
    path.write_text(json.dumps(noted))
    assert run_program(train_sft.main, *few, "run.reference=missing") == 0
    assert "out/t/sft: finished" in capsys.readouterr().out
