"""Text to token ids and back, exactly: the same ids in training and sampling, the same bytes after decoding.

`load_tokenizer` reads the tokenizer files of a checkpoint folder as published: tokenizer.model,
tokenizer.json, or vocab.json with merges.txt, and the small files beside them. `prompt_ids` and
`completion_ids` are the only places where begin and end tokens are added. Decoding joins the bytes of the
pieces and does nothing else. `train_tokenizer` makes a vocabulary of our own.
"""

import codecs
import hashlib
import io
import json
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import sentencepiece

from data.added_tokens import NO_PREFIX, AddedToken, Prefix
from data.chat_template import TemplateRenderer
from data.jsonl import write_json
from data.sentencepieces import SPACE, SentencePieces
from data.tokenizer_json import JsonPieces, begin_token, from_vocabulary, prefix_of

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"
# Whatever a folder has of these makes its digest, and must go along when a checkpoint is saved.
TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
TEMPLATE_FOLDER = "additional_chat_templates"
BEGINS_WITH_BOS = {"LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", ""}  # where no file says so
ANSWER = "THEANSWER"  # stands for an assistant's message when we look for what ends one


class Tokenizer:
    """One folder's tokenizer. `size` counts its ids; a model's embedding may have more rows, never fewer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
        named = named_tokens(config)
        self.declared_stop = declared_stop_ids(folder)
        self.vocabulary, spec = read_vocabulary(folder, config, named.values(), self.declared_stop)
        self.size = self.vocabulary.size
        self.bytes_of = self.vocabulary.bytes_of

        ids_of = self.vocabulary.ids_of
        begin = begin_token(spec)
        self.bos_id: int | None = ids_of.get(named.get("bos_token", begin), self.vocabulary.bos_id)
        self.eos_id: int | None = ids_of.get(named.get("eos_token"), self.vocabulary.eos_id)
        if self.eos_id is None:
            self.eos_id = min(self.declared_stop, default=None)
        self.adds_bos = self.bos_id is not None and adds_bos(config, spec, begin)

        self.chat_templates = read_chat_templates(folder, config)
        self.chat_template = default_template(self.chat_templates)
        self.named = named
        self.renderer = TemplateRenderer()
        self.digest = digest_tokenizer(folder)

    def encode(self, text: str) -> list[int]:
        """Ids of a text from its start, undone by `decode`; what looks like a control token stays text."""
        return self.vocabulary.encode(text)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """`encode` of many texts."""
        return self.vocabulary.encode_batch(list(texts))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids that begin a text. Control ids give nothing, bytes that are not UTF-8 U+FFFD."""
        text = self.completion_text(ids)
        return text.removeprefix(" ") if self.vocabulary.strips_space else text

    def prompt_ids(self, text: str) -> list[int]:
        """What a model is given to continue: the begin token where the family has one, and the text."""
        return ([self.bos_id] if self.adds_bos else []) + self.encode(text)

    def completion_ids(self, text: str) -> list[int]:
        """A text that continues another (no space is put in front of it), and the end token."""
        return self.vocabulary.encode(text, start=False) + [self.end_id()]

    def completion_text(self, ids: Iterable[int]) -> str:
        """The text of ids that continue others: unlike `decode`, a leading space is kept in every family."""
        return b"".join([self.bytes_of[i] for i in ids]).decode("utf-8", errors="replace")

    def end_id(self) -> int:
        if self.eos_id is None:
            raise ValueError(
                f"{self.folder} names no end token; set eos_token in tokenizer_config.json, "
                "or eos_token_id in config.json"
            )
        return self.eos_id

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a completion, by config.json, generation_config.json, tokenizer or chat template."""
        ends = {self.eos_id, self.end_of_turn} - {None}
        return frozenset(ends | {i for i in self.declared_stop if i < self.size})

    @cached_property
    def usable_ids(self) -> list[int]:
        """Ids that may be sampled, ascending: every id with text of its own, and the stop ids."""
        spoken = {i for i, piece in enumerate(self.bytes_of) if piece}
        return sorted(spoken | self.stop_ids)

    @cached_property
    def end_of_turn(self) -> int | None:
        """The control token that the chat template puts after an assistant's message, if it puts one."""
        if self.chat_template is None:
            return None
        user, assistant = ({"role": role, "content": ANSWER} for role in ("user", "assistant"))
        try:
            text = self.render([user, assistant])
        except (
            ValueError
        ):  # a template that refuses this conversation; asked for the user's own, it will say why
            return None
        _, found, rest = text.rpartition(ANSWER)
        ids = self.vocabulary.encode(rest, control=True, start=False) if found else []
        return next((i for i in ids if i in self.vocabulary.control), None)

    def render(self, messages: list[dict], add_generation_prompt: bool = False, **variables: object) -> str:
        """A conversation as the chat template writes it. `variables` are the template's own (tools, ...)."""
        if self.chat_template is None:
            others = f" among {', '.join(sorted(self.chat_templates))}" if self.chat_templates else ""
            raise ValueError(
                f"{self.folder} has no default chat template{others}; use text prompts, or write one to "
                f"{self.folder / 'chat_template.jinja'}"
            )
        template = self.chat_template
        if variables.get("tools") and "tool_use" in self.chat_templates:
            template = self.chat_templates["tool_use"]
        settings = {"messages": messages, "add_generation_prompt": add_generation_prompt}
        settings = {"tools": None, "documents": None} | self.named | variables | settings
        return self.renderer.render(template, settings, where=f"{self.folder}, chat template")

    def chat_ids(
        self, messages: list[dict], add_generation_prompt: bool = True, **variables: object
    ) -> list[int]:
        """Ids of a rendered conversation; the template writes its own begin token, none is added."""
        return self.vocabulary.encode(self.render(messages, add_generation_prompt, **variables), control=True)


class StreamDecoder:
    """Decode a completion id by id; a character appears once its last byte is there.

    What `push` returned and `finish` returns, joined, equals `tokenizer.completion_text` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.bytes_of = tokenizer.bytes_of
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, i: int) -> str:
        return self.decoder.decode(self.bytes_of[i])

    def finish(self) -> str:
        return self.decoder.decode(b"", final=True)


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer of a checkpoint folder; ValueError when there is none or it cannot be read."""
    return Tokenizer(Path(folder))


def check_vocabulary(tokenizer: Tokenizer, rows: int) -> None:
    """ValueError unless a model with `rows` embedding rows has one for every id of `tokenizer`."""
    if tokenizer.size > rows:
        raise ValueError(
            f"{tokenizer.folder}: the tokenizer has {tokenizer.size} ids, the model's embedding {rows} rows; "
            "they are not from the same checkpoint, or tokens were added without resizing the model"
        )


def read_vocabulary(
    folder: Path, config: dict, named: Iterable[str], stop: set[int]
) -> tuple[SentencePieces | JsonPieces, dict | None]:
    """The folder's vocabulary, and its tokenizer.json where there is one."""
    model, document = folder / "tokenizer.model", folder / "tokenizer.json"
    spec = read_json(document) or None
    kind = tokenizer_class(config)
    if model.is_file() and not (spec and is_rank_file(model)):
        if spec:
            prefix = prefix_of(spec)
        elif kind == "GemmaTokenizer" or config.get("add_prefix_space") is False:
            prefix = NO_PREFIX
        elif config.get("add_prefix_space") or config.get("legacy"):
            prefix = Prefix("always" if config.get("legacy") and kind != "CodeLlamaTokenizer" else "first")
        else:
            prefix = None
        return SentencePieces(model, added_tokens(folder, config, spec), named, stop, prefix), spec
    if not spec and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        if not kind and str(read_json(folder / "config.json").get("model_type")).startswith("qwen"):
            kind = "Qwen2Tokenizer"
        spec = from_vocabulary(folder, kind, bool(config.get("add_prefix_space")))
        document = folder / "vocab.json"
    if not spec:
        found = sorted(path.name for path in folder.iterdir())[:12] if folder.is_dir() else "no such folder"
        raise ValueError(
            f"{folder} holds no tokenizer: tokenizer.model, tokenizer.json, or vocab.json with merges.txt "
            f"expected, found {found}"
        )
    return JsonPieces(spec, document, added_tokens(folder, config, spec), named, stop), spec


def read_json(path: Path) -> dict:
    """A JSON object; {} when there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); download the file again") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {type(value).__name__} found, a JSON object expected")
    return value


def is_rank_file(path: Path) -> bool:
    """Llama 3 ships a list of base64 strings and ranks (tiktoken's format) under sentencepiece's name."""
    with open(path, "rb") as file:
        return re.match(rb"[A-Za-z0-9+/=]+ \d+\n", file.read(200)) is not None


def tokenizer_class(config: dict) -> str:
    return str(config.get("tokenizer_class") or "").removesuffix("Fast")


def content_of(token: object) -> str | None:
    """Tokens are named by their content or by an object that has it."""
    return token.get("content") if isinstance(token, dict) else token if isinstance(token, str) else None


def named_tokens(config: dict) -> dict[str, str]:
    """bos_token, eos_token and every other `..._token` of tokenizer_config.json -> content."""
    contents = {key: content_of(value) for key, value in config.items() if key.endswith("_token")}
    return {key: content for key, content in contents.items() if content}


def declared_stop_ids(folder: Path) -> set[int]:
    """eos_token_id of config.json and generation_config.json; each a number or a list."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        value = read_json(folder / name).get("eos_token_id")
        values = value if isinstance(value, list) else [value]
        found |= {i for i in values if isinstance(i, int) and i >= 0}
    return found


def added_tokens(folder: Path, config: dict, spec: dict | None) -> list[AddedToken]:
    """What tokenizer.json, added_tokens.json and tokenizer_config.json add; the last of them wins."""
    flags = ("special", "lstrip", "rstrip", "normalized", "single_word")
    rows = {row["id"]: row for row in (spec or {}).get("added_tokens") or []}
    extra = {content_of(token) for key in ("additional_special_tokens", "extra_special_tokens")
             for token in config.get(key) or []}  # fmt: skip
    for content, i in read_json(folder / "added_tokens.json").items():
        rows.setdefault(i, {"content": content, "special": content in extra})
    for i, row in (config.get("added_tokens_decoder") or {}).items():
        rows[int(i)] = row
    return [
        AddedToken(i, row["content"], **{flag: bool(row.get(flag, False)) for flag in flags})
        for i, row in sorted(rows.items())
    ]


def adds_bos(config: dict, spec: dict | None, begin: str | None) -> bool:
    """Whether prompts start with the begin token, by the config, else tokenizer.json, else family."""
    if isinstance(config.get("add_bos_token"), bool):
        return config["add_bos_token"]
    if spec is not None and spec.get("post_processor"):
        return begin is not None
    return tokenizer_class(config) in BEGINS_WITH_BOS and (spec is None or bool(tokenizer_class(config)))


def read_chat_templates(folder: Path, config: dict) -> dict[str, str]:
    """Name -> source of every chat template, "default" where it has no name. Files beat the config."""
    found = config.get("chat_template") or read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        templates = {row["name"]: row["template"] for row in found}
    elif isinstance(found, dict):
        templates = dict(found)
    else:
        templates = {"default": found} if found else {}
    for path in sorted((folder / TEMPLATE_FOLDER).glob("*.jinja")):
        templates[path.stem] = path.read_text(encoding="utf-8")
    if (folder / "chat_template.jinja").is_file():
        templates["default"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return templates


def default_template(templates: dict[str, str]) -> str | None:
    return next(iter(templates.values())) if len(templates) == 1 else templates.get("default")


def digest_tokenizer(folder: Path) -> str:
    """16 hex digits over names and bytes of the tokenizer files; the same for a copy elsewhere."""
    digest = hashlib.sha256()
    paths = [folder / name for name in TOKENIZER_FILES]
    for path in [*paths, *sorted((folder / TEMPLATE_FOLDER).glob("*.jinja"))]:
        if path.is_file():
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def train_tokenizer(texts: Iterable[str], folder: Path | str, size: int) -> None:
    """Train sentencepiece BPE on `texts` and write tokenizer.model, tokenizer.json and tokenizer_config.json.

    Identity normalisation, no dummy prefix, every space kept, runs of spaces as pieces, digits apart, rare
    characters as bytes: what is encoded comes back. Line ends and tabs are pieces of their own, since they
    are cut out of the training text. `size` is an upper bound, reached unless the texts hold too few
    different pairs. The same texts in the same order give the same files.
    """
    folder = Path(folder)
    lines = (line for text in texts for line in re.split(r"[\n\r\t]+", text) if line)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            byte_fallback=True,
            split_digits=True,
            allow_whitespace_only_pieces=True,
            required_chars="\n\r\t" + "".join(map(chr, range(33, 127))),
            character_coverage=0.9995,
            max_sentence_length=1 << 20,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            pad_piece=PAD,
            bos_piece=BOS,
            eos_piece=EOS,
            unk_piece=UNK,
            num_threads=1,  # the same file every time
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(f"no tokenizer of {size} pieces can be trained on these texts: {error}") from None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    write_json(folder / "tokenizer.json", as_document(folder / "tokenizer.model"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": True,
            "add_eos_token": False,
            "add_prefix_space": False,
            "legacy": False,
            "clean_up_tokenization_spaces": False,
            "pad_token": PAD,
            "bos_token": BOS,
            "eos_token": EOS,
            "unk_token": UNK,
        },
    )


def as_document(path: Path) -> dict:
    """Our tokenizer.model as a tokenizer.json, for programs that read only those.

    Merges are every way to put a piece together from two others, in the order the pieces were learnt.
    """
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    pieces = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    learnt = [
        piece
        for piece, i in pieces.items()
        if not (model.is_control(i) or model.is_unknown(i) or model.is_byte(i))
    ]
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted(learnt, key=lambda piece: (-model.get_score(pieces[piece]), pieces[piece]))
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": pieces[name], "content": name} | flags for name in (PAD, BOS, EOS, UNK)],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": BOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {BOS: {"id": BOS, "ids": [pieces[BOS]], "tokens": [BOS]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNK,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": pieces,
            "merges": merges,
        },
    }
