"""Answers of `embedx app`: a sound -> the labels of a head and the nearest rows; an error is a sentence."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote

from embedx.errors import EmbedxError
from embedx.filesystem.paths import display_path
from embedx.server.bodies import FILE, Uploads
from embedx.server.errors import ApiError, Cancelled, api_error
from embedx.server.predicting import answer_predict
from embedx.server.schemas import PredictBody, SearchBody
from embedx.server.searching import answer_search
from embedx.server.served import head_facts
from embedx.server.service import Service
from embedx.server.work import WORK, Work

log = logging.getLogger("embedx.server")

UPLOAD = f"{FILE}sound"  # how the body of a search or prediction names the sound
TEMPORARY = "audio0"  # the name of the first temporary file of a request, which errors of decoders show
MAX_LABELS = 5  # that are shown with their probabilities
MAX_META_COLUMNS = 6  # of the table of hits, as in the tables for agents
FIXED = ("id", "score", "path", "start_s", "end_s", "label")  # columns of a hit that stand in the table already


@dataclass(frozen=True)
class Answer:
    """What the page shows after a question.

    Attributes:
        message: a sentence that says what is wrong, or what is shown.
        labels: class -> probability, by the head; empty without a head.
        hits: the nearest rows as an HTML table; empty if there are none.
        is_error: the message says what is wrong.
    """

    message: str
    labels: Mapping[str, float] = field(default_factory=dict)
    hits: str = ""
    is_error: bool = False


class Questions:
    """The questions that the page asks about the one collection of a service.

    Args:
        service: the service.
        prefix: the path of the addresses of the service, such as "/secret".
        seconds: that a question may take.
    """

    def __init__(self, service: Service, prefix: str, seconds: float) -> None:
        self.service = service
        (name,) = service.collections
        self.served = service.get(name)
        self.sounds = f"{prefix}/v1/collections/{quote(self.served.name, safe='')}/rows"
        self.seconds = seconds
        self._running: set[Work] = set()

    def heads(self) -> list[str]:
        """Return the names of the heads; none if the collection cannot be read."""
        try:
            with self.served.use() as collection:
                return [str(head["name"]) for head in head_facts(collection)]
        except ApiError:
            return []

    def ask(self, path: str | None, head: str | None, count: int) -> Answer:
        """Return the labels of a sound and the rows that are nearest to it. It raises nothing.

        Args:
            path: the file with the sound, which is not trusted; None if there is none.
            head: the name of a head; None for no labels.
            count: the number of rows.
        """
        if path is None:
            return Answer("Choose an audio file, or record a sound with the microphone.", is_error=True)
        try:
            with self._in_time():
                uploads = Uploads({UPLOAD: self._read(path)}, self.service.limits)
                labels = {} if head is None else self._predict(uploads, head)
                body = SearchBody.model_validate({"audio": UPLOAD, "limit": count})
                hits = answer_search(self.served, body, uploads, self.service.limits)["hits"]
        except ApiError as error:
            return Answer(sentence(error, os.path.basename(path)), is_error=True)
        except EmbedxError as error:
            shown = api_error(error, self.served.name, self.served.private)
            return Answer(sentence(shown, os.path.basename(path)), is_error=True)
        except Exception:  # a fault ends one question, not the process
            log.exception("A question of the page has failed")
            return Answer("The answer could not be made. The terminal says why.", is_error=True)
        return Answer(f"{len(hits)} hits, best first.", labels, hits_table(hits, self.sounds))

    def stop(self) -> None:
        """Stop the questions that are being answered."""
        for work in list(self._running):
            work.cancel()

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        """Stop what is done in the context when it has taken too long.

        Raises:
            ApiError: it was stopped.
        """
        work = Work()
        token = WORK.set(work)
        clock = threading.Timer(self.seconds, work.cancel)
        clock.daemon = True
        clock.start()
        self._running.add(work)
        try:
            yield
        except Cancelled:
            message = f"The answer was stopped after {self.seconds:g} s. Choose a shorter sound."
            raise ApiError(503, "deadline", message) from None
        finally:
            clock.cancel()
            self._running.discard(work)
            WORK.reset(token)

    def _read(self, path: str) -> bytes:
        """Return the bytes of an uploaded file.

        Raises:
            ApiError: it is too large, or not there any more.
        """
        try:
            with open(path, "rb") as file:
                data = file.read(self.service.limits.body + 1)
        except OSError as error:
            raise ApiError(410, "audio_gone", "The file is not there any more. Choose it again.") from error
        if len(data) > self.service.limits.body:
            raise ApiError(413, "body_too_large", f"A file may have {self.service.limits.body >> 20} MB.")
        return data

    def _predict(self, uploads: Uploads, head: str) -> dict[str, float]:
        """Return the most probable classes of a sound, by a head."""
        body = PredictBody.model_validate({"audio": UPLOAD, "head": head, "k": MAX_LABELS, "per": "recording"})
        found = answer_predict(self.served, body, uploads, self.service.limits)["predictions"]
        best: dict[str, float] = {}
        for prediction in found:  # one for each channel that is embedded by itself
            for top in prediction["top"]:
                best[top["label"]] = max(top["probability"], best.get(top["label"], 0.0))
        return best


def sentence(error: ApiError, name: str) -> str:
    """Return an error for the person at the page; it names the file as the person knows it."""
    message = error.message.replace(TEMPORARY, display_path(name)).replace("A request may", "A sound may")
    if error.code == "collection_unavailable":
        message += " It may be damaged or gone: `embedx verify` says more."
    return message


def hits_table(hits: Sequence[Mapping[str, Any]], sounds: str) -> str:
    """Return hits as an HTML table with a player in each row.

    Args:
        hits: hits as JSON values.
        sounds: the address below which the sound of row N is at N/audio.
    """
    if not hits:
        return ""
    meta = list(dict.fromkeys(name for hit in hits for name in hit["meta"] if name not in FIXED))[:MAX_META_COLUMNS]
    heads = ("", "Sound", "Score", "File", "Time", "Label", *meta)
    rows = [
        (
            str(rank),
            player(f"{sounds}/{hit['id']}/audio", f"Hit {rank}: {hit['path']}"),
            f"{hit['score']:.3f}",
            escape(hit["path"]),
            f"{hit['start_s']:.2f} to {hit['end_s']:.2f} s",
            shown_value(hit["label"]),
            *(shown_value(hit["meta"].get(name)) for name in meta),
        )
        for rank, hit in enumerate(hits, start=1)
    ]
    head = "".join(f'<th scope="col">{shown_value(name)}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for cells in rows)
    return f'<table class="hits"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def player(address: str, name: str) -> str:
    """Return a player in HTML, which loads its sound when it is started."""
    return f'<audio controls preload="none" src="{escape(address)}" aria-label="{escape(name)}"></audio>'


def shown_value(value: Any) -> str:
    """Return a value of a row as HTML."""
    return "" if value is None else escape(display_path(str(value)))
