"""What schemathesis can't know: how a cursor looks, what may be a name, and what a password."""

import schemathesis
from hypothesis import strategies as st

from jwt_server import ids
from jwt_server.web.paging import cursor

schemathesis.openapi.format("cursor", st.integers(1, ids.LARGEST).map(cursor))

letters = st.characters(categories=["Ll", "Nd"], max_codepoint=0x2AF)
schemathesis.openapi.format("username", st.text(letters, min_size=1, max_size=16))
schemathesis.openapi.format(
    "new-password",
    st.binary(min_size=4, max_size=64).map(lambda random: f"Correct horse {random.hex()}"),
)
