"""Output on its way to people: whole lines, no flood."""

from linkspan.code.output import Lines


def test_lines_are_whole_and_plain() -> None:
    said: list[str] = []
    lines = Lines(said.append, remember=3)
    text = "one\ntw\x1b[91mo\x1b[0m\r\n 10%\r100%\n\nÄther\x07\nlast".encode()
    for index in range(len(text)):
        lines.feed(text[index : index + 1])
    assert said == ["one", "two", " 10%", "100%", "Äther"]
    lines.close()
    assert said[-1] == "last"
    assert lines.tail == "100%\nÄther\nlast"
    lines.feed("x" * 100_000)
    assert len(said[-1]) < 3000


def test_a_flood_is_cut_and_its_end_is_said() -> None:
    said: list[str] = []
    lines = Lines(said.append, remember=2, most=3)
    lines.feed("".join(f"{number}\n" for number in range(1000)))
    lines.close()
    assert said[:3] == ["0", "1", "2"]
    assert "enough" in said[3]
    assert said[4:] == ["1000 lines, of which these are the last:", "998", "999"]
