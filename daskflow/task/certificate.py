"""TLS for one run: a certificate of its own, known to nobody else, gone with the process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

VALID = timedelta(days=365)


def run_security() -> Any:
    """A ``distributed.Security`` whose scheduler, workers and clients all bear one new P-256 certificate.

    Each side accepts only that certificate, so whoever lacks its key can neither connect nor answer.
    """
    from distributed.security import Security

    certificate, key = self_signed()
    sides = ("scheduler", "worker", "client")
    credentials = {f"tls_{side}_cert": certificate for side in sides} | {
        f"tls_{side}_key": key for side in sides
    }
    return Security(tls_ca_file=certificate, require_encryption=True, **credentials)


def self_signed(valid: timedelta = VALID) -> tuple[str, str]:
    """A new certificate that is valid for so long, and its key; both PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "daskflow run")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + valid)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )
