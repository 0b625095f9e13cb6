"""Collection: the facade. Open, make, search, train on, maintain, merge and verify a collection."""
