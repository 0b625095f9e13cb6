"""The arguments of the MCP tools. The descriptions are what an agent reads about them."""

from typing import Annotated

from pydantic import Field

from embedx.server.row_audio import MAX_CONTEXT_S
from embedx.server.schemas import LabelEdit, Name, PredictBody, RowId, Seconds, Strict

MAX_HITS = 100  # of a call: what an agent can read
Ids = Annotated[list[RowId], Field(max_length=MAX_HITS)]
File = Annotated[str, Field(max_length=4096)]


class CollectionArguments(Strict):
    """A collection."""

    collection: Name | None = Field(None, description="name of the collection; needed only if there are several")


class HitArguments(CollectionArguments):
    """Which rows a search returns."""

    filter: str | None = Field(None, description="SQL condition on the columns, such as: label = 'owl' AND site <> 'A'")
    limit: Annotated[int, Field(ge=1, le=MAX_HITS)] = 10
    view: Name | None = Field(None, description="view (layer and pooling); describe_collection lists them")
    group_by: Name | None = Field(None, description="return only the best row for each value of this column")


class SearchArguments(HitArguments):
    """A query: exactly one of id, text and file."""

    id: RowId | None = Field(None, description="search for rows that sound like this row")
    text: Annotated[str, Field(max_length=2000)] | None = Field(
        None, description="search by a description of a sound; only with a model that embeds text, such as CLAP"
    )
    file: File | None = Field(None, description="search by an audio file, relative to the folder of --files")
    start_s: Seconds | None = Field(None, description="begin of the part of the file")
    end_s: Seconds | None = Field(None, description="end of the part of the file")


class SimilarArguments(HitArguments):
    """Examples."""

    like: Annotated[Ids, Field(min_length=1)] = Field(description="rows that the results should sound like")
    unlike: Ids = Field([], description="rows that the results should not sound like")


class PredictArguments(CollectionArguments):
    """What to predict: exactly one of ids and file."""

    ids: Ids | None = Field(None, description="rows")
    file: File | None = Field(None, description="audio file, relative to the folder of --files")
    head: Name | None = Field(None, description="name of the head; describe_collection lists them")
    k: Annotated[int, Field(ge=1, le=20, description="labels to show for each row or window")] = 3
    per: Annotated[str, Field(pattern="^(window|recording)$", description="window or recording")] = "window"

    def body(self, audio: str | None) -> PredictBody:
        """Return the body of the same request over HTTP."""
        return PredictBody.model_validate(
            {"audio": audio, "ids": self.ids, "head": self.head, "k": self.k, "per": self.per}
        )


class ClipArguments(CollectionArguments):
    """A row to cut."""

    id: RowId
    context_s: Annotated[float, Field(ge=0, le=MAX_CONTEXT_S, allow_inf_nan=False)] = Field(
        0.0, description="seconds of audio to add before and after the row"
    )


class LabelArguments(CollectionArguments):
    """Values to set."""

    edits: Annotated[list[LabelEdit], Field(min_length=1, max_length=1000)] = Field(
        description="all edits are one change, which `embedx label --undo` takes back; the value null deletes"
    )
