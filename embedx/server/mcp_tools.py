"""The MCP tools: arguments -> a table for people and models, the same as values, and links to audio."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedx.audio.excerpts import wav_bytes
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import safe_stem
from embedx.server.bodies import FILE, Uploads
from embedx.server.errors import ApiError
from embedx.server.labelling import set_values
from embedx.server.mcp_schemas import (
    ClipArguments,
    CollectionArguments,
    HitArguments,
    LabelArguments,
    PredictArguments,
    SearchArguments,
    SimilarArguments,
)
from embedx.server.mcp_tables import markdown_table
from embedx.server.predicting import answer_predict
from embedx.server.row_audio import look_up, read_audio
from embedx.server.schemas import SearchBody
from embedx.server.searching import answer_search
from embedx.server.served import Served
from embedx.server.served_engine import AnyServed
from embedx.server.service import Service, with_folder
from embedx.server.shared_folder import SharedFolder
from embedx.server.tokens import Right

HIT_COLUMNS = ("id", "score", "path", "start_s", "end_s", "label")
MAX_META_COLUMNS = 6  # of a table; the structured content has all
MAX_SHOWN_VALUES = 12  # of a column in the description of a collection
UPLOAD = f"{FILE}query"  # how the body of a search or prediction names the one file of a call


@dataclass(frozen=True)
class Result:
    """What a tool returns.

    Attributes:
        text: a summary with a table.
        value: the same as JSON values.
        links: (URI, name) of audio.
    """

    text: str
    value: dict[str, Any]
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class ToolSpec:
    """A tool.

    Attributes:
        run: the function.
        arguments: the model of its arguments.
        description: what it does, for the agent.
        needs: the option of the command without which there is no such tool; empty: it is always there.
        uses_model: it may compute with the model, or read audio.
        changes: it writes something.
    """

    run: Callable[["Tools", Any], Result]
    arguments: type[CollectionArguments]
    description: str
    needs: str = ""
    uses_model: bool = True
    changes: bool = False


@dataclass
class Tools:
    """The tools of a service.

    Attributes:
        service: the collections, and whether labels may be set.
        files: the folder whose files may be queries; None: no files.
        clips: the folder for clips; None: no clips.
        right: "read" leaves out the tools that change something.
        is_remote: the client may be on another machine: results do not tell where a folder is.
    """

    service: Service
    files: SharedFolder | None = None
    clips: Path | None = None
    right: Right = "label"
    is_remote: bool = False
    specs: dict[str, ToolSpec] = field(default_factory=dict)

    def __post_init__(self) -> None:
        has = {"": True, "--clips": self.clips is not None, "--allow-labels": self.service.settings.allow_labels}
        allowed = {name: spec for name, spec in SPECS.items() if self.right == "label" or not spec.changes}
        self.specs = {name: spec for name, spec in allowed.items() if has[spec.needs]}

    def spec(self, name: str) -> ToolSpec:
        """Return a tool.

        Raises:
            ApiError: there is no such tool, or it needs an option that was not given.
        """
        if name in self.specs:
            return self.specs[name]
        if name in SPECS:
            hint = f"It needs the option {SPECS[name].needs}{'' if self.right == 'label' else ', and a token label:'}."
            raise ApiError(403, "not_allowed", f"{name} is switched off.", hint)
        raise ApiError(404, "no_tool", "There is no such tool.", f"The tools: {', '.join(self.specs)}.")

    def served(self, arguments: CollectionArguments) -> Served:
        """Return the collection of a call that needs its folder; see `any_served`.

        Raises:
            ApiError: as `any_served`, or the collection is in a search engine.
        """
        return with_folder(self.any_served(arguments))

    def any_served(self, arguments: CollectionArguments) -> AnyServed:
        """Return the collection of a call; the only one by default.

        Raises:
            ApiError: there is no such collection, or several without a name in the arguments.
        """
        collections, name = self.service.collections, arguments.collection
        if name is None and len(collections) == 1:
            (name,) = collections
        if name not in collections:
            problem = "There is no collection of this name." if name else "There are several collections."
            raise ApiError(404, "no_collection", problem, f"Give one of: {', '.join(collections)}.")
        return collections[name]

    def upload(self, file: str | None) -> Uploads:
        """Return the file of a call.

        Raises:
            ApiError: files are not allowed, or this one cannot be read.
        """
        if file is None:
            return Uploads({}, self.service.limits)
        if self.files is None:
            raise ApiError(403, "not_allowed", "Files are switched off.", "They need the option --files FOLDER.")
        return Uploads({UPLOAD: self.files.read(file)}, self.service.limits)


def describe_collection(tools: Tools, arguments: CollectionArguments) -> Result:
    """Describe a collection."""
    facts = tools.service.describe(tools.any_served(arguments), wait=True)
    if facts["status"] != "ok":
        raise ApiError(503, "collection_unavailable", f"The collection {facts['name']} cannot be read.")
    views = ", ".join(view["name"] for view in facts["views"])
    heads = ", ".join(head["name"] for head in facts["heads"]) or "none"
    columns = [
        {
            "column": column["name"],
            "kind": column["kind"],
            "values": ", ".join(map(str, column.get("values", [])[:MAX_SHOWN_VALUES])),
        }
        for column in facts["columns"]
    ]
    text = (
        f"{facts['name']}: {facts['rows']} rows of {facts['recordings']} recordings, {facts['hours']:g} h. "
        f"Views: {views} (default: {facts['default_view']}). Heads: {heads}. Columns, which a filter can use:"
    )
    return Result(f"{text}\n\n{markdown_table(('column', 'kind', 'values'), columns)}", facts)


def search_sounds(tools: Tools, arguments: SearchArguments) -> Result:
    """Search by a row, a text or a file."""
    if sum(value is not None for value in (arguments.id, arguments.text, arguments.file)) != 1:
        raise ApiError(400, "bad_query", "Give exactly one of id, text and file.")
    query: dict[str, Any] = {"id": arguments.id, "text": arguments.text}
    if arguments.file is not None:
        query |= {"audio": UPLOAD, "start_s": arguments.start_s, "end_s": arguments.end_s}
    elif arguments.start_s is not None or arguments.end_s is not None:
        raise ApiError(400, "bad_query", "start_s and end_s choose a part of a file. Leave them out, or give file.")
    return run_search(tools, arguments, query, tools.upload(arguments.file))


def similar_to(tools: Tools, arguments: SimilarArguments) -> Result:
    """Search by examples."""
    query = {"like": arguments.like, "unlike": arguments.unlike}
    return run_search(tools, arguments, query, tools.upload(None))


def run_search(tools: Tools, arguments: HitArguments, query: Mapping[str, Any], uploads: Uploads) -> Result:
    """Return the hits of a query."""
    served = tools.any_served(arguments)
    options = {"limit": arguments.limit, "using": arguments.view, "filter": arguments.filter}
    body = SearchBody.model_validate({**query, **options, "group_by": arguments.group_by})
    value = answer_search(served, body, uploads, tools.service.limits)
    hits = value["hits"]
    meta = list(dict.fromkeys(name for hit in hits for name in hit["meta"] if name not in HIT_COLUMNS))
    shown = meta[:MAX_META_COLUMNS]
    rows = [{**{name: hit["meta"].get(name) for name in shown}, **hit} for hit in hits]
    text = f"{len(hits)} hits in {served.name}, best first; a higher score is nearer."
    links = [(audio_uri(served.name, hit["id"]), f"{hit['path']} row {hit['id']}") for hit in hits]
    return Result(f"{text}\n\n{markdown_table((*HIT_COLUMNS, *shown), rows)}", value, links)


def predict(tools: Tools, arguments: PredictArguments) -> Result:
    """Predict labels of rows or of a file."""
    if (arguments.ids is None) == (arguments.file is None):
        raise ApiError(400, "bad_query", "Give exactly one of ids and file.")
    uploads = tools.upload(arguments.file)
    body = arguments.body(UPLOAD if arguments.file is not None else None)
    value = answer_predict(tools.served(arguments), body, uploads, tools.service.limits)
    rows = [
        {**one, "labels": ", ".join(f"{top['label']} {top['probability']:.3f}" for top in one["top"])}
        for one in value["predictions"]
    ]
    text = f"{len(rows)} predictions; labels with their probabilities."
    return Result(f"{text}\n\n{markdown_table(('id', 'path', 'start_s', 'end_s', 'labels'), rows)}", value)


def cut_clip(tools: Tools, arguments: ClipArguments) -> Result:
    """Write the audio of a row into the folder for clips."""
    served = tools.served(arguments)
    row, state = look_up(served, arguments.id)
    frames, rate = read_audio(row, arguments.context_s)
    start_s, end_s = max(0.0, row.start_s - arguments.context_s), row.end_s + arguments.context_s
    name = f"{served.name}_{row.id}_{safe_stem(row.path)}_{start_s:.2f}-{end_s:.2f}.wav"
    assert tools.clips is not None
    try:
        replace_file(tools.clips / name, wav_bytes(frames, rate))
    except OSError as error:
        problem = f"The clip cannot be written: {error.strerror}."
        raise ApiError(503, "disk", problem, "See to the folder of --clips.") from error
    value = {"id": row.id, "file": name, "seconds": len(frames) / rate, "sample_rate": rate} | state
    text = f"Wrote {name} ({value['seconds']:.2f} s, {rate} Hz) into the folder of --clips."
    return Result(text, value, [] if tools.is_remote else [((tools.clips / name).as_uri(), name)])


def label_rows(tools: Tools, arguments: LabelArguments) -> Result:
    """Set values of columns in rows."""
    value = set_values(tools.served(arguments), arguments.edits)
    return Result(f"Changed {value['changed']} rows. This is revision {value['revision']}.", value)


def audio_uri(collection: str, number: int | str) -> str:
    """Return the URI of the audio of a row, which the client can read.

    >>> audio_uri("field", 7)
    'embedx://field/rows/7/audio'
    """
    return f"embedx://{collection}/rows/{number}/audio"


SPECS = {
    "describe_collection": ToolSpec(
        describe_collection,
        CollectionArguments,
        "Describe a collection of sounds: size, columns with their values, views, and heads (classifiers).",
        uses_model=False,
    ),
    "search_sounds": ToolSpec(
        search_sounds,
        SearchArguments,
        "Find the rows (stretches of recordings) that sound most like a row, an audio file or a text.",
    ),
    "similar_to": ToolSpec(
        similar_to,
        SimilarArguments,
        "Find the rows that sound like several example rows, and unlike others.",
        uses_model=False,
    ),
    "predict": ToolSpec(
        predict, PredictArguments, "Predict the labels of rows or of an audio file with a head (classifier)."
    ),
    "cut_clip": ToolSpec(
        cut_clip, ClipArguments, "Write the audio of a row to a WAV file, to listen to it.", "--clips", changes=True
    ),
    "label_rows": ToolSpec(
        label_rows,
        LabelArguments,
        "Set labels or metadata of rows. Ask the user first, unless the user has asked for it.",
        "--allow-labels",
        uses_model=False,
        changes=True,
    ),
}
