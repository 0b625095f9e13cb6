"""Compare hits."""

import numpy as np

from embedx.search.hits import Hits


def assert_same_hits(hits: Hits, expected: Hits) -> None:
    assert [(hit.id, hit.start_s, hit.end_s, hit.label, hit.meta, hit.query_start_s) for hit in hits] == [
        (hit.id, hit.start_s, hit.end_s, hit.label, hit.meta, hit.query_start_s) for hit in expected
    ]
    np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in expected], rtol=1e-5, atol=1e-6)
    assert all(mine.path.endswith(other.path) for mine, other in zip(expected, hits, strict=True))
    assert hits.generation == expected.generation
    assert list(hits.to_pandas()) == list(expected.to_pandas())
