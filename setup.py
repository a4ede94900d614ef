"""Put the schemas and seed.sql, which are at the top of a checkout, into the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SQL = ("schema.sql", "schema.postgresql.sql", "seed.sql")


class BuildWithSQL(build_py):
    """Copies the files beside the modules that read them."""

    def run(self) -> None:
        """Build the package, then add the files."""
        super().run()
        if not self.editable_mode:
            for name in SQL:
                self.copy_file(name, str(Path(self.build_lib) / "jwt_server" / name))


setup(cmdclass={"build_py": BuildWithSQL})
