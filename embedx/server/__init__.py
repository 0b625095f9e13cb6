"""The service: collections over HTTP. A thin layer over `Collection`; docs/service.md describes it for users."""
