"""Feed: be a user, act on cards, and watch the list answer."""

from console.pages.feed.page import PAGE

__all__ = ["PAGE"]
