"""Text to token ids and back, exactly: the same ids in training and sampling, the same bytes after decoding.

`load_tokenizer` reads the tokenizer files of a checkpoint folder as published: tokenizer.model,
tokenizer.json, or vocab.json with merges.txt, and the small files beside them. `prompt_ids` and
`completion_ids` are the only places where begin and end tokens are added. Decoding joins the bytes of the
pieces and does nothing else. `train_tokenizer` makes a vocabulary of our own.
"""

import codecs
import io
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import sentencepiece

from data.chat_template import TemplateRenderer
from data.json_files import read_json
from data.jsonl import write_json
from data.sentencepieces import as_document
from data.tokenizer_files import (
    adds_bos,
    declared_stop_ids,
    default_template,
    digest_tokenizer,
    named_tokens,
    read_chat_templates,
    read_vocabulary,
)
from data.tokenizer_json import begin_token

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"
ANSWER = "THEANSWER"  # stands for an assistant's message when we look for what ends one


class Tokenizer:
    """One folder's tokenizer. `size` counts its ids; a model's embedding may have more rows, never fewer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
        named = named_tokens(config)
        self.declared_stop = declared_stop_ids(folder)
        self.vocabulary, spec = read_vocabulary(folder, config, self.declared_stop)
        self.size = self.vocabulary.size
        self.bytes_of = self.vocabulary.bytes_of

        ids_of = self.vocabulary.ids_of
        begin = begin_token(spec)
        self.bos_id: int | None = ids_of.get(begin or named.get("bos_token"), self.vocabulary.bos_id)
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
        # Some files keep tool_calls: null or content: null; templates take an absent key well, and print None
        messages = [{k: v for k, v in message.items() if v is not None} for message in messages]
        settings = {"messages": messages, "add_generation_prompt": add_generation_prompt}
        settings = {"tools": None, "documents": None} | self.named | variables | settings
        return self.renderer.render(template, settings, where=f"{self.folder}, chat template")


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
