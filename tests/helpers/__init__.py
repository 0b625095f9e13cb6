"""What several test files share: sample data, reference implementations, the conformance suite of extractors."""
