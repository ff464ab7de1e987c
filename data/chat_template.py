"""Published chat templates, rendered in a process that can reach no file and cannot run forever.

A template is a program somebody else wrote. jinja2's sandbox keeps it from Python's internals; what a sandbox
cannot stop (endless loops, strings that double until memory is gone) is bounded by the process around it:
no file can be opened there, its memory is limited, and it is killed when an answer takes too long. The
process starts at the first use and answers requests line by line, about 0.2 ms each.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

SECONDS = 5.0  # for one rendering; published templates take milliseconds
START_SECONDS = 60.0  # for importing jinja2 on a cold disk
MEMORY = 1 << 30  # bytes of address space
LONGEST = 1 << 24  # characters of one rendered conversation
TODAY = datetime(
    2024, 7, 26
)  # for templates that write the date, Llama 3's own default: the real one would make
# other prompts of the same messages every day, and an interrupted run another run
OLDEST_JINJA = (3, 1, 6)  # earlier ones have published ways out of the sandbox


class TemplateRenderer:
    """A rendering process, started at the first call of `render` and again after one was killed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0  # the process id that started it: a fork must not share the pipe

    def render(self, template: str, variables: dict, where: str = "chat template") -> str:
        """The text of `template` with `variables` (plain JSON values); `where` names it in errors."""
        if self.process is None or self.owner != os.getpid():
            self.start()
        request = json.dumps({"template": template, "variables": variables}).encode() + b"\n"
        try:
            self.process.stdin.write(request)
            self.process.stdin.flush()
            answer = json.loads(self.read_line(SECONDS))
        except TimeoutError:
            self.close()
            raise ValueError(f"{where}: not rendered within {SECONDS:g} s; it was stopped") from None
        except (BrokenPipeError, EOFError):
            self.close()
            raise ValueError(
                f"{where}: rendering took more than {MEMORY >> 20} MiB and was stopped"
            ) from None
        if "error" in answer:
            raise ValueError(f"{where}: {answer['error']}")
        return answer["text"]

    def start(self) -> None:
        code = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        code += "from data.chat_template import serve; serve(sys.stdin, sys.stdout)"
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", code, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.owner = os.getpid()
        try:
            problem = json.loads(self.read_line(START_SECONDS))["problem"]
        except (TimeoutError, EOFError):
            problem = f"the rendering process ({sys.executable}) did not start"
        if problem:
            self.close()
            raise ValueError(f"chat templates cannot be rendered: {problem}")

    def read_line(self, seconds: float) -> bytes:
        """One answer. TimeoutError after `seconds`, EOFError when the process is gone."""
        pipe, deadline, line = self.process.stdout.fileno(), time.monotonic() + seconds, bytearray()
        while not line.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            chunk = os.read(pipe, 1 << 16)
            if not chunk:
                raise EOFError
            line += chunk
        return bytes(line)

    def close(self) -> None:
        process, self.process = self.process, None
        if process is not None and self.owner == os.getpid():
            process.kill()
            process.wait()
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def __del__(self) -> None:
        self.close()


def serve(requests: TextIO, answers: TextIO) -> None:
    """The other side: read requests, write answers, until the pipe closes."""

    def answer(**fields: str) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    try:
        compile_template = template_compiler()
    except ImportError:
        return answer(problem="jinja2 3.1.6 or later is needed; install it with: pip install 'jinja2>=3.1.6'")
    with contextlib.suppress(Exception):  # load what error handling imports while files can still be opened
        compile_template("{{ raise_exception(strftime_now('%Y')) }}").render()
    limit_process()
    answer(problem="")
    compiled: dict[str, Callable] = {}
    for line in requests:
        request = json.loads(line)
        template = request["template"]
        try:
            if template not in compiled:
                compiled[template] = compile_template(template).render
            text = compiled[template](**request["variables"])
            if len(text) > LONGEST:
                raise ValueError(f"{len(text)} characters rendered, more than {LONGEST}")
        except MemoryError:
            answer(error=f"rendering takes more than {MEMORY >> 20} MiB")
        except Exception as error:  # a template can raise anything
            answer(error=f"{type(error).__name__}: {str(error)[:500]}")
        else:
            answer(text=text)


def limit_process() -> None:
    """No new file descriptor, no written file, bounded memory, from here to the end of this process."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # 0, 1 and 2 stay; nothing can be opened
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # not every system bounds address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def template_compiler() -> Callable:
    """source -> jinja2 template, in the environment that published chat templates are written for."""

    import jinja2
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    version = tuple(
        int("".join(filter(str.isdigit, part)) or 0) for part in jinja2.__version__.split(".")[:3]
    )
    if version < OLDEST_JINJA:
        raise ImportError(jinja2.__version__)

    class Generation(Extension):
        """`{% generation %}` marks what an assistant wrote; here it only passes its body through."""

        tags = {"generation"}

        def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    class PlainNamespace(jinja2.utils.Namespace):
        """A namespace whose attributes cannot be Python's own."""

        def __init__(*args: object, **kwargs: object) -> None:
            self, *args = args
            for name in dict(*args, **kwargs):
                check_attribute(name)
            jinja2.utils.Namespace.__init__(self, *args, **kwargs)

        def __setitem__(self, name: str, value: object) -> None:
            check_attribute(name)
            super().__setitem__(name, value)

    def check_attribute(name: object) -> None:
        if str(name).startswith("_"):
            raise jinja2.exceptions.SecurityError(f"namespace attribute {name!r} begins with an underscore")

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def strftime_now(form: str) -> str:
        return TODAY.strftime(form)

    def tojson(
        value: object,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """jinja2's own filter escapes for HTML, which no model was trained on."""
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": strftime_now,
        "namespace": PlainNamespace,
        "dict": lambda *args, **kwargs: dict(*args, **kwargs),
    }
    return environment.from_string
