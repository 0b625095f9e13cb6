"""The client of the service: a collection behind `embedx serve`, with the methods of a local one."""

from embedx.client.remote import RemoteCollection, connect

__all__ = ["RemoteCollection", "connect"]
