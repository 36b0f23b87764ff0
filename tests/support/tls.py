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

    def server_context(self) -> ssl.SSLContext:
        """For `Origin(tls=…)`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Trusts our authority and nobody else."""
        return ssl.create_default_context(cafile=str(self.authority))


def have_openssl() -> bool:
    """Whether certificates can be made here."""
    return shutil.which("openssl") is not None


def make_certificates(
    directory: Path, names: str = "DNS:localhost,IP:127.0.0.1", days: int = 30
) -> Certificates:
    """Make an authority and a certificate for `names` in a directory. The authority's key is deleted."""
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
        f"x509 -req -days {days} -CAcreateserial -in", request, "-CA", made.authority, "-CAkey", ca_key,
        "-extfile", extensions, "-out", made.certificate,
    )  # fmt: skip
    ca_key.unlink()
    return made


def _openssl(command: str, *paths: Path | str) -> None:
    done = subprocess.run(
        ["openssl", *command.split(), *map(str, paths)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"openssl {command.split(maxsplit=1)[0]} failed: {done.stderr}")
