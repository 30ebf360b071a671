"""The cluster's certificates, laid out and named as kubeadm does."""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.cluster.ports import LOOPBACK

SERVICE_ADDRESS = "10.96.0.1"
"""The address of the Service ``default/kubernetes``."""

_VALID = datetime.timedelta(days=365)


@dataclass(frozen=True)
class KeyPair:
    """Files with a certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Names:
    """Who a certificate is for."""

    common_name: str
    organization: str | None = None
    hosts: tuple[str, ...] = ()


class Pki:
    """A certificate authority and what it has signed, in one folder; what is there already stays."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca = KeyPair(folder / "ca.crt", folder / "ca.key")
        self.service_accounts = KeyPair(folder / "sa.pub", folder / "sa.key")
        if not self.ca.certificate.exists():
            self._make_ca()
        if not self.service_accounts.certificate.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            public = key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            _write_key(self.service_accounts.key, key)
            _write(self.service_accounts.certificate, public)

    def server(self, name: str, hosts: Sequence[str]) -> KeyPair:
        """A certificate to serve with under the hosts, and to call others of the cluster with."""
        return self._signed(name, Names(name, None, (LOOPBACK, "localhost", *hosts)))

    def client(self, name: str, common_name: str, organization: str | None = None) -> KeyPair:
        """A certificate for a user of a group."""
        return self._signed(name, Names(common_name, organization))

    def _make_ca(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=True,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write_key(self.ca.key, key)
        _write(self.ca.certificate, certificate.public_bytes(serialization.Encoding.PEM))

    def _signed(self, name: str, names: Names) -> KeyPair:
        pair = KeyPair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        if pair.certificate.exists():
            return pair
        authority = x509.load_pem_x509_certificate(self.ca.certificate.read_bytes())
        signer = serialization.load_pem_private_key(self.ca.key.read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)  # noqa: S101 - we made it
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, names.common_name)]
        if names.organization:
            attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, names.organization))
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _builder(x509.Name(attributes), authority.subject, key.public_key()).add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        if names.hosts:
            usages.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
            alternatives = x509.SubjectAlternativeName([_alternative(host) for host in names.hosts])
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False).sign(signer, hashes.SHA256())
        _write_key(pair.key, key)
        _write(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        return pair


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _VALID)
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    # PKCS8 is what every program of the cluster reads, etcd too.
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(file, pem)


def _write(file: Path, content: bytes) -> None:
    # Whole or not at all: an interrupted start mustn't leave half a key behind.
    draft = file.with_suffix(file.suffix + ".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(content)
    draft.replace(file)
