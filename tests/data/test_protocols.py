"""A protocol decides what the model sees and what the judge runs; every part of it changes its digest."""

import dataclasses
from dataclasses import replace

import pytest

from data.problems import mbpp_problem
from data.protocols import (
    INSTRUCTION,
    MARKER,
    PROTOCOLS,
    RESPONSE,
    Protocol,
    answered,
    asked,
    chat_prompt,
    choose_protocol,
)
from data.types import Problem

PROBLEM = Problem(
    "HumanEval/0",
    'def f(x):\n    """Add one.\n    """\n\n',
    "def check(candidate):\n    assert candidate(1) == 2\n",
    "f",
)


def render(messages: list[dict], add_generation_prompt: bool = False) -> str:
    text = "<s>" + "".join(f"<{m['role']}>{m['content']}</{m['role']}>" for m in messages)
    return text + "<assistant>" * add_generation_prompt


def mbpp(number: int) -> Problem:
    return mbpp_problem(
        {
            "task_id": number,
            "text": f"Task {number}.",
            "code": f"def g(x):\n    return {number}",
            "test_list": [f"assert g(0) == {number}", "assert g(1) > 0"],
        },
        "here",
    )


def test_every_part_of_a_protocol_changes_its_digest():
    protocol = Protocol("p")
    changed = {"name": "q", "prompt": "chat", "stops": ("x",), "extraction": "keep", "whole": True}
    changed |= {"tab_spaces": 4, "max_new_tokens": 9, "seconds": 1.0}
    assert set(changed) == {field.name for field in dataclasses.fields(Protocol)}
    digests = {replace(protocol, **{name: value}).digest for name, value in changed.items()}
    assert len(digests | {protocol.digest}) == len(changed) + 1
    assert protocol.digest == Protocol("p").digest


@pytest.mark.parametrize(
    ("name", "benchmark", "template", "chosen"),
    [
        (None, "toy", False, "plain"),
        (None, "own.jsonl", True, "plain"),
        ("chat", "own.jsonl", True, "chat"),
        (None, "humaneval", True, "humaneval"),
        (None, "humaneval_plus", False, "evalplus_base_humaneval"),
        (None, "mbpp_plus", False, "evalplus_base_mbpp"),
        (None, "mbpp_plus", True, "evalplus_chat"),
        (None, "mbpp", True, "mbpp_3shot"),
        ("evalplus", "humaneval", False, "evalplus_base_humaneval"),
        ("evalplus_chat", "humaneval", False, "evalplus_chat"),
        ("evalplus", "copies/MbppPlus-v0.2.0.jsonl", False, "evalplus_base_mbpp"),
        ("evalplus", "mbpp/HumanEvalPlus.jsonl", False, "evalplus_base_humaneval"),
    ],
)
def test_the_usual_protocol_of_a_benchmark(name, benchmark, template, chosen):
    assert choose_protocol(name, benchmark, template) is PROTOCOLS[chosen]


def test_an_unknown_protocol_names_the_known_ones():
    with pytest.raises(ValueError, match="no protocol 'evalpluss'; there are evalplus, plain"):
        choose_protocol("evalpluss", "humaneval")


def test_the_base_prompt_ends_with_one_line_end():
    (problem,) = asked(PROTOCOLS["evalplus_base_humaneval"], [PROBLEM])
    assert problem.prompt == PROBLEM.prompt.strip() + "\n"
    assert asked(PROTOCOLS["humaneval"], [PROBLEM]) == [PROBLEM]


def test_the_chat_prompt_stops_inside_the_assistants_fence():
    (problem,) = asked(PROTOCOLS["evalplus_chat"], [PROBLEM], render=render)
    assert problem.prompt.startswith("<s><user>Please provide a self-contained Python script")
    assert f"code block:\n```\n{PROBLEM.prompt.strip()}\n```\n</user><assistant>Below is" in problem.prompt
    assert problem.prompt.endswith("passes corresponding tests:\n```python\n")
    assert MARKER not in problem.prompt


def test_chat_ends_with_the_templates_opening_of_an_answer():
    (problem,) = asked(PROTOCOLS["chat"], [PROBLEM], render=render)
    request = f"{INSTRUCTION}\n```\n{PROBLEM.prompt.strip()}\n```\n"
    assert problem.prompt == f"<s><user>{request}</user><assistant>"


def test_chat_keeps_what_the_entry_point_needs_of_a_whole_answer():
    text = (
        "First a constant:\n```python\nONE = 1\n```\nand with it\n"
        "```python\ndef f(x):\n    return x + ONE\n\nprint(f(1))\n```\nIt adds one."
    )
    job, found = answered(PROTOCOLS["chat"], PROBLEM, text)
    assert (job["prompt"], job["completion"]) == ("", "ONE = 1\ndef f(x):\n    return x + ONE\n")
    assert found
    job, found = answered(PROTOCOLS["chat"], PROBLEM, "I cannot.")
    assert (job["completion"], found) == ("I cannot.", False)


def test_a_template_that_loses_the_assistants_text_is_refused():
    with pytest.raises(ValueError, match="repeats or drops"):
        chat_prompt("x", lambda messages: messages[0]["content"])
    with pytest.raises(ValueError, match="needs a chat template"):
        asked(PROTOCOLS["evalplus_chat"], [PROBLEM])
    with pytest.raises(ValueError, match="protocol chat needs a chat template"):
        asked(PROTOCOLS["chat"], [PROBLEM])


def test_three_shots_come_before_the_task():
    problems = [mbpp(number) for number in (2, 3, 4, 11)]
    (problem,) = asked(PROTOCOLS["mbpp_3shot"], problems[-1:], examples=problems)
    assert problem.prompt.count("[BEGIN]") == 4
    assert problem.prompt.count("[DONE]") == 3
    assert problem.prompt.startswith(
        "You are an expert Python programmer, and here is your task: Task 2. "
        "Your code should pass these tests:\n\nassert g(0) == 2\nassert g(1) > 0\n"
        "[BEGIN]\ndef g(x):\n    return 2\n[DONE]\n\nYou are"
    )
    assert problem.prompt.endswith("assert g(0) == 11\nassert g(1) > 0\n[BEGIN]\n")
    with pytest.raises(ValueError, match="need Mbpp/3, Mbpp/4"):
        asked(PROTOCOLS["mbpp_3shot"], problems, examples=problems[:1])


def test_the_original_protocol_joins_prompt_and_completion():
    job, found = answered(PROTOCOLS["humaneval"], PROBLEM, "    return x + 1\n\ndef other():\n    pass")
    assert job["prompt"] + job["completion"] == PROBLEM.prompt + "    return x + 1\n"
    assert found


def test_evalplus_base_extracts_from_prompt_and_completion():
    text = "\treturn x + 1\n\nprint(f(1))\nmore"
    job, found = answered(PROTOCOLS["evalplus_base_humaneval"], PROBLEM, text)
    assert job["prompt"] == ""
    assert job["completion"] == 'def f(x):\n    """Add one.\n    """\n    return x + 1'
    assert found


def test_evalplus_chat_never_adds_the_prompt():
    text = "def f(x):\n    return x + 1\n```\nThis adds one."
    job, found = answered(PROTOCOLS["evalplus_chat"], PROBLEM, text)
    assert job["completion"] == "def f(x):\n    return x + 1"
    assert found


def test_an_answer_without_the_entry_point_is_a_failed_extraction():
    job, found = answered(PROTOCOLS["evalplus_chat"], PROBLEM, "I am sorry, I cannot.\n```\n")
    assert not found
    assert job["completion"] == "I am sorry, I cannot."


def test_few_shot_answers_stand_alone():
    job, _ = answered(PROTOCOLS["mbpp_3shot"], mbpp(11), "def g(x):\n    return 11\n[DONE]\n\nYou are")
    assert (job["prompt"], job["completion"]) == ("", "def g(x):\n    return 11\n")


def test_prompts_and_stops_are_evalpluss():
    utility = pytest.importorskip("evalplus.provider.utility", reason="EvalPlus itself is the oracle")

    class Tokenizer:
        chat_template = "any"

        def apply_chat_template(self, messages: list[dict], tokenize: bool) -> str:
            return render(messages)

    for prompt in (PROBLEM.prompt, '"""\nWrite a function.\nassert f(1) == 2\n"""\n', "\n\n  x  \n"):
        theirs = utility.make_raw_chat_prompt(prompt.strip() + "\n", INSTRUCTION, RESPONSE, Tokenizer())
        assert chat_prompt(prompt, render) == theirs
    for family in ("humaneval", "mbpp"):
        stops = [*utility.EOS, *utility.extra_eos_for_direct_completion(family)]
        assert list(PROTOCOLS[f"evalplus_base_{family}"].stops) == stops
    assert list(PROTOCOLS["evalplus_chat"].stops) == [*utility.EOS, "\n```\n"]
