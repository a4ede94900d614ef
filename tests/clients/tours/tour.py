# mypy: ignore-errors
"""A tour with the client that openapi-python-client generates; the argument is the URL."""

import sys

from generated import AuthenticatedClient, Client
from generated.api.auth import logout, refresh
from generated.api.me import export_account
from generated.api.oauth import issue_tokens
from generated.api.pets import add_pet, list_pets, show_pet
from generated.models import Logout, PetFields, Refresh, TokenRequest, TokenRequestGrantType

url = sys.argv[1]
stranger = Client(base_url=url)
grant = TokenRequest(TokenRequestGrantType.PASSWORD, username="travis", password="mypassword")
tokens = issue_tokens.sync(client=stranger, body=grant)
tokens = refresh.sync(client=stranger, body=Refresh(tokens.refresh_token))
assert tokens.token_type == "Bearer"

client = AuthenticatedClient(base_url=url, token=tokens.access_token)
pet = add_pet.sync(client=client, body=PetFields(name="Tom", species="cat"))
assert show_pet.sync(pet.id, client=client).created_at == pet.created_at
page = list_pets.sync_detailed(client=client, limit=1)
assert (len(page.parsed), page.headers["Link"][-10:]) == (1, 'rel="next"')
assert export_account.sync(client=client).additional_properties["pets"][-1]["name"] == "Tom"
assert show_pet.sync_detailed(10**9, client=client).status_code == 404
assert add_pet.sync_detailed(client=client, body=PetFields(name="")).status_code == 422
assert logout.sync_detailed(client=client, body=Logout()).status_code == 204
assert list_pets.sync_detailed(client=client).status_code == 401
