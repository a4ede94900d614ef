"""What may be a username, and what a new password beside it: the rules, without HTTP."""

from __future__ import annotations

import unicodedata

import pytest
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from jwt_server.config import Settings
from jwt_server.security import policy
from jwt_server.users import names

# Of DerivedCoreProperties.txt (Unicode 14, which Python 3.11 knows): those whose category does not
# tell that they can't be seen.
IGNORABLE = [
    "\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u180b", "\u180d", "\u180f", "\u3164",
    "\ufe00", "\ufe0f", "\uffa0", "\U000e0100", "\U000e01ef",
]  # fmt: skip


@pytest.mark.parametrize("unseen", [*IGNORABLE, "\u2800", "\u200b", "\u00ad", "\u180e"], ids=ascii)
@pytest.mark.parametrize("name", ["{}", "travis{}", "tra{}vis", "{}travis"])
def test_a_name_has_nothing_that_can_not_be_seen(name: str, unseen: str) -> None:
    complaint = names.find_problem(name.format(unseen))

    assert complaint is not None
    assert "can't be seen" in complaint


@pytest.mark.parametrize(
    "name",
    ["Ünal", "U\u0308nal", "עִברית", "ไทย", "한국어", "가", "नमस्ते", "\u2801", "🐈", "a b", "ᠮᠣᠩᠭᠣᠯ"],
)
def test_letters_and_marks_of_all_scripts_are_names(name: str) -> None:
    assert names.find_problem(name) is None


def test_nothing_else_without_a_look_is_overlooked() -> None:
    """Each code point that stays as it is has a category that is seen, or is known as blank."""
    for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x180B, 0x1810)):
        character = chr(code)
        assert (
            unicodedata.category(character) in names.INVISIBLE_CATEGORIES
            or character in names.INVISIBLE_CHARACTERS
        )


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("ada.lovelace", "ada.lovelace"),
        ("lovelace", "LoveLace1234"),
        ("lovelace", "12lovelace34"),
        ("lovelace", "ｌｏｖｅｌａｃｅ1234"),
        ("Ünalünal", "U\u0308NALu\u0308nal1"),
        ("straße", "STRASSE1234"),
        ("zoe", "zoe4321"),
    ],
    ids=ascii,
)
def test_a_password_is_more_than_the_name_however_it_is_spelled(
    username: str, password: str
) -> None:
    assert (policy.find_problem(password, username, 3) or "").startswith("This is little more than")


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("lovelace", "lovelace12345"),
        ("lovelace", "lov3lac3"),
        ("ada", "k7$z"),
        ("ada", "q9!"),
        ("zoe", "zozoee12"),
    ],
)
def test_it_is_not_said_of_what_is_no_name(username: str, password: str) -> None:
    assert policy.find_problem(password, username, 3) is None


def refused_as_common(password: str) -> bool:
    return (policy.find_problem(password, "lovelace", 1) or "").startswith(
        "This is one of the most"
    )


def test_none_of_the_3000_most_common_passwords_will_do() -> None:
    """Neither of all, nor of those that are long enough to be refused for nothing else."""
    listed = FREQUENCY_LISTS["passwords"]
    long = [password for password in listed if len(password) >= Settings.password_min_length]
    assert (listed[0], long[0]) == ("123456", "password")  # the most common come first

    for most_common in (listed[:3000], long[:3000]):
        assert len(most_common) == 3000
        for password in most_common:
            assert refused_as_common(password)
            assert refused_as_common(password.upper())


@pytest.mark.parametrize(
    "password", ["jennifer", "Michelle", "alexander", "elizabeth", "chocolate", "december"]
)
def test_nor_will_names_and_words_that_are_common_passwords(password: str) -> None:
    """Each stands in one of zxcvbn's lists alone: these are not in that of passwords."""
    assert refused_as_common(password)
    assert not refused_as_common(f"{password} x7$z")


@pytest.mark.parametrize(
    ("password", "refused"), [("x7$" * 2 + "y", True), ("x7$" * 2 + "yz", False),
                              ("x7$z" * 64, False), ("x7$z" * 64 + "x", True)],
    ids=["7", "8", "256", "257"],
)  # fmt: skip
def test_a_password_has_from_8_to_256_characters(password: str, refused: bool) -> None:
    assert (policy.find_problem(password, "ada", 8) is not None) is refused
