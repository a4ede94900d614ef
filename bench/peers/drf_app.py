"""Django REST framework with SimpleJWT, in one file: settings, models, views, routes.

The users are Django's own, in a database of its own, with as many users and pets as the others'.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY=os.environ["SECRET_KEY"],
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["BENCH_DATABASE"],
            "CONN_MAX_AGE": None,
        }
    },
    PASSWORD_HASHERS=["django.contrib.auth.hashers.BCryptSHA256PasswordHasher"],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [
            "rest_framework_simplejwt.authentication.JWTAuthentication"
        ],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    },
    SIMPLE_JWT={
        "SIGNING_KEY": os.environ["JWT_SECRET"],
        "ACCESS_TOKEN_LIFETIME": timedelta(hours=12),
    },
    USE_TZ=True,
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402 - Django wants its settings first
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.generics import ListAPIView  # noqa: E402
from rest_framework_simplejwt.views import TokenObtainPairView  # noqa: E402


class Pet(models.Model):
    """A pet."""

    class Meta:
        app_label = "bench"

    owner = models.ForeignKey(User, on_delete=models.CASCADE, db_index=True)
    name = models.CharField(max_length=100)
    species = models.CharField(max_length=100, null=True)


class PetSerializer(serializers.ModelSerializer):
    """A pet's two fields."""

    class Meta:
        model = Pet
        fields = ("name", "species")


class MyPets(ListAPIView):
    """The caller's pets."""

    serializer_class = PetSerializer

    def get_queryset(self) -> Any:
        """In id order."""
        return Pet.objects.filter(owner=self.request.user).order_by("id")


def fill(users: int, password_hash: str) -> None:
    """Make the tables, and users as the others have them."""
    from django.core.management import call_command  # noqa: PLC0415 - not needed to serve

    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Pet)
    made = User.objects.bulk_create(
        User(username=f"user{n}", password=f"bcrypt_sha256${password_hash}") for n in range(users)
    )
    Pet.objects.bulk_create(
        Pet(owner=user, name=name, species=species)
        for user in made
        for name, species in (("Bunny", "dog"), ("Ru", "cat"))
    )


urlpatterns = [
    path("auth", TokenObtainPairView.as_view()),
    path("my-pets", MyPets.as_view()),
]
app = get_wsgi_application()
