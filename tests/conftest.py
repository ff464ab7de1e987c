"""A tiny policy and a few pairs, made once, and a way to run programs in this process."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import conf.program  # noqa: F401 - the schema and the resolvers of what is composed here
from data.jsonl import write_jsonl
from data.problems import CACHE
from data.tokenizer import load_tokenizer, train_tokenizer
from data.toy import toy_problems
from model.checkpoint import save_model
from model.families import parse_config
from model.transformer import Transformer

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"
ARCHITECTURE = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}


def compose_config(*overrides: str) -> DictConfig:
    """The configuration a program would get from these command-line overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    return cfg


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def run_processes(arguments: list[str], folder: Path, count: int = 2) -> str:
    """Run `python ARGUMENTS` in `folder` as that many processes that find one another, as torchrun would.

    Returns what they printed, once all have ended well.
    """
    meeting = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment = os.environ | meeting | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        printed = "".join(process.communicate(timeout=300)[0] for process in started)
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * count, printed
    return printed


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--benchmarks",
        type=Path,
        default=CACHE,
        help="folder with the published benchmark files; tests that need an absent one are skipped",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def two_threads() -> Iterator[None]:
    """test.sh gives tests one thread; sums whose order may depend on threads are tested with two."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def benchmarks(request: pytest.FixtureRequest) -> Path:
    """Where published benchmark files are looked for."""
    return request.config.getoption("--benchmarks")


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer checkpoint folder with a tokenizer of beginner programs."""
    home = tmp_path_factory.mktemp("tiny")
    texts = [p.prompt + p.canonical_solution for p in toy_problems("train", 200)]
    train_tokenizer(texts, home / "tokenizer", 400)
    tokenizer = load_tokenizer(home / "tokenizer")
    ids = {
        "vocab_size": tokenizer.size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
    }
    torch.manual_seed(0)
    save_model(
        Transformer(parse_config(ARCHITECTURE | ids)), home / "policy", tokenizer_from=home / "tokenizer"
    )
    return home / "policy"


@pytest.fixture(scope="session")
def tiny_pairs(tiny_policy: Path) -> Path:
    """Twenty pairs of 20 problems: the right program against one of its bugs."""
    rows = [
        {
            "task_id": p.task_id,
            "prompt": p.prompt,
            "chosen": p.canonical_solution,
            "rejected": p.meta["bugs"][0]["body"],
        }
        for p in toy_problems("train", 20)
    ]
    path = tiny_policy.parent / "pairs.jsonl"
    write_jsonl(path, rows)
    return path


@pytest.fixture
def flushed_before(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[int]]:
    """flushed_before(path) -> sizes of files flushed to the disk from now on, while `path` is not there."""

    def watch(path: Path) -> list[int]:
        sizes = []

        def fsync(file: int, real: Callable = os.fsync) -> None:
            assert not path.exists()
            real(file)
            sizes.append(os.fstat(file).st_size)

        monkeypatch.setattr(os, "fsync", fsync)
        return sizes

    return watch


@pytest.fixture
def run_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a program's `main` with overrides in an empty working directory; returns its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(main: Callable, *overrides: str) -> int:
        try:
            main(compose_config(*overrides))
        except SystemExit as leave:
            return int(leave.code or 0)
        finally:
            HydraConfig.instance().cfg = None
        return 0

    return run
