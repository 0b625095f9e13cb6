"""Predicting: audio or rows of a request -> labels with probabilities, by a head of the collection."""

from typing import Any

from embedx.server.answers import Paths, state_of
from embedx.server.bodies import Uploads, audio_files
from embedx.server.errors import ApiError, api_error
from embedx.server.schemas import MAX_CLASSES, PredictBody
from embedx.server.served import Served
from embedx.server.settings import Limits
from embedx.training.zero_shot import read_classes


def source_of(paths: list[str], body: PredictBody) -> Any:
    """Return files, or the part of each that a request names, as `Collection.predict` takes them."""
    if body.start_s is None and body.end_s is None:
        return paths
    import pandas as pd

    return pd.DataFrame({"path": paths, "start_s": body.start_s or 0.0, "end_s": body.end_s})


def check_zero_shot(body: PredictBody) -> None:
    """Refuse more texts than a request may have: each one takes a forward pass of the text encoder.

    Raises:
        ApiError: there are too many.
        UsageError: the classes are invalid.
    """
    prompts = sum(map(len, read_classes(body.zero_shot).values()))
    texts = prompts * (len(body.prompt) if isinstance(body.prompt, list) else 1)
    if texts > MAX_CLASSES:
        raise ApiError(400, "limit_too_large", f"A request may have {MAX_CLASSES} zero-shot texts, not {texts}.")


def answer_predict(served: Served, body: PredictBody, uploads: Uploads, limits: Limits) -> dict[str, Any]:
    """Return the answer to a prediction.

    Raises:
        ApiError: the request is invalid.
    """
    if (body.audio is None) == (body.ids is None):
        raise ApiError(400, "bad_query", "Give either audio or ids.")
    if len(body.ids or []) > limits.hits:
        raise ApiError(400, "limit_too_large", f"A request may have {limits.hits} ids.")
    if body.zero_shot is not None:
        check_zero_shot(body)
    options = body.model_dump(
        include={"head", "zero_shot", "prompt", "label", "k", "per", "aggregate", "precision", "recall"}
    )
    with audio_files(uploads) as files, served.use() as collection:
        state, paths = state_of(collection), Paths(collection)
        if body.audio is None:
            ids = sorted(set(body.ids or []))
            missing = set(ids) - {row.id for row in collection.store.rows(ids)}
            if missing or not ids:
                raise ApiError(404, "no_row", f"There is no row {min(missing)}." if missing else "ids is empty.")
            predictions = collection.predict(where=f"id IN ({', '.join(map(str, ids))})", **options)
        else:
            given = body.audio if isinstance(body.audio, list) else [body.audio]
            if not given:
                raise ApiError(400, "bad_query", "audio is an empty list.")
            if len(given) > limits.files:
                raise ApiError(413, "too_many_files", f"A request may have {limits.files} files.")
            predictions = collection.predict(source_of([files.add(one) for one in given], body), **options)
        if predictions.failures and len(predictions.failures) == len(files.paths):
            raise predictions.failures[0]
    numbers = {path: number for number, path in enumerate(files.paths)}
    return {
        "predictions": [
            {
                "id": one.id,
                "input": numbers.get(one.path),
                "path": None if one.path in numbers else paths.shown(one.path),
                "start_s": one.start_s,
                "end_s": one.end_s,
                "channel": one.channel,
                "labels": list(one.labels),
                "top": [{"label": label, "probability": probability} for label, probability in one.top],
                **({"proba": proba.tolist()} if body.with_proba else {}),
            }
            for one, proba in zip(predictions, predictions.proba, strict=True)
        ],
        "classes": list(predictions.classes),
        **({"note": predictions.note} if predictions.note else {}),
        "failures": [api_error(failure, served.name).to_json()["error"] for failure in predictions.failures],
        **state,
    }
