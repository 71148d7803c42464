"""The process that reads templates: warm, single-threaded, and gone with its parent.

``python -m orchestrator.tosca.worker`` loads everything once.  For each request on its standard
input it forks a child that may use so much time and memory and no more, and puts the child's
answer, or how the child ended, on its standard output.  One template, one process: nothing that a
template does to tosca-parser outlives it.

Imported documents come with the request, and none is opened here.  Those that many templates
share are kept, and once a child has read them within its limits, read here too, so that the next
child finds them read.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import os
import resource
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrator.tosca.wire import ANSWER_BYTES, HEADER, encode, frame

if TYPE_CHECKING:
    from orchestrator.tosca.imports import Shelf

Operation = Callable[[Mapping[str, Any]], Any]
MEMORY_BYTES = 512 * 1024**2  # beyond what the warm process has
KEPT_CHARACTERS = 16_000_000
_ENDED = (b'{"died"', b'{"failed"')
_PR_SET_PDEATHSIG = 1


def operations() -> dict[str, Operation]:
    """What can be asked for; imports the heavy parts."""
    from orchestrator.tosca import catalogue, compile, csar  # noqa: F401
    from orchestrator.tosca.means import Means

    for shipped in catalogue.templates():  # so that a request finds caches filled, modules loaded
        compile.compile_template(shipped.path.read_text(encoding="utf-8"), {}, shipped.path.name)
    return {
        "compile": lambda q: compile.compile_template(
            q["template"], q["inputs"], q["file"], q["shelf"], q["origin"], Means(**q["means"])
        ),
        "check": lambda q: compile.check_template(
            q["template"], q["inputs"], q["file"], q["shelf"], q["origin"], Means(**q["means"])
        ),
        "describe": lambda q: compile.describe_template(
            q["template"], q["file"], q["shelf"], q["origin"]
        ),
    }


def _out_of_archive(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """A request about a template in an archive as one about the template itself."""
    from orchestrator.tosca import csar

    archive = csar.opened(request["template"], request["file"])
    if archive is None:
        return request
    shelf = {**request["shelf"], **archive.shelf}
    inside = {"template": archive.text, "file": archive.entry, "origin": archive.origin}
    return {**request, **inside, "shelf": shelf}


def serve(known: Mapping[str, Operation]) -> None:
    """Answer requests until standard input ends."""
    documents = _Documents()
    source, sink = os.dup(0), os.dup(1)
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(2, 1)  # a stray print must not look like an answer
    warnings.simplefilter("ignore")
    gc.collect()
    gc.freeze()
    while (request := _receive(source)) is not None:
        shelf, lacking = documents.shelf(request.get("documents", ()))
        if lacking:
            _send(sink, frame({"lacks": lacking}))
            continue
        answer = _in_child(known, {**request, "shelf": shelf}, source)
        _send(sink, HEADER.pack(len(answer)) + answer)
        if not answer.startswith(_ENDED):
            documents.remember(shelf)


class _Documents:
    """Texts of imported documents that many templates share, by SHA-256."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._remembered: set[str] = set()

    def shelf(self, sent: Iterable[Mapping[str, Any]]) -> tuple[Shelf, list[str]]:
        """What was sent as a shelf, and the digests of texts that must be sent again."""
        from orchestrator.tosca.imports import Document
        from orchestrator.tosca.names import Refusal

        shelf: dict[str, Document | Refusal] = {}
        lacking = []
        for one in sent:
            if "refused" in one:
                shelf[one["name"]] = Refusal(*one["refused"])
                continue
            text = one["text"] if one["text"] is not None else self._texts.get(one["sha256"])
            if text is None:
                lacking.append(one["sha256"])
                continue
            if one["shared"]:
                self._texts[one["sha256"]] = text
            shelf[one["name"]] = Document(one["name"], one["sha256"], text, one["shared"])
        return shelf, lacking

    def remember(self, shelf: Shelf) -> None:
        """Keep what shared documents mean; a child has read them and is none the worse for it."""
        from orchestrator.tosca import compile, imports

        shared = {
            name: document
            for name, document in shelf.items()
            if isinstance(document, imports.Document) and document.shared
        }
        if all(document.sha256 in self._remembered for document in shared.values()):
            return
        if sum(map(len, self._texts.values())) > KEPT_CHARACTERS:
            self._texts.clear()
            self._remembered.clear()
            imports.forget()
        imports.remember(shared, compile.base_library())
        self._remembered |= {document.sha256 for document in shared.values()}
        gc.collect()
        gc.freeze()


def _in_child(known: Mapping[str, Operation], request: Mapping[str, Any], source: int) -> bytes:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(known, request, writer)
    os.close(writer)
    try:
        answer = _collect(reader, source, child)
    finally:
        os.close(reader)
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) or not answer:
        return json.dumps({"died": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}).encode()
    return answer


def _collect(reader: int, source: int, child: int) -> bytes:
    """The child's whole answer; if the parent goes meanwhile, so do both of us."""
    chunks: list[bytes] = []
    size = 0
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    poll.register(source, 0)  # tells of a hang-up only
    while True:
        for descriptor, event in poll.poll():
            if descriptor == source and event & (select.POLLHUP | select.POLLERR):
                os.kill(child, signal.SIGKILL)
                os._exit(0)
            if descriptor != reader:
                continue
            chunk = os.read(reader, 1 << 20)
            size += len(chunk)
            if size > ANSWER_BYTES:
                os.kill(child, signal.SIGKILL)
                return b""
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)


def _answer(known: Mapping[str, Operation], request: Mapping[str, Any], writer: int) -> NoReturn:
    """In the child: limits, the work, the answer, the end."""
    from orchestrator.tosca.imports import ImportsNeeded
    from orchestrator.tosca.problems import TemplateInvalid

    try:
        _limit(float(request["seconds"]), float(request["cpu_seconds"]))
        try:
            answer: dict[str, Any] = {
                "value": encode(known[request["operation"]](_out_of_archive(request)))
            }
        except TemplateInvalid as invalid:
            answer = {"problems": encode(invalid.problems)}
        except ImportsNeeded as more:
            answer = {"needs": more.needed}
        body = json.dumps(answer).encode()
    except MemoryError:
        body = b'{"died": "memory"}'
    except BaseException:
        body = json.dumps({"failed": traceback.format_exc(limit=-12)[-8000:]}).encode()
    with contextlib.suppress(BaseException):
        _send(writer, body)
    os._exit(0)


def _limit(seconds: float, cpu_seconds: float) -> None:
    """The kernel ends this process when its time is over, whatever it is doing."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    whole = math.ceil(cpu_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def _receive(source: int) -> dict[str, Any] | None:
    header = _exactly(source, HEADER.size)
    body = _exactly(source, HEADER.unpack(header)[0]) if header else None
    if not body:
        return None
    message: dict[str, Any] = json.loads(body)
    return message


def _exactly(source: int, count: int) -> bytes | None:
    chunks = b""
    while len(chunks) < count:
        chunk = os.read(source, count - len(chunks))
        if not chunk:
            return None
        chunks += chunk
    return chunks


def _send(sink: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(sink, view) :]


def main() -> None:
    """Serve with what is shipped; a first empty answer says that everything is loaded."""
    known = operations()
    _send(1, frame({"ready": True}))
    serve(known)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        main()
    sys.exit(0)
