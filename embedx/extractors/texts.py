"""Texts for models that embed audio and text in one space: tokenizers of checkpoints, and their limits."""

from typing import Any

from embedx.errors import ModelError, UsageError
from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.weights import brief


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """Return the tokenizer of a checkpoint.

    Raises:
        ModelError: the checkpoint has none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    place = checkpoint.place
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **checkpoint.options)
    except Exception as error:  # the library raises many kinds of errors for damaged files
        raise ModelError(
            f"There is no tokenizer in {place}, which text needs, or it cannot be read. Its files are tokenizer.json "
            f"or vocab.json and merges.txt; they lie beside the weights. transformers says: {brief(error)}"
        ) from error
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # the library invents one if there is none
        raise ModelError(f"{place} has no tokenizer (tokenizer.json, or vocab.json and merges.txt) for text.")
    return tokenizer


def tokenize(tokenizer: Any, texts: list[str], limit: int) -> Any:
    """Return the tokens of texts, padded to one length.

    Raises:
        UsageError: a text has more tokens than the model accepts.
    """
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    count = tokens["input_ids"].shape[1]
    if count > limit:
        raise UsageError(f"The text has {count} tokens, but this model accepts {limit}. Use a shorter text.")
    return tokens
