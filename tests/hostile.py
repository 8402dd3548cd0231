"""Texts that a widget has to show, or to refuse, without being changed by them."""

HOSTILE = [
    "<script>document.title='1'</script>", "</div>", '"onload="', "<img src=x onerror=alert(1)>", "$\\frac$",
    "a" * 10_000, "\u200b", "\u202eabc", "\x00\x07", "", " ", "مرحبا", "日本語", "\ud800",
]  # fmt: skip


def assert_harmless(html: str) -> None:
    """What came from a text is escaped in HTML: all that is left of tags is what tables are made of."""
    for tag in ("<script", "</div", "<img", '"onload'):
        assert tag not in html
