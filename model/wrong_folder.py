"""What lies where a checkpoint was expected, in words that say what to do next.

Downloads fail in few ways: a gated repository answers with a web page or a sentence, `git clone` without
git-lfs leaves pointers, a folder holds another format, only adapters, or the checkpoint one level deeper.
"""

from pathlib import Path

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
EXPECTED = (
    "expected config.json beside model.safetensors, model.safetensors.index.json with its shards, or "
    "pytorch_model.bin"
)


def what_it_is(path: Path) -> str:
    """What a file holds that cannot be read as what its name says."""
    with path.open("rb") as file:
        start = file.read(400)
    if not start.strip(b"\0"):
        return "it is empty; download it again" if not start else "it begins with zeros; download it again"
    if start.lstrip()[:1] == b"<":
        return "it is a web page, probably the one asking to accept a licence; log in, accept, download again"
    if start.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer; run `git lfs pull` in that folder"
    if start.startswith(b"GGUF"):
        return "it is a GGUF file, made for llama.cpp; download the original weights"
    size = path.stat().st_size
    if size <= len(start) and start.isascii() and start.decode().isprintable():
        return f"it holds the answer {start.decode()[:200]!r}; log in, accept the licence, download again"
    return f"it has {size} bytes and no valid header; download it again"


def check_folder(folder: Path) -> None:
    """ValueError unless config.json and weights lie in `folder`; what they hold is not looked at."""
    if problem := problem_with(folder):
        raise ValueError(problem)


def problem_with(folder: Path) -> str:
    """Why `folder` is not a checkpoint folder; empty when it looks like one."""
    if not folder.exists():
        return (
            f"there is no folder {folder}: a checkpoint is a folder on this machine, {EXPECTED}; download one"
            ", for example with `hf download Qwen/Qwen2.5-Coder-0.5B --local-dir FOLDER`"
        )
    if not folder.is_dir():
        return f"{folder} is a file; give the folder that holds it: {EXPECTED}"
    names = {path.name for path in folder.iterdir()}
    has_weights = any((folder / name).is_file() or f"{name}.index.json" in names for name in WEIGHTS)
    if "config.json" in names and has_weights:
        return ""
    found = f"found {', '.join(sorted(names)[:8]) or 'nothing'}{' ...' * (len(names) > 8)}"
    missing = "no config.json" if "config.json" not in names else "no weights"
    return f"{folder} has {missing}: {EXPECTED}; {found}{_advice(folder, names)}"


def _advice(folder: Path, names: set[str]) -> str:
    deeper = sorted(path.parent for path in (*folder.glob("*/config.json"), *folder.glob("*/*/config.json")))
    if "adapter_config.json" in names:
        return ". These are adapters without their model: merge them into it, then give that folder"
    if any(name.endswith(".gguf") for name in names):
        return ". GGUF files are for llama.cpp: download the original weights"
    if any(name.endswith((".pth", ".npz", ".msgpack", ".h5")) for name in names):
        return ". These weights are in another format: download the ones that transformers reads"
    if deeper:
        return f". A checkpoint lies deeper: give {deeper[0]}"
    if any(name.endswith(".safetensors") for name in names) and "config.json" in names:
        return ". If these are shards, download model.safetensors.index.json too"
    return ". Download what is missing" if names else ". Download the checkpoint again"
