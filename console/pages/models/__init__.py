"""Models: versions and what the gate says of them, the queue of trainings, and asking for one."""

from console.pages.models.page import PAGE

__all__ = ["PAGE"]
