"""RemoteBase: what every part of `RemoteCollection` needs: the service, the views, the rows and vectors."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from embedx.arguments.keywords import KnownKeywords
from embedx.client.bodies import filter_fields, unpack
from embedx.client.connection import Connection
from embedx.errors import UsageError
from embedx.recipe import Recipe, check_view
from embedx.store.filters import TIMEOUT_S
from embedx.store.frames import MAX_ID, check_ids, frame_of, in_order
from embedx.store.records import Row

if TYPE_CHECKING:
    import pandas as pd

REQUEST_S = 60.0  # to wait for an answer; a service ends a request after 30 s
MAX_IDS = 400  # of a condition: with 19 digits each they have 8000 characters, and a service allows 10 000
NOT_REMOTE = (  # what a collection has on its own machine only
    "allow_pickle", "backup", "build_index", "compact", "duplicates", "export", "failures", "folder", "index",
    "indexes", "label_log", "model", "probe", "probe_zero_shot", "push", "remove", "remove_head", "snapshot",
    "store", "suggest", "sweep", "verify",
)  # fmt: skip


class NotRemote(UsageError, AttributeError):
    """An attribute or method of a collection that a service does not offer."""


class RemoteBase(KnownKeywords):
    """The description, rows and vectors of a collection behind a service; see `RemoteCollection`."""

    root: None = None

    def __init__(self, url: str, *, token: str | None = None, timeout: float = REQUEST_S) -> None:
        self.url = url
        self._service = Connection(url, token, timeout)
        facts = self.facts()
        self.views: dict[str, int] = self._service.read(lambda: {view["name"]: view["dim"] for view in facts["views"]})
        self._default_view: str = self._service.read(lambda: facts["default_view"])

    def __repr__(self) -> str:
        return f"<RemoteCollection {self.url}>"

    def __len__(self) -> int:
        return int(self.facts()["rows"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> NoReturn:
        if name in NOT_REMOTE:
            raise NotRemote(
                f"A service does not offer {name}. Use it on the machine of the collection: embedx.open(folder).{name}"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def close(self) -> None:
        """Do nothing: no connection stays open."""

    # -- what there is -------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Return what the service tells about the collection: rows, views, columns, heads, generation, revision."""
        return self._service.get()

    @property
    def recipe(self) -> Recipe:
        """The recipe of the vectors; in `source`, the folder of the model has only its name."""
        return self._service.read(lambda: Recipe.from_json(json.dumps(self.model_facts()["recipe"])))

    def model_facts(self) -> dict[str, Any]:
        """Return recipe, dimension, sample rate and views of the model."""
        service = self._service
        models = service.as_json(service.request("GET", f"{service.prefix}/v1/models"))
        return service.read(lambda: next(model for model in models["data"] if model["id"] == service.name))

    def __getitem__(self, id: int) -> Row:
        """Return the row of an id; see `Collection`."""
        return self._rows_of([id])[0]

    def __contains__(self, id: object) -> bool:
        return (
            isinstance(id, (int, np.integer))
            and abs(int(id)) <= MAX_ID
            and bool(self._rows(f"id = {int(id)}", TIMEOUT_S))
        )

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows(None, TIMEOUT_S))

    def rows(
        self,
        where: str | None = None,
        *,
        columns: str | Sequence[str] | None = None,
        ids: Iterable[int] | None = None,
        timeout: float = TIMEOUT_S,
    ) -> "pd.DataFrame":
        """Return the rows as a pandas data frame; see `Collection.rows`."""
        rows = self._rows(where, timeout) if ids is None else self._rows_of(ids, where)
        return frame_of(rows, columns, lambda: [column["name"] for column in self.facts()["columns"]])

    def vectors(
        self,
        view: str | None = None,
        where: str | None = None,
        *,
        ids: Iterable[int] | None = None,
        timeout: float = TIMEOUT_S,
    ) -> NDArray[np.float32]:
        """Return vectors [N, D] as float32, in the order of `rows(where)`; see `Collection.vectors`."""
        dim = self._dim(view)
        if ids is not None:
            numbers = [row.id for row in self._rows_of(ids, where)]
            ordered = sorted(set(numbers))
            parts = [self.vectors(view, condition) for condition in id_conditions(ordered)]
            vectors = np.concatenate([np.zeros((0, dim), np.float32), *parts])
            return vectors[np.searchsorted(ordered, numbers)]
        pages = self._service.pages("/vectors", view=view, **filter_fields(where, timeout))
        return self._service.read(lambda: np.concatenate([unpack(page["vectors"], dim) for page in pages]))

    def audio(self, id: int, *, context: float = 0.0) -> bytes:
        """Return the audio of a row as a WAV file.

        Args:
            id: the row.
            context: seconds before and after it.

        Raises:
            UsageError: there is no such row.
            AudioError: its recording is gone, or cannot be read.
        """
        return self._audio(id, context=context)

    def _audio(self, id: int, **fields: float) -> bytes:
        """Return the audio of a row, or of another part of its recording, as a WAV file."""
        query = "&".join(f"{name}={value!r}" for name, value in fields.items())
        return self._service.request("GET", f"{self._service.base}/rows/{int(id)}/audio?{query}")

    def _rows(self, where: str | None, timeout: float) -> list[Row]:
        """Return the rows that meet a condition, from one state."""
        pages = self._service.pages("/rows", **filter_fields(where, timeout))
        return self._service.read(lambda: [row_of(row) for page in pages for row in page["rows"]])

    def _rows_of(self, ids: Iterable[int], where: str | None = None) -> list[Row]:
        """Return the rows of ids, in their order."""
        numbers = check_ids(ids, where)
        rows = [row for condition in id_conditions(sorted(set(numbers))) for row in self._rows(condition, TIMEOUT_S)]
        return in_order(rows, numbers, self.url)

    def _dim(self, view: str | None) -> int:
        """Return the dimension of a view; refuse an unknown one."""
        name = self._default_view if view is None else view
        check_view(name, self.views)
        return self.views[name]


def id_conditions(ids: Sequence[int]) -> Iterator[str]:
    """Yield conditions that match the rows of ids together, each short enough for a request.

    >>> list(id_conditions([3, 5]))
    ['id IN (3,5)']
    """
    for start in range(0, len(ids), MAX_IDS):
        yield f"id IN ({','.join(map(str, ids[start : start + MAX_IDS]))})"


def row_of(values: Mapping[str, Any]) -> Row:
    """Return a row of an answer."""
    same = {name: values[name] for name in ("id", "path", "start_s", "end_s", "label", "group", "split", "meta")}
    return Row(**same, flags=tuple(values["flags"]))
