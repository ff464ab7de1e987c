"""Numbers recorded from transformers keep the families covered where it is not installed.

    PYTHONPATH=. python tests/model/test_goldens.py        records goldens.json again; needs transformers

Weights follow from their names and need no random numbers. A golden is a config.json, the tensor shapes, and
a few logits, the summed log-prob and the embedding's gradient that transformers gave for them in float32.
"""

import json
import math
import re
import runpy
import tempfile
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoint import load_model

FILE = Path(__file__).with_name("goldens.json")
IDS = torch.tensor([(7 * i * i + 3 * i + 5) % 199 for i in range(40)])
PLACES = [(0, 3), (17, 0), (17, 198), (25, 50), (39, 7), (39, 111)]  # token, vocabulary
LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


def values(name: str, shape: list[int], family: str) -> torch.Tensor:
    """Numbers in (-0.25, 0.25) that look random; norm weights around 0.8, or 0 where the family adds 1."""
    phase = zlib.crc32(name.encode()) % 1000
    x = torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 12.9898 + phase) * 43.7585
    x = (x - x.floor() - 0.5).reshape(shape) * 0.5
    offset = 0.8 if len(shape) == 1 and name.endswith("weight") and "gemma" not in family else 0.0
    return (x + offset).float()


def write_checkpoint(folder: Path, config: dict, shapes: dict[str, list[int]]) -> None:
    """`shapes` names a layer's tensors once, as layer 0."""
    tensors = {}
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    for name, shape in shapes.items():
        names = [LAYER.sub(str(i), name, count=1) for i in range(layers)] if LAYER.search(name) else [name]
        tensors |= {each: values(each, shape, config["model_type"]) for each in names}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


def summary(logits: torch.Tensor, embedding: torch.Tensor) -> dict:
    logps = logits[:-1].log_softmax(-1).gather(1, IDS[1:, None]).sum()
    logps.backward()
    return {
        "logits": [round(logits[place].item(), 5) for place in PLACES],
        "logps": round(logps.item(), 3),
        "embedding_gradient": round(embedding.grad.norm().item(), 3),
    }


def goldens() -> dict[str, dict]:
    return json.loads(FILE.read_text())


@pytest.mark.parametrize("name", goldens() if FILE.exists() else [])
def test_recorded_numbers_of_transformers_come_out(name, tmp_path):
    golden = goldens()[name]
    write_checkpoint(tmp_path, golden["config"], golden["shapes"])
    model = load_model(tmp_path)
    hidden = model(IDS, torch.arange(40), torch.tensor([[0, 40, 0, 0]], dtype=torch.int32))
    logits = hidden @ model.lm_head.weight.T
    if cap := model.config.logit_softcap:
        logits = cap * torch.tanh(logits / cap)
    found = summary(logits, model.embedding.weight)
    assert found["logits"] == pytest.approx(golden["logits"], abs=2e-4)
    assert found["logps"] == pytest.approx(golden["logps"], abs=5e-3)
    assert found["embedding_gradient"] == pytest.approx(golden["embedding_gradient"], rel=2e-4)


def record(kind: str, settings: dict) -> dict:
    """What transformers computes for one case of test_families.py."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**settings))
    tied = model.config.tie_word_embeddings
    shapes = {
        name: list(t.shape) for name, t in model.state_dict().items() if not (tied and "lm_head" in name)
    }
    shapes = {name: s for name, s in shapes.items() if not LAYER.search(name) or LAYER.search(name)[0] == "0"}
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        config = {k: v for k, v in config.items() if v is not None or k == "sliding_window"}
        write_checkpoint(Path(folder), config, shapes)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
    logits = model(IDS[None]).logits[0]
    numbers = summary(logits, model.get_input_embeddings().weight)
    return {"config": config, "shapes": shapes} | numbers


def main() -> None:
    cases = runpy.run_path(str(Path(__file__).with_name("test_families.py")))
    found = {}
    for name, (kind, settings) in cases["CASES"].items():
        shape = {} if "n_embd" in settings else cases["TINY"]
        ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        found[name] = record(kind, {"vocab_size": cases["VOCAB"], **ids, **shape, **settings})
    lines = (f"{json.dumps(name)}: {json.dumps(golden)}" for name, golden in found.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{FILE}: {len(found)} cases, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
