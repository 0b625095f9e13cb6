"""Schemas: the bodies of requests."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from embedx.store.edits import MIN_OVERLAP

MAX_ID = (1 << 63) - 1  # the largest number that SQLite holds
MAX_EDITS = 10_000  # values or lines of a table in a change
MAX_CLASSES = 200  # zero-shot classes of a request, and sentences for them: each is a forward pass of the text encoder
MAX_NAME = 200  # characters of the name of a view, a column or a head

RowId = Annotated[int, Field(ge=0, le=MAX_ID, strict=True)]
Name = Annotated[str, Field(max_length=MAX_NAME)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Key = Annotated[str, Field(min_length=1, max_length=100)] | None
Value = Annotated[str, Field(max_length=10_000)] | bool | int | Number | None
Timeout = Annotated[float, Field(gt=0, allow_inf_nan=False, description="seconds that the filter can take")]
Prompt = Annotated[str, Field(max_length=1000)]
ClassNames = (  # "dog, rain", or names, or names with their prompts
    Annotated[str, Field(max_length=10_000)]
    | Annotated[list[Name], Field(max_length=MAX_CLASSES)]
    | Annotated[dict[Name, Prompt | Annotated[list[Prompt], Field(max_length=10)]], Field(max_length=MAX_CLASSES)]
)
Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]


class Strict(BaseModel):
    """A body in which unknown fields are errors, so that a misspelled option is not ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class AudioPart(Strict):
    """A part of a recording as an example."""

    audio: str
    start_s: Seconds | None = None
    end_s: Seconds | None = None


class SearchBody(Strict):
    """A search: exactly one of id, vector, audio, text, or like and unlike; a list of ids, vectors or audio is many."""

    id: RowId | list[RowId] | None = Field(None, description="a row, or several queries by rows")
    vector: Any = Field(None, description="[D], [Q][D], or base64 of little-endian float32")
    audio: str | list[str] | None = Field(None, description='base64, a data URI, or "file:NAME" of a multipart part')
    text: Annotated[str, Field(max_length=2000)] | None = None
    like: list[RowId | str | AudioPart] = Field([], description="rows and audio that the hits should resemble")
    unlike: list[RowId | str | AudioPart] = []
    start_s: Seconds | None = Field(None, description="begin of the part of the audio")
    end_s: Seconds | None = Field(None, description="end of the part of the audio")
    using: Name | None = Field(None, description="the view")
    filter: str | dict[str, Any] | None = Field(None, description="an SQL condition, or must / should / must_not")
    limit: Annotated[int, Field(ge=1)] = 10
    metric: Literal["cosine", "ip", "l2"] = "cosine"
    exact: bool = False
    exclude_self: bool | None = None
    with_vector: bool = False
    score_threshold: Number | None = None
    score_band: tuple[Number, Number] | None = None
    group_by: Name | None = None
    merge: bool = False
    diverse: Number | None = None
    align: bool = False
    join: bool = Field(False, description="several vectors are one query: each row gets its best score")
    timeout: Timeout | None = None


class PredictBody(Strict):
    """A prediction for audio, or for stored rows."""

    audio: str | list[str] | None = None
    ids: list[RowId] | None = None
    head: Name | None = None
    zero_shot: ClassNames | None = Field(
        None, description="instead of a head: names of classes, for YAMNet or a model with texts"
    )
    prompt: Prompt | list[Prompt] | None = Field(None, description="sentences for a model with texts; {} is a name")
    label: Name | None = Field(None, description="the column to calibrate zero-shot classes on")
    k: Annotated[int, Field(ge=1, le=1000)] = 1
    per: Literal["window", "recording"] = "window"
    aggregate: Literal["mean", "max"] = "mean"
    precision: Annotated[float, Field(ge=0, le=1)] | None = None
    recall: Annotated[float, Field(ge=0, le=1)] | None = None
    start_s: Seconds | None = Field(None, description="begin of the part of the audio")
    end_s: Seconds | None = Field(None, description="end of the part of the audio")
    with_proba: bool = Field(False, description="also return the probabilities of all classes")


class EmbeddingsBody(BaseModel):
    """The body of OpenAI's embeddings; fields of it that have no meaning here, such as user, are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: Name
    input: Any = Field(description="audio as base64 or data URI, a list of these, or a list of parts")
    encoding_format: Literal["float", "base64"] = "float"
    modality: Literal["audio", "text"] = "audio"
    view: Name | None = None
    pool: bool = Field(False, description="one vector for each input: the mean over its windows")


class LabelEdit(Strict):
    """A value to set in a row; null deletes it."""

    id: RowId
    column: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    value: Value
    was: Value = Field(None, description="what the author has seen: another value is not overwritten")


class LabelTable(Strict):
    """A table of labels as `embedx label` reads it; paths are those of the answers."""

    name: Annotated[str, Field(max_length=1000)] = "the table"
    columns: Annotated[list[Name], Field(min_length=1, max_length=1000)]
    rows: Annotated[list[dict[Name, Value]], Field(max_length=MAX_EDITS)]
    numbers: Annotated[list[RowId], Field(max_length=MAX_EDITS)] | None = Field(None, description="lines of the rows")


class LabelsBody(Strict):
    """Values to set, in one change: exactly one of edits, set and table."""

    edits: Annotated[list[LabelEdit], Field(min_length=1, max_length=MAX_EDITS)] | None = None
    set: Annotated[dict[Name, Value], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="column -> value for all rows, or for those that the filter selects"
    )
    table: LabelTable | None = None
    filter: str | dict[str, Any] | None = Field(None, description="for set and table: the rows that may be changed")
    key: Key = Field(None, description="a request with the same key is answered again, and not made again")
    by: Name | None = Field(None, description="who makes the change")
    overlap: Annotated[float, Field(ge=0, le=1)] = Field(MIN_OVERLAP, description="for table; see `embedx label`")
    timeout: Timeout | None = None


class UndoBody(Strict):
    """The change to undo; the last one by default."""

    revision: Annotated[int, Field(ge=1, le=MAX_ID)] | None = None
    key: Key = None
    by: Name | None = None


class HeadBody(Strict):
    """A head to train."""

    label: Name | Annotated[list[Name], Field(max_length=100)] | None = None
    wait: bool = Field(True, description="false: answer at once with the name of a job")
    kind: Literal["logistic", "mlp", "knn", "prototype", "weighted-layers"] = "logistic"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")] | None = None
    using: Name | Annotated[list[Name], Field(max_length=1000)] | None = None
    filter: str | dict[str, Any] | None = None
    timeout: Timeout | None = None
    calibration: Literal["temperature", "isotonic", "none"] = "temperature"
    permutations: Annotated[int, Field(ge=0, le=1000)] = 199
    class_weight: Literal["balanced"] | None = None
    separator: Annotated[str, Field(max_length=10)] | None = None
    weak_negatives: Annotated[float, Field(ge=0, le=1)] = 0.0
    folds: Name | None = None
    split: Name | None = None
    group: Name | None = None
    leaky: bool = False
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
