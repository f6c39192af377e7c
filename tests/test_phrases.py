"""Names are shortened by what they have in common, so that rows can be told apart."""

from hypothesis import given
from hypothesis import strategies as st

from scanwise.phrases import short_names

PARTS = st.text("abc01_-. /", max_size=30)


@given(
    st.lists(st.tuples(PARTS, st.text("01ab", max_size=8), PARTS).map("".join), min_size=1, max_size=12),
    st.integers(6, 40),
)
def test_names_that_differ_stay_different_and_equal_ones_equal(names: list[str], most: int) -> None:
    short = short_names(names, most)
    assert len(short) == len(names)
    for first, shown in zip(names, short, strict=True):
        for second, other in zip(names, short, strict=True):
            assert (first == second) == (shown == other)


@given(PARTS, PARTS, st.integers(2, 200), st.integers(16, 40))
def test_the_length_is_kept_where_a_number_alone_differs(before: str, after: str, count: int, most: int) -> None:
    names = [f"{before}{number:03d}{after}" for number in range(count)]
    short = short_names(names, most)
    assert max(map(len, short)) <= most
    assert all(f"{number:03d}"[-1] in shown for number, shown in enumerate(short))


def test_names_that_fit_are_left_alone() -> None:
    assert short_names(["a/1.png", "b/1.png"], 32) == ["a/1.png", "b/1.png"]


def test_the_differing_part_is_shown_wherever_it_stands() -> None:
    ends = "_session_baseline_with_a_long_name_T1w.nii.gz"
    first, second = short_names([f"patient001{ends}", f"patient002{ends}"], 32)
    assert first.startswith("patient001")
    assert second.startswith("patient002")
    deep = [f"/a/very/long/way/to/the/scans/{person}/baseline/image.dcm" for person in ("p1", "p2")]
    assert short_names(deep, 32) == ["…p1/baseline/image.dcm", "…p2/baseline/image.dcm"]
    same = [f"{'left' * 9}/{name}/{'right' * 9}.png" for name in ("one", "two", "one")]
    shown = short_names(same, 20)
    assert "one" in shown[0]
    assert "two" in shown[1]
    assert shown[2] == shown[0]
