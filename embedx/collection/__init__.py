"""Collection: the facade of embedx. Make, open, search, train on, maintain, merge and verify a collection."""
