from core.domain.signature import is_signed, sign

# LINE's own example.
SECRET = "8c570fa6dd201bb328f1c1eac23a96d8"
BODY = b'{"destination":"U8e742f61d673b39c7fff3cecb7536ef0","events":[]}'
SIGNATURE = "GhRKmvmHys4Pi8DxkF4+EayaH0OqtJtaZxgTD9fMDLs="


def test_the_published_example_is_signed_as_published() -> None:
    assert sign(SECRET, BODY) == SIGNATURE
    assert is_signed(SECRET, BODY, SIGNATURE)


def test_anything_else_is_not_a_signature() -> None:
    for wrong in (None, "", "x", SIGNATURE[:-1], SIGNATURE.lower(), SIGNATURE + "=", "é" * 44, "\udcff"):
        assert not is_signed(SECRET, BODY, wrong)
    assert not is_signed(SECRET, BODY + b" ", SIGNATURE)
    assert not is_signed(SECRET + "x", BODY, SIGNATURE)
