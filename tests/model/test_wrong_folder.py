"""A folder that is no checkpoint is described by what lies in it and what to do next."""

from pathlib import Path

import pytest

from model.wrong_folder import check_folder, what_it_is


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "has no config.json: expected .*; found nothing. Download the checkpoint again"),
        (("config.json", "tokenizer.json"), "has no weights: .*found config.json, tokenizer.json. Download"),
        (("adapter_config.json", "adapter_model.safetensors"), "adapters without their model: merge"),
        (("model-q4_k_m.gguf",), "GGUF files are for llama.cpp"),
        (("config.json", "consolidated.00.pth"), "in another format"),
        (
            ("config.json", "model-00001-of-00002.safetensors"),
            r"download model\.safetensors\.index\.json too",
        ),
        (("snapshots/abc/config.json", "refs/main"), "lies deeper: give .*snapshots/abc"),
        (("model.safetensors",), "has no config.json.*found model.safetensors"),
        (tuple(f"{i}.txt" for i in range(9)), r"found 0\.txt, .* 7\.txt \.\.\."),
    ],
)
def test_what_lies_there_decides_the_advice(names, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        check_folder(fill(tmp_path, *names))


def test_a_name_of_the_hub_and_a_file_are_no_folders(tmp_path):
    with pytest.raises(ValueError, match="no folder org/model: a checkpoint is a folder.*hf download"):
        check_folder(Path("org/model"))
    fill(tmp_path, "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is a file; give the folder that holds it"):
        check_folder(tmp_path / "model.safetensors")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin.index.json"])
def test_a_checkpoint_is_let_through(weights, tmp_path):
    check_folder(fill(tmp_path, "config.json", weights))


def test_the_text_of_a_refused_download_is_shown(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("Access to model org/m is restricted")
    assert "it holds the answer 'Access to model org/m is restricted'; log in" in what_it_is(path)
    path.write_bytes(bytes(range(1, 200)) * 9)
    assert what_it_is(path).startswith("it has 1791 bytes")
