"""Arguments: calls of public functions are checked before they run: unknown keywords, and values of wrong types."""

from embedx.arguments.keywords import InvalidCall, KnownKeywords, UnknownKeyword, WrongType, with_known_keywords

__all__ = ["InvalidCall", "KnownKeywords", "UnknownKeyword", "WrongType", "with_known_keywords"]
