"""What is known to have broken other services, tried on a real server over HTTP, under each of the
four algorithms: nothing of it is accepted, and nothing yields a 5xx.

`target.py` is the server under attack, `forging.py` makes what an attacker sends.
"""
