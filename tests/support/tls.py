"""A certificate authority and a server certificate of our own, made by the `openssl` command."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

MISSING = "the openssl command is missing: no certificates, so no HTTPS tests"


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority to trust, and a certificate for localhost and 127.0.0.1 with its key."""

    authority: Path
    certificate: Path
    key: Path

    def server_context(self, clients: Path | None = None) -> ssl.SSLContext:
        """For `Origin(tls=…)`; with `clients` it wants a certificate of this authority from everyone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
        return context

    @property
    def chain(self) -> str:
        """Certificate and key, as a client shows them."""
        return self.certificate.read_text() + self.key.read_text()

    def client_context(self) -> ssl.SSLContext:
        """Trusts our authority and nobody else."""
        return ssl.create_default_context(cafile=str(self.authority))


def have_openssl() -> bool:
    """Whether certificates can be made here."""
    return shutil.which("openssl") is not None


def make_certificates(
    directory: Path, names: str = "DNS:localhost,IP:127.0.0.1", days: int = 30, *, expired: bool = False
) -> Certificates:
    """Make an authority and a certificate for `names` in a directory. The authority's key is deleted.

    `expired`: the certificate, not the authority, was good until yesterday.
    """
    made = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    ca_key, request, extensions = directory / "ca.key", directory / "server.csr", directory / "extensions"
    extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
    new_key = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    _openssl(
        f"{new_key} -x509 -days {days} -subj /CN=fetchd-test-authority -keyout",
        ca_key,
        "-out",
        made.authority,
    )
    _openssl(f"{new_key} -subj /CN=fetchd-test-server -keyout", made.key, "-out", request)
    _openssl(
        f"x509 -req -days {-1 if expired else days} -CAcreateserial -in", request,
        "-CA", made.authority, "-CAkey", ca_key, "-extfile", extensions, "-out", made.certificate,
    )  # fmt: skip
    ca_key.unlink()
    return made


def encrypted(key: Path, password: str = "secret") -> str:
    """A key that needs a password, as PEM text."""
    target = key.with_suffix(".encrypted")
    _openssl(f"pkcs8 -topk8 -v2 aes256 -passout pass:{password} -in", key, "-out", target)
    return target.read_text()


def _openssl(command: str, *paths: Path | str) -> None:
    done = subprocess.run(
        ["openssl", *command.split(), *map(str, paths)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"openssl {command.split(maxsplit=1)[0]} failed: {done.stderr}")
