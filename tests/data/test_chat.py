"""Chat templates as published, conversational pairs, and templates that mean harm."""

import contextlib
import json
import time

import pytest

from data.chat import conversation_ids
from data.chat_template import MEMORY, SECONDS, TemplateRenderer
from data.jsonl import write_json
from data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

TURNS = [
    "<|im_start|>",
    "<|im_end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|EOT|>",
    "<|user|>",
    "<|assistant|>",
]
TURNS += ["<|end|>", "[INST]", "[/INST]"]
# Written for this test after the published ones: same structure, same traps.
TEMPLATES = {
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{{ message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama2": "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "mistral": "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}"
    "{{ '[INST] ' + message.content + '[/INST]' }}{% else %}{{ ' ' + message.content + eos_token }}"
    "{% endif %}{% endfor %}",
    "gemma": "{{ bos_token }}{% for message in messages %}"
    "{% set role = 'model' if message.role == 'assistant' else message.role %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "deepseek": "{% set ns = namespace(found=false) %}{%- for message in messages -%}"
    "{%- if message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n' }}"
    "{%- else %}{{ '### Response:\n' + message['content'] + '\n<|EOT|>\n' }}{%- endif %}{%- endfor -%}"
    "{% if add_generation_prompt %}{{ '### Response:' }}{% endif %}",
    "phi3": "{{ bos_token }}{% for message in messages %}{{ '<|' + message.role + '|>' + '\n' }}"
    "{{ message.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "tracked": "{% for message in messages %}\n    {% if message.role == 'assistant' %}\n"
    "<|im_start|>assistant\n{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}\n\n"
    "    {%- continue %}\n    {% endif %}\n<|im_start|>user\n{{ message.content | tojson }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
}
END = {
    "llama2": "</s>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "deepseek": "<|EOT|>",
    "phi3": "<|end|>",
}
QUESTION = {"role": "user", "content": "Write f.\n\n    keep <this> & é"}
GOOD = {"role": "assistant", "content": "def f():\n    return 1"}
BAD = {"role": "assistant", "content": "    pass"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tokenizer with the control tokens of several families; tests write their template into a copy."""
    folder = tmp_path_factory.mktemp("chat")
    texts = [str(value) for value in (*TEMPLATES.values(), QUESTION, GOOD, BAD)] * 3
    train_tokenizer(texts, folder, 500)
    size = load_tokenizer(folder).size
    added = {str(size + n): {"content": token, "special": True} for n, token in enumerate(TURNS)}
    config = {
        "added_tokens_decoder": added,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "add_prefix_space": False,
    }
    write_json(
        folder / "tokenizer_config.json", config | {"tokenizer_class": "LlamaTokenizer", "legacy": False}
    )
    return folder


@pytest.fixture
def with_template(folder, tmp_path):
    def build(template: str) -> object:
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "chat_template.jinja").write_text(template)
        return load_tokenizer(tmp_path)

    return build


def chat_ids(tokenizer: Tokenizer, messages: list[dict], opened: bool) -> list[int]:
    """Ids of a rendered conversation; the template writes its own begin token, none is added."""
    return tokenizer.vocabulary.encode(tokenizer.render(messages, opened), control=True)


@pytest.mark.parametrize("name", TEMPLATES)
def test_rendering_and_ids_equal_transformers(with_template, name):
    transformers = pytest.importorskip("transformers", reason="renderings are compared with transformers")
    ours = with_template(TEMPLATES[name])
    other = transformers.AutoTokenizer.from_pretrained(ours.folder)
    for messages in ([QUESTION], [QUESTION, GOOD], [QUESTION, GOOD, QUESTION]):
        for opened in (False, True):
            expected = other.apply_chat_template(messages, tokenize=False, add_generation_prompt=opened)
            assert ours.render(messages, opened) == expected
            ids = other.apply_chat_template(messages, add_generation_prompt=opened)["input_ids"]
            assert chat_ids(ours, messages, opened) == ids


def test_keys_without_a_value_are_as_absent_ones(with_template):
    """As in transformers: tables of conversations have null where a message lacks a column."""
    transformers = pytest.importorskip("transformers", reason="renderings are compared with transformers")
    template = "{% for m in messages %}{{ m | tojson }}{{ m.content }}{{ 'tool_calls' in m }}{% endfor %}"
    ours = with_template(template)
    messages = [QUESTION | {"tool_calls": None}, {"role": "assistant", "content": None, "tool_calls": [None]}]
    expected = transformers.AutoTokenizer.from_pretrained(ours.folder).apply_chat_template(
        messages, tokenize=False
    )
    assert ours.render(messages) == expected
    assert "None" not in expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_pair_is_what_inference_sends_and_ends_its_turn(with_template, name):
    """prompt + completion is the rendered conversation up to the end of turn, nothing added, nothing lost."""
    ours = with_template(TEMPLATES[name])
    prompt, chosen, rejected = conversation_ids(ours, [QUESTION], [GOOD], [BAD])
    end = ours.vocabulary.ids_of[END.get(name, "<|im_end|>")]
    assert ours.end_of_turn == end
    assert prompt == chat_ids(ours, [QUESTION], True)
    assert prompt.count(ours.bos_id) == (name in ("llama2", "mistral", "gemma", "phi3"))
    for answer, ids in ((GOOD, chosen), (BAD, rejected)):
        assert ids[-1] == end
        assert not set(ids[:-1]) & ours.stop_ids
        whole = ours.render([QUESTION, answer])
        assert whole.startswith(ours.render([QUESTION], True))
        trained = ours.completion_text(prompt + ids)
        assert ours.completion_text(ours.vocabulary.encode(whole, control=True)).startswith(trained)
        assert answer["content"].strip() in ours.completion_text(ids)


def test_whole_conversations_share_their_prompt(with_template):
    ours = with_template(TEMPLATES["chatml"])
    explicit = conversation_ids(ours, [QUESTION], [GOOD], [BAD])
    assert conversation_ids(ours, None, [QUESTION, GOOD], [QUESTION, BAD]) == explicit
    assert conversation_ids(ours, [QUESTION], GOOD["content"], BAD["content"]) == explicit
    assert conversation_ids(ours, QUESTION["content"], [GOOD], [BAD]) == explicit


def test_a_prompt_that_both_sides_repeat_is_read_once(with_template):
    """A text prompt beside whole conversations is the shape of HuggingFaceH4/ultrafeedback_binarized."""
    ours = with_template(TEMPLATES["chatml"])
    whole = [QUESTION, GOOD], [QUESTION, BAD]
    explicit = conversation_ids(ours, [QUESTION], [GOOD], [BAD])
    assert conversation_ids(ours, QUESTION["content"], *whole) == explicit
    assert conversation_ids(ours, [QUESTION], *whole) == explicit
    longer = [QUESTION, GOOD, QUESTION]
    explicit = conversation_ids(ours, longer, [GOOD], [BAD])
    assert conversation_ids(ours, longer, [*longer, GOOD], [*longer, BAD]) == explicit


def test_a_completion_of_several_messages_ends_with_the_last_turn(with_template):
    ours = with_template(TEMPLATES["chatml"])
    _, chosen, _ = conversation_ids(ours, [QUESTION], [GOOD, QUESTION, GOOD], [BAD])
    assert chosen.count(ours.end_of_turn) == 3
    assert chosen[-1] == ours.end_of_turn


def test_a_last_message_that_the_template_does_not_end_is_kept_and_ended(with_template):
    ours = with_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% if not loop.last %}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_end|>\n<|im_start|>assistant\n{% endif %}"
    )
    _, chosen, _ = conversation_ids(ours, [QUESTION], [GOOD, QUESTION, BAD], [BAD])
    assert chosen[-1] == ours.end_id()
    assert ours.completion_text(chosen).endswith(BAD["content"].strip())


def test_the_date_in_a_prompt_is_the_same_every_day(with_template):
    ours = with_template("{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{% endfor %}")
    assert ours.render([QUESTION]).startswith("26 Jul 2024")


def test_without_an_end_of_turn_the_end_token_is_put(with_template):
    ours = with_template("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    assert ours.end_of_turn is None
    assert conversation_ids(ours, [QUESTION], [GOOD], [BAD])[1][-1] == ours.eos_id


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((None, [GOOD], [BAD]), "chosen and rejected begin with different messages, and there is no prompt"),
        (([], [GOOD], [BAD]), "prompt holds no message"),
        ((None, [QUESTION], [QUESTION, BAD]), "chosen holds no message"),
        (([QUESTION], [], [BAD]), "chosen holds no message"),
        (([QUESTION], None, [BAD]), "chosen must be text or a list"),
        (([QUESTION], ["text"], [BAD]), "chosen must be text or a list"),
        (([QUESTION], [QUESTION], [QUESTION, BAD]), "chosen holds no message"),
        (("Other.", [QUESTION, GOOD], [QUESTION, BAD]), "chosen goes on from the prompt with a user message"),
        (([QUESTION], [GOOD], [QUESTION, BAD]), "rejected goes on from the prompt with a user message"),
        (
            (QUESTION["content"], [{"role": "system"}, QUESTION, GOOD], [{"role": "system"}, QUESTION, BAD]),
            "with a system message, an answer expected; .* or leave prompt out",
        ),
    ],
)
def test_incomplete_conversations_are_errors(with_template, pair, message):
    with pytest.raises(ValueError, match=message):
        conversation_ids(with_template(TEMPLATES["chatml"]), *pair)


def test_a_template_that_rewrites_the_prompt_is_an_error(with_template):
    ours = with_template("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(ValueError, match="writes the prompt differently"):
        conversation_ids(ours, [QUESTION], [GOOD], [BAD])


def test_a_template_may_refuse_with_its_own_words(with_template):
    with pytest.raises(ValueError, match="roles must alternate"):
        with_template(TEMPLATES["llama2"]).render([GOOD])


# ---- where templates are found


def test_templates_by_name_and_by_file(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    rows = [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]
    write_json(tmp_path / "tokenizer_config.json", config | {"chat_template": rows})
    assert load_tokenizer(tmp_path).render([]) == "one"
    assert load_tokenizer(tmp_path).render([], tools=[{"name": "f"}]) == "two"
    before = load_tokenizer(tmp_path).digest
    (tmp_path / "chat_template.jinja").write_text("three")
    extra = tmp_path / "additional_chat_templates"
    extra.mkdir()
    (extra / "rag.jinja").write_text("four")
    ours = load_tokenizer(tmp_path)
    assert ours.render([]) == "three"
    assert ours.chat_templates == {"default": "three", "tool_use": "two", "rag": "four"}
    assert ours.digest != before
    write_json(tmp_path / "tokenizer_config.json", config | {"chat_template": "five"})
    (tmp_path / "chat_template.jinja").unlink()
    (extra / "rag.jinja").unlink()
    assert load_tokenizer(tmp_path).render([]) == "five"


def test_no_template_is_an_error_that_says_where_to_write_one(folder):
    with pytest.raises(ValueError, match=r"has no default chat template.*chat_template\.jinja"):
        load_tokenizer(folder).render([QUESTION])


def test_variables_reach_the_template(with_template):
    ours = with_template(
        "{{ bos_token }}{{ tools is none }}{{ enable_thinking }}{{ strftime_now('%Y') | length }}"
    )
    assert ours.render([], enable_thinking=False) == "<s>TrueFalse4"


# ---- hostile templates


@pytest.fixture(scope="module")
def renderer():
    return TemplateRenderer()


@pytest.mark.parametrize(
    "template",
    [
        "{% include '/etc/passwd' %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ joiner.__init__.__globals__ }}",
        "{{ strftime_now.__globals__ }}",
        "{{ raise_exception.__globals__['__builtins__'] }}",
        "{% set ns = namespace(__class__=1) %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.__init__ = 1 %}{{ ns }}",
        "{{ messages.append(1) }}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ range(10000000) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% if %}",
    ],
)
def test_a_template_reaches_nothing_outside(renderer, template):
    text = ""  # what the sandbox hides is undefined, or an error
    with contextlib.suppress(ValueError):
        text = renderer.render(template, {"messages": [QUESTION]})
    assert text == ""
    assert renderer.render("{{ 1 + 1 }}", {}) == "2"


@pytest.mark.parametrize(
    "template",
    [
        "{% set ns = namespace(s='aaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{{ 'a' * 10 ** 11 }}",
        "{{ 'a'.center(10 ** 11) }}",
    ],
)
def test_a_template_cannot_take_all_memory(renderer, template, monkeypatch):
    monkeypatch.setattr("data.chat_template.SECONDS", 120.0)  # a busy machine is slow to hand memory out
    with pytest.raises(ValueError, match=f"{MEMORY >> 20} MiB"):
        renderer.render(template, {})
    assert renderer.render("{{ 1 + 1 }}", {}) == "2"


def test_a_template_cannot_run_forever(renderer, monkeypatch):
    monkeypatch.setattr("data.chat_template.SECONDS", 0.5)
    loops = "".join("{% for i in range(99999) %}" for _ in range(4)) + "{% endfor %}" * 4
    began = time.monotonic()
    with pytest.raises(ValueError, match="not rendered within 0.5 s"):
        renderer.render(loops, {})
    assert time.monotonic() - began < SECONDS
    assert renderer.render("{{ 1 + 1 }}", {}) == "2"


def test_the_rendering_process_can_open_no_file(renderer):
    """Even code that got out of the sandbox finds no file descriptor: jinja's own import of one fails."""
    with pytest.raises(ValueError, match="Too many open files"):
        renderer.render("{{ lipsum() }}", {})


def test_without_jinja_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "jinja2.py").write_text("raise ImportError('none')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="pip install 'jinja2"):
        TemplateRenderer().render("", {})
