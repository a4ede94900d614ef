"""What is known to have broken other services, tried on a real server over HTTP, under each of the
four algorithms: nothing of it is accepted, and nothing yields a 5xx.

`target.py` is the server under attack, `forging.py` makes what an attacker sends.

Three more are tried where they belong: CVE-2024-4629 (Keycloak, guessing in parallel) in
tests/test_throttle_server.py, CVE-2026-9798 (Keycloak, guessing by another flow) in
tests/test_throttle.py, and CVE-2016-7036 (python-jose, a MAC compared byte by byte), which nobody
can see over HTTP, in tests/test_tokens.py.
"""
