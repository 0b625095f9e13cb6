"""Which URLs are taken, and that nothing secret of them is kept, shown or lost."""

import pytest

from embedx.errors import UsageError
from embedx.filesystem import urls

SECRET = "c0ffee"


@pytest.mark.parametrize(
    "query",
    [
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2Fb&X-Amz-Expires=60&X-Amz-Signature={SECRET}",
        f"X-Goog-Credential=a&X-Goog-Signature={SECRET}",
        f"AWSAccessKeyId=a&Expires=1&Signature={SECRET}",
        f"Expires=1&Signature={SECRET}&Key-Pair-Id=a",
        f"sv=2026-01-01&se=2026-12-01&sr=b&sp=r&sig={SECRET}",
        f"access_token={SECRET}",
        f"api_key={SECRET}",
        f"key={SECRET}",
    ],
)
def test_signature_is_kept_in_memory_only(query: str) -> None:
    given = f"https://example.org/a.wav?take=2&{query}"
    stored = urls.absolute(given)
    assert stored == "https://example.org/a.wav?take=2"
    assert urls.signed(stored) == given
    renewed = given.replace(SECRET, "beef")
    assert urls.absolute(renewed) == stored  # the same recording, and the newest signature
    assert urls.signed(stored) == renewed


@pytest.mark.parametrize("query", ["key=a/1.wav", "author=x", "session=3", "se=1", "take=2", "key=a.wav&expires=never"])
def test_other_parameters_tell_recordings_apart(query: str) -> None:
    assert urls.absolute(f"https://example.org/get?{query}") == f"https://example.org/get?{query}"


@pytest.mark.parametrize("url", ["s3://id:c0ffee@bucket/a", "https://me:c0ffee@example.org/a.wav", "gs://c0ffee@b/a"])
def test_password_in_a_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(UsageError, match="environment") as caught:
        urls.absolute(url)
    assert SECRET not in str(caught.value).partition("@")[0]


@pytest.mark.parametrize(
    "url", ["ftp://host/a", "simplecache::s3://b/a", "reference://x", "github://o/r", "zip://a.zip"]
)
def test_other_schemes_are_refused_or_paths(url: str) -> None:
    if urls.is_url(url):
        with pytest.raises(UsageError, match="s3://"):
            urls.absolute(url)
    else:
        assert urls.absolute(url).startswith("/")


def test_names_of_objects_keep_their_characters() -> None:
    for key in ("a//b.wav", "a@b:c.wav", "100%.wav", "a#1.wav", "é ñ.wav", "../a.wav"):
        assert urls.absolute(f"s3://bucket/{key}") == f"s3://bucket/{key}"


def test_common_folder_of_urls_and_paths() -> None:
    assert urls.common_folder([]) == ""
    assert urls.common_folder(["s3://b/a", "s3://b/a/c"]) == "s3://b/a"
    assert urls.common_folder(["s3://b/ab", "s3://b/a"]) == "s3://b"
    assert urls.common_folder(["s3://a/x", "s3://b/x"]) == ""
    assert urls.common_folder(["s3://b/x", "gs://b/x"]) == ""
    assert urls.common_folder(["/x", "s3://b"]) == ""
