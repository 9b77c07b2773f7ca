"""Certificates for TLS tests, made by openssl: an authority, whom it vouches for, a stranger."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

DAYS = "2"
SERVER_NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """A private authority and whom it vouches for.

    Attributes:
        authority: Signed ``server`` and ``client``.
        server: For 127.0.0.1 and localhost.
        elsewhere: A server's as well, for another host.
        client: Of a client.
        stranger: An authority that signed nothing.
    """

    authority: Path
    server: Identity
    elsewhere: Identity
    client: Identity
    stranger: Path


def make_certificates(folder: Path) -> Certificates:
    """Make them all; without openssl, skip on a laptop and fail in CI."""
    if shutil.which("openssl") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have openssl")
        pytest.skip("needs openssl")
    authority, stranger = _authority(folder, "authority"), _authority(folder, "stranger")
    return Certificates(
        authority=authority.certificate,
        server=_signed(folder, "server", authority, SERVER_NAMES),
        elsewhere=_signed(folder, "elsewhere", authority, "subjectAltName=DNS:elsewhere.example"),
        client=_signed(folder, "client", authority, "extendedKeyUsage=clientAuth"),
        stranger=stranger.certificate,
    )


def _authority(folder: Path, name: str) -> Identity:
    made = _identity(folder, name)
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", made.key, "-out", made.certificate, "-days", DAYS),
        *("-subj", f"/CN=Seedbed tests {name}", "-addext", "keyUsage=critical,keyCertSign"),
    )
    return made


def _signed(folder: Path, name: str, authority: Identity, extension: str) -> Identity:
    made, request = _identity(folder, name), folder / f"{name}.csr"
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", made.key, "-out", request, "-subj", f"/CN={name}"),
    )
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"{extension}\n")
    _openssl(
        *("x509", "-req", "-in", request, "-CA", authority.certificate, "-CAkey", authority.key),
        *("-CAcreateserial", "-days", DAYS, "-extfile", extensions, "-out", made.certificate),
    )
    return made


def _identity(folder: Path, name: str) -> Identity:
    return Identity(certificate=folder / f"{name}.pem", key=folder / f"{name}.key")


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
