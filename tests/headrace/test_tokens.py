"""Tokens: short texts that any producer can make."""

from __future__ import annotations

import pytest

from headrace.errors import InvalidToken
from headrace.tokens import Token, newest


@pytest.mark.parametrize(
    "token", [Token("clicks", 3, 4711), Token("ratings", 0, 0), Token("purchases", 12, 2**53)]
)
def test_a_token_comes_back_from_its_text(token: Token) -> None:
    assert Token.parse(str(token)) == token


def test_the_text_is_what_a_delivery_report_tells() -> None:
    assert str(Token("clicks", 3, 4711)) == "clicks.3.4711"


@pytest.mark.parametrize(
    "text",
    ["", "clicks", "clicks.3", "clicks.3.4.5", "views.3.4", "clicks.-1.4", "clicks.3.4x",
     "clicks.03.4", "clicks.3.4\n", "clicks.3." + "9" * 17, "x-clicks.3.4", "clicks.٣.4"],
)  # fmt: skip
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(InvalidToken, match=r"clicks\.3\.4711"):
        Token.parse(text)


def test_of_a_partition_the_last_token_stands_for_all() -> None:
    tokens = map(
        Token.parse, ["clicks.0.5", "clicks.1.2", "clicks.0.7", "ratings.0.1", "clicks.0.6"]
    )
    assert {str(token) for token in newest(tokens)} == {"clicks.0.7", "clicks.1.2", "ratings.0.1"}


def test_a_token_is_of_the_topics_that_are_read() -> None:
    own = ("shop.book-views", "books-purchases", "books-ratings")
    assert Token.parse("shop.book-views.3.4711", own) == Token("shop.book-views", 3, 4711)
    for text in ("clicks.3.4711", "shop.3.4711", "shop.book-views.4711", "book-views.3.4711"):
        with pytest.raises(InvalidToken, match=r"of the topics shop\.book-views, books-p"):
            Token.parse(text, own)
