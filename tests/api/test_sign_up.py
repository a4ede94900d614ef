"""Rules of usernames and new passwords, without HTTP."""

from __future__ import annotations

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


@pytest.mark.parametrize("name", ["{}", "travis{}", "tra{}vis", "{}travis"])
def test_usernames_with_invisible_characters_are_refused(name: str) -> None:
    for invisible in (*IGNORABLE, "\u2800", "\u200b", "\u00ad", "\u180e"):
        problem = names.find_problem(name.format(invisible))

        assert problem is not None, ascii(invisible)
        assert "invisible characters" in problem


@pytest.mark.parametrize(
    "name",
    ["Ünal", "U\u0308nal", "עִברית", "ไทย", "한국어", "가", "नमस्ते", "\u2801", "🐈", "a b", "ᠮᠣᠩᠭᠣᠯ"],
)
def test_usernames_in_all_scripts_are_accepted(name: str) -> None:
    assert names.find_problem(name) is None


def test_all_default_ignorable_characters_are_invisible() -> None:
    for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x180B, 0x1810)):
        assert names.find_problem(f"a{chr(code)}b") is not None


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
def test_passwords_made_of_the_username_are_refused(username: str, password: str) -> None:
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
def test_passwords_that_only_resemble_the_username_are_accepted(
    username: str, password: str
) -> None:
    assert policy.find_problem(password, username, 3) is None


def refused_as_common(password: str) -> bool:
    return (policy.find_problem(password, "lovelace", 1) or "").startswith(
        "This is one of the most"
    )


def test_the_3000_most_common_passwords_are_refused() -> None:
    """The 3,000 most common of all, and of those long enough to pass the minimum length."""
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
def test_names_and_words_used_as_passwords_are_refused(password: str) -> None:
    """They are in zxcvbn's lists of names and words, not in that of passwords."""
    assert refused_as_common(password)
    assert not refused_as_common(f"{password} x7$z")


@pytest.mark.parametrize(
    ("password", "refused"), [("x7$" * 2 + "y", True), ("x7$" * 2 + "yz", False),
                              ("x7$z" * 64, False), ("x7$z" * 64 + "x", True)],
    ids=["7", "8", "256", "257"],
)  # fmt: skip
def test_password_length_is_8_to_256_characters(password: str, refused: bool) -> None:
    assert (policy.find_problem(password, "ada", 8) is not None) is refused
