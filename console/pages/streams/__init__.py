"""Streams: topics and how far workers are, dead letters, replays."""

from console.pages.streams.page import PAGE

__all__ = ["PAGE"]
