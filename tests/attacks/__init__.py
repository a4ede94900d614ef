"""Attacks that worked against other services. None may succeed, and none may cause a 5xx.

`target.py` is the service under attack, `forging.py` makes what an attacker sends. An attack runs
under one algorithm where it does not matter which.

Three more have their tests elsewhere: CVE-2024-4629 (Keycloak, guessing in parallel) in
tests/server/test_attempts.py, CVE-2026-9798 (Keycloak, guessing by another flow) in
tests/api/test_attempts.py, and CVE-2016-7036 (python-jose, a MAC compared byte by byte), which
can't be seen over HTTP, in tests/api/test_tokens.py.
"""
