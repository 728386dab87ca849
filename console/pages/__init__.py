"""The pages, in the order of the navigation."""

from console.pages.feed import PAGE as FEED
from console.pages.items import PAGE as ITEMS
from console.pages.live import PAGE as LIVE
from console.pages.models import PAGE as MODELS
from console.pages.streams import PAGE as STREAMS
from console.visit import Page

PAGES: tuple[Page, ...] = (FEED, LIVE, MODELS, STREAMS, ITEMS)
