"""Which mail addresses are taken."""

from __future__ import annotations

import pytest

from dashboard.addresses import checked


@pytest.mark.parametrize(("text", "kept"), [
    ("team@example.org", "team@example.org"), ("First.Last+ca@Mail.EXAMPLE.org", "First.Last+ca@mail.example.org"),
    ("root@localhost", "root@localhost"), ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    ("o'hara@b-c.example", "o'hara@b-c.example"),
])  # fmt: skip
def test_taken(text: str, kept: str) -> None:
    assert checked(text) == kept


@pytest.mark.parametrize("text", [
    "", "a", "@", "a@", "@b", "a@b@c", "a b@c.example", "a@b..c", "a@-b.example", "a@b.example.", ".a@b.example", "a..b@c.example",
    "a@b.example\n", "a\r\n@b.example", "a@b.example\r\nBcc: c@d.example", "<a@b.example>", "A <a@b.example>", "a@b.example,c@d.example",
    '"a b"@c.example', "a@[127.0.0.1]", "ä@b.example", "a@bücher.example", "a" * 65 + "@b.example", "a@" + "b" * 64 + ".example",
    "a@" + ".".join(["b" * 60] * 5), "a@b.example\x00", "a@" + "b-" * 5000 + "!",
])  # fmt: skip
def test_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a mail address such as team@example\.org"):
        checked(text)
