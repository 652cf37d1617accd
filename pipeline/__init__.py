"""Commands, configuration and reports: what connects the steps, names files and talks to the user."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("geocrack")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"
