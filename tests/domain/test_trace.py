import pytest

from core.domain.trace import trace_id

ID = "105445aa7843bc8bf206b12000100000"


@pytest.mark.parametrize(
    ("cloud", "w3c"),
    [
        (f"{ID}/1;o=1", None),
        (ID, None),
        (ID.upper(), f"00-{'f' * 32}-{'1' * 16}-01"),
        (None, f"00-{ID}-{'1' * 16}-01"),
        ("nonsense", f"00-{ID}-{'1' * 16}-01"),
        ("0" * 32 + "/1", f"00-{ID}-{'1' * 16}-01"),
    ],
)
def test_a_well_formed_header_names_the_trace(cloud: str | None, w3c: str | None) -> None:
    assert trace_id(cloud, w3c) == ID


@pytest.mark.parametrize("header", [None, "", "x", "0" * 32, "1" * 31, "1" * 33, '"}\n' + "1" * 32])
def test_without_one_a_trace_is_made_up(header: str | None) -> None:
    made_up = trace_id(header, header)
    assert len(made_up) == 32
    assert made_up != trace_id(header, header)
    int(made_up, 16)
