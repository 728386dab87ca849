"""Live: what goes through the system, how fast it answers, and how good the lists are."""

from console.pages.live.page import PAGE

__all__ = ["PAGE"]
