"""The loopback: five providers' protocols on one port, drawn with postcards, metered and billed as theirs."""

from chapter38.call.server.app import create_app, serve
from chapter38.call.server.local import loopback

__all__ = ["create_app", "loopback", "serve"]
