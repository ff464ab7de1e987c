"""How a benchmark is asked and answered: prompt, stops, extraction, decoding, limits, as one named object.

Scores of one model differ by tens of points between these choices, so a protocol is stored, with its digest,
beside every score. Sources: HumanEval, Chen et al. 2021 (2107.03374); MBPP, Austin et al. 2021 (2108.07732);
EvalPlus, Liu et al. 2023 (2305.01210) with its repository's prompts and stop strings.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from data.extract import cut_at_stop, defines, extract
from data.jsonl import digest
from data.problems import program
from data.types import Problem

END_TOKENS = ("<|endoftext|>", "<|endofmask|>", "</s>")
EVALPLUS_STOPS = (*END_TOKENS, "\nif __name__", "\ndef main(", "\nprint(")
SHOTS = ("Mbpp/2", "Mbpp/3", "Mbpp/4")  # the examples of MBPP's paper
INSTRUCTION = (
    "Please provide a self-contained Python script that solves the following problem "
    "in a markdown code block:"
)
RESPONSE = (
    "Below is a Python script with a self-contained function that solves the problem "
    "and passes corresponding tests:"
)
MARKER = "@@the-answer-goes-on-from-here@@"
BLOCK_END = "\n```\n"


@dataclass(frozen=True)
class Protocol:
    """Frozen, so that its digest names it. `whole`: the answer alone is the program, without the prompt."""

    name: str
    # raw: as published; stripped: no white space at the end but one newline; few_shot; chat: a user's turn,
    # and where the end of a code block is a stop, the answer begun up to that block
    prompt: str = "raw"
    stops: tuple[str, ...] = ()
    extraction: str = "none"  # a mode of data/extract.py
    whole: bool = False
    tab_spaces: int = 0  # tabs of the answer become so many spaces; 0: they stay
    max_new_tokens: int | None = None  # None: as the decode group says
    seconds: float | None = None  # CPU seconds per program; None: as the problem or the sandbox group says

    @property
    def digest(self) -> str:
        return digest(dataclasses.asdict(self))


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("plain"),  # prompt + answer up to the end token: our own problems
        Protocol("solution", whole=True),  # a file of self-contained programs
        Protocol("chat", prompt="chat", extraction="keep", whole=True),  # whole answers of a chat model
        Protocol(
            "humaneval",
            stops=("\nclass", "\ndef", "\n#", "\nif", "\nprint"),
            seconds=3.0,
        ),
        Protocol(
            "evalplus_base_humaneval",
            prompt="stripped",
            stops=(*EVALPLUS_STOPS, "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert "),
            extraction="evalplus",
            tab_spaces=4,
            max_new_tokens=768,
        ),
        Protocol(
            "evalplus_base_mbpp",
            prompt="stripped",
            stops=(*EVALPLUS_STOPS, '\n"""', "\nassert"),
            extraction="evalplus",
            tab_spaces=4,
            max_new_tokens=768,
        ),
        Protocol(
            "evalplus_chat",
            prompt="chat",
            stops=(*EVALPLUS_STOPS, BLOCK_END),
            extraction="evalplus",
            whole=True,
            tab_spaces=4,
            max_new_tokens=768,
        ),
        Protocol("mbpp_3shot", prompt="few_shot", stops=("[DONE]",), whole=True, max_new_tokens=512),
    )
}
DEFAULTS = {
    "humaneval": "humaneval",
    "humaneval_plus": "evalplus",
    "mbpp": "mbpp_3shot",
    "mbpp_sanitized": "mbpp_3shot",
    "mbpp_plus": "evalplus",
}


def choose_protocol(name: str | None, benchmark: str, has_chat_template: bool = False) -> Protocol:
    """The protocol `name`, or the usual one of the benchmark; `evalplus` is chat iff there is a template."""
    name = name or DEFAULTS.get(benchmark, "plain")
    if name == "evalplus":
        family = "mbpp" if Path(benchmark).name.lower().startswith("mbpp") else "humaneval"
        name = "evalplus_chat" if has_chat_template else f"evalplus_base_{family}"
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; there are evalplus, {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def asked(
    protocol: Protocol,
    problems: Iterable[Problem],
    *,
    render: Callable[..., str] | None = None,
    examples: Iterable[Problem] = (),
) -> list[Problem]:
    """The problems with the prompts the model is to see.

    `render` turns chat messages into text with the model's template; the shots come from `examples`.
    """
    if protocol.prompt == "chat":
        if render is None:
            raise ValueError(f"protocol {protocol.name} needs a chat template, and this checkpoint has none")
        written = chat_prompt if BLOCK_END in protocol.stops else user_turn
        return [replace(problem, prompt=written(problem.prompt, render)) for problem in problems]
    if protocol.prompt == "few_shot":
        requests = [(problem, mbpp_request(problem)) for problem in problems]  # its errors come first
        shots = few_shot_prefix(examples)
        return [replace(problem, prompt=shots + request) for problem, request in requests]
    if protocol.prompt == "stripped":
        return [replace(problem, prompt=problem.prompt.strip() + "\n") for problem in problems]
    return list(problems)


def user_turn(prompt: str, render: Callable[..., str]) -> str:
    """The user's turn and the template's opening of an answer."""
    return render([user_message(prompt)], add_generation_prompt=True)


def user_message(prompt: str) -> dict:
    return {"role": "user", "content": f"{INSTRUCTION}\n```\n{prompt.strip()}\n```\n"}


def chat_prompt(prompt: str, render: Callable[..., str]) -> str:
    """The user's turn and the beginning of the assistant's, which the model continues.

    The template is rendered once around a marker and cut there, so nothing of it is lost or doubled.
    """
    messages = [
        user_message(prompt),
        {"role": "assistant", "content": f"{RESPONSE}\n```python\n{MARKER}\n```\n"},
    ]
    text = render(messages)
    if text.count(MARKER) != 1:
        raise ValueError(f"the chat template repeats or drops the assistant's text: {text[:200]!r}...")
    return text[: text.index(MARKER)]


def few_shot_prefix(examples: Iterable[Problem]) -> str:
    """MBPP's three worked examples."""
    found = {problem.task_id: problem for problem in examples}
    missing = [task for task in SHOTS if task not in found]
    if missing:
        raise ValueError(f"the three examples of MBPP's prompt need {', '.join(missing)}; load all of MBPP")
    return "".join(
        f"{mbpp_request(found[task])}{found[task].canonical_solution}\n[DONE]\n\n" for task in SHOTS
    )


def mbpp_request(problem: Problem) -> str:
    if "text" not in problem.meta:
        raise ValueError(
            f"{problem.task_id} is no MBPP task; protocol mbpp_3shot needs its text and test_list"
        )
    tests = "\n".join(problem.meta["test_list"])
    return (
        f"You are an expert Python programmer, and here is your task: {problem.meta['text']} "
        f"Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )


def answered(protocol: Protocol, problem: Problem, text: str) -> tuple[dict, bool]:
    """(what the judge runs, whether the entry point was found in it) for one answer.

    The program under `none` stays prompt + answer; extraction makes a self-contained program of both.
    """
    text = cut_at_stop(text, protocol.stops)
    if protocol.tab_spaces:
        text = text.replace("\t", " " * protocol.tab_spaces)
    whole = protocol.whole
    if protocol.extraction != "none":
        if not whole:
            text = (problem.prompt.strip() + "\n" if protocol.prompt == "stripped" else problem.prompt) + text
        text, whole = extract(text, problem.entry_point, protocol.extraction), True
    job = program(problem, text, whole=whole)
    return job, defines(job["prompt"] + job["completion"], problem.entry_point)
