"""Sample data, reference implementations and conformance tests that several test files share."""
