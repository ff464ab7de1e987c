"""Ids of text by a tokenizer.json, through the `tokenizers` package: byte-level BPE and whatever else it
reads.

The package is not a requirement; it is imported here and only when such a folder is loaded. The file is plain
JSON, so what we need to know (added tokens, space in front, begin token, bytes of a piece) is read from it
directly. A folder with vocab.json and merges.txt alone is first written as such a document
(`from_vocabulary`). The interface is described in data/sentencepieces.py.
"""

import copy
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.added_tokens import NO_PREFIX, AddedToken, Prefix
from data.sentencepieces import piece_bytes

# How Qwen cuts text before merging; GPT-2's rule is built into the package.
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


class JsonPieces:
    """The vocabulary of a tokenizer.json document; ValueError when `tokenizers` is absent or refuses."""

    def __init__(
        self,
        spec: dict,
        where: Path,
        added: Iterable[AddedToken] = (),
        named: Iterable[str] = (),
        stop: Iterable[int] = (),
    ) -> None:
        added = {token.id: token for token in added}
        vocabulary = model_vocabulary(spec, where)
        self.ids_of = vocabulary | {token.content: i for i, token in added.items()}
        self.size = 1 + max(self.ids_of.values(), default=-1)
        self.bos_id = self.eos_id = None
        kept = {i for i in stop if i < self.size} | {self.ids_of.get(spec["model"].get("unk_token"))} - {None}
        self.control = {i for i, token in added.items() if token.special}
        self.control |= {self.ids_of[name] for name in named if name in self.ids_of} | kept
        content = {i: piece for piece, i in vocabulary.items()}
        added |= {i: AddedToken(i, content[i]) for i in self.control - added.keys()}

        self.prefix = prefix_of(spec)
        self.strips_space = self.prefix.scheme != "never" and not has(spec.get("pre_tokenizer"), "ByteLevel")
        self.build(spec, where, added.values())
        ordinary = self.control - kept
        words = {i for i in ordinary & content.keys() if self.encode(content[i], start=False) == [i]}
        if words:  # what a text can give is no control token: some files pad with an ordinary piece, "!" say
            self.control -= words
            self.build(spec, where, [token for i, token in added.items() if i not in words])

        to_bytes = byte_reader(spec, where)
        self.bytes_of = [b""] * self.size
        for piece, i in vocabulary.items():
            if i not in self.control:
                self.bytes_of[i] = to_bytes(piece)
        for i in added.keys() - self.control - words:
            content = added[i].content
            written = content.encode() if is_byte_level(spec) else piece_bytes(content)
            self.bytes_of[i] = b" " * (i in self.spaced) + written

    def build(self, spec: dict, where: Path, added: Iterable[AddedToken]) -> None:
        """The package's tokenizers, for text from its start and for text that continues another."""
        added = sorted(added, key=lambda token: token.id)
        rows = [vars(token) | {"special": token.id in self.control} for token in added]
        spec = spec | {"truncation": None, "padding": None, "added_tokens": rows}
        self.tokens = build(spec, where)
        # The space that is put in front of text is put in front of tokens that are normalised like it: they
        # are found, in any text, and written as " <tok>".
        prepends = has(spec.get("normalizer"), "Prepend")
        self.spaced = {t.id for t in added if prepends and t.normalized and t.id not in self.control}
        continued = without_prefix(spec)
        continued["added_tokens"] = [
            row | {"content": " " * (row["id"] in self.spaced) + row["content"]} for row in rows
        ]
        self.continued = self.tokens if continued == spec else build(continued, where)

    def encode(self, text: str, *, control: bool = False, start: bool = True) -> list[int]:
        """Ids of `text`. `control`: recognise control tokens in it; `start`: nothing precedes it."""
        tokens = self.tokens if start else self.continued
        tokens.encode_special_tokens = not control
        try:
            return tokens.encode(text, add_special_tokens=False).ids
        except TypeError:
            text.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError that says where
            raise

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """`encode` of many plain texts."""
        self.tokens.encode_special_tokens = True
        return [row.ids for row in self.tokens.encode_batch(texts, add_special_tokens=False)]


def build(spec: dict, where: Path) -> "tokenizers.Tokenizer":  # noqa: F821, the optional package
    try:
        import tokenizers
    except ImportError:
        raise ValueError(
            f"{where} needs a package that is not installed; install it with: pip install tokenizers"
        ) from None
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # the package raises bare Exception
        raise ValueError(
            f"{where} is not a tokenizer that the tokenizers package can read: {error}"
        ) from None


def model_vocabulary(spec: dict, where: Path) -> dict[str, int]:
    """Piece -> id; sentencepiece unigram models keep a list of [piece, score]."""
    model = spec.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):
        return {piece: i for i, (piece, _) in enumerate(vocabulary)}
    if not isinstance(vocabulary, dict):
        raise ValueError(
            f"{where} has no model.vocab; a tokenizer.json of the tokenizers package is expected"
        )
    return vocabulary


def nested(node: object) -> Iterator[dict]:
    """Every component of a normalizer, pre_tokenizer or decoder, with those inside a Sequence."""
    if isinstance(node, dict):
        yield node
        for inner in node.values():
            yield from nested(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from nested(inner)


def has(node: object, kind: str) -> bool:
    return any(part.get("type") == kind for part in nested(node))


def prefix_of(spec: dict) -> Prefix:
    """The space in front of text that a tokenizer.json asks for."""
    if has(spec.get("normalizer"), "Prepend"):
        return Prefix("always")
    for part in nested(spec.get("pre_tokenizer")):
        if part.get("type") == "Metaspace":
            old = "always" if part.get("add_prefix_space", True) else "never"
            return Prefix(part.get("prepend_scheme", old), doubled=False)
        if part.get("type") == "ByteLevel" and part.get("add_prefix_space"):
            return Prefix("always", doubled=False)
    return NO_PREFIX


def without_prefix(spec: dict) -> dict:
    """The same document for text that continues another."""
    spec = spec | {key: copy.deepcopy(spec.get(key)) for key in ("normalizer", "pre_tokenizer")}
    if has(spec["normalizer"], "Prepend"):
        if spec["normalizer"]["type"] == "Prepend":
            spec["normalizer"] = None
        else:
            steps = spec["normalizer"]["normalizers"]
            spec["normalizer"]["normalizers"] = [step for step in steps if step["type"] != "Prepend"]
    for part in nested(spec["pre_tokenizer"]):
        if part.get("type") == "Metaspace" and prefix_of(spec).scheme != "never":
            part |= {"prepend_scheme": "never", "add_prefix_space": False}
        if part.get("type") == "ByteLevel":
            part["add_prefix_space"] = False
    return spec


def begin_token(spec: dict | None) -> str | None:
    """The token that tokenizer.json puts in front of a text, if any."""
    for part in nested((spec or {}).get("post_processor")):
        if part.get("type") == "TemplateProcessing" and part["single"]:
            return part["single"][0].get("SpecialToken", {}).get("id")
    return None


def byte_reader(spec: dict, where: Path):
    """A function: piece -> the bytes it adds to decoded text."""
    if is_byte_level(spec):
        table = byte_of_character()
        return lambda piece: bytes(table[c] for c in piece) if table.keys() >= set(piece) else piece.encode()
    if any(has(spec.get("decoder"), kind) for kind in ("ByteFallback", "Metaspace", "Replace")):
        return lambda piece: piece_bytes(piece, is_byte=len(piece) == 6 and piece.startswith("<0x"))
    raise ValueError(
        f"{where}: pieces of its kind cannot be joined into exact text "
        f"(decoder {json.dumps(spec.get('decoder'))[:80]}); byte-level and sentencepiece ones can"
    )


def is_byte_level(spec: dict) -> bool:
    """Whether pieces stand for bytes, not for text with ▁ for spaces. Added tokens are text there."""
    return has(spec.get("decoder"), "ByteLevel") or has(spec.get("pre_tokenizer"), "ByteLevel")


def byte_of_character() -> dict[str, int]:
    """The printable stand-in that byte-level BPE (GPT-2) uses for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    return table | {chr(256 + n): byte for n, byte in enumerate(others)}


def from_vocabulary(vocabulary: dict, merges_file: Path, kind: str, add_prefix_space: bool) -> dict:
    """vocab.json and merges.txt as a tokenizer.json document; `kind` is the published tokenizer class."""
    lines = merges_file.read_text(encoding="utf-8").split("\n")
    lines = lines[1:] if lines[0].startswith("#version") else lines
    merges = [line.rstrip("\r").split(" ") for line in lines if line.strip()]
    if any(len(pair) != 2 for pair in merges):
        bad = next(pair for pair in merges if len(pair) != 2)
        raise ValueError(f"{merges_file}: {' '.join(bad)!r} is not a pair of pieces")
    byte_level = {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True}
    if kind == "Qwen2Tokenizer":
        words = {"type": "Split", "pattern": {"Regex": QWEN_WORDS}, "behavior": "Isolated", "invert": False}
        steps = [words, byte_level | {"use_regex": False}]
        pre_tokenizer, normalizer = {"type": "Sequence", "pretokenizers": steps}, {"type": "NFC"}
    else:
        pre_tokenizer, normalizer = byte_level | {"use_regex": True}, None
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    }
