"""The pages, in the order of the navigation."""

from console.pages.feed import PAGE as FEED
from console.visit import Page

PAGES: tuple[Page, ...] = (FEED,)
