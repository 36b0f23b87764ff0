"""From what a caller writes to the `NewJob` that is sent, and lists of them cut into messages.

Checks only what must be settled on this side of the socket (this process's directory, umask and text
encoding, and the shape of the message); whether a URL or a name is acceptable is the daemon's to say.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack

from msgspec.structs import replace

from fetchd.protocol import codec, urls
from fetchd.protocol.control import NewJob
from fetchd.protocol.errors import Code, FetchdError
from fetchd.protocol.ids import is_correlation_id, new_correlation_id
from fetchd.protocol.job import Cleanup, JobSpec, Policy

from . import local
from .local import File

ROOM = codec.MAX_MESSAGE - 4096
"""Bytes of jobs put into one message; the rest is for what surrounds them."""


class JobOptions(TypedDict, total=False):
    """How a download is wanted; what is left out, or None, is as by default or as the daemon is configured.

    Times are in seconds, sizes in bytes, rates in bytes a second.

    - `directory` (by default the current one; over TCP the daemon's root for this key), `name` (by default
      from the response), `if_exists`.
    - `id`: the job's correlation ID, by default a fresh one. `priority` −100 to 100, the higher first.
      `labels` are the caller's own data.
    - `checksum`: ALGORITHM:HEX, or ALGORITHM:@URL for a list as sha256sum(1) writes it.
    - `mirrors`: other URLs of the same file. `segments`: connections for one file, 0 leaves it to the daemon.
    - `limit_rate`, `max_size`; an attempt slower than `min_speed` for `min_speed_time` ends; `deadline`
      counts from the submit; `connect_timeout`, `read_timeout`; `retries` after failures that may pass.
    - `credentials` (user, password) or `bearer` (a token) or `netrc` (True or a file): for the URL's origin.
      A netrc file is asked only where nothing else gives credentials.
    - `headers`, `user_agent`; `cookie_file` in the Netscape format, expired ones are left out.
    - `proxy`: a URL; None is the environment's (`https_proxy` and the like; over TCP none), "" is none.
    - `client_certificate` (with its key) and `ca` (trusted instead of the daemon's): PEM files. `insecure`:
      check no certificate. `downgrade`: follow redirects from https to http.
    - `if_newer`: fetch only what is newer than the file under the name. `keep_time`: give the file the
      server's modification time (True by default).
    - `umask` for the file's mode, by default this process's. `keep_partial` says whether the bytes of a
      failed download are kept for a retry (else they are where it could resume); `cleanup` says it for
      success too.
    """

    directory: File | None
    name: str | None
    if_exists: Policy | None
    id: str | None
    priority: int | None
    labels: Mapping[str, str] | None
    checksum: str | None
    mirrors: Iterable[str] | None
    segments: int | None
    limit_rate: int | None
    max_size: int | None
    min_speed: int | None
    min_speed_time: float | None
    deadline: float | None
    connect_timeout: float | None
    read_timeout: float | None
    retries: int | None
    credentials: tuple[str, str] | None
    bearer: str | None
    netrc: bool | File | None
    headers: Mapping[str, str] | None
    user_agent: str | None
    cookie_file: File | None
    proxy: str | None
    client_certificate: File | None
    ca: File | None
    insecure: bool | None
    downgrade: bool | None
    if_newer: bool | None
    keep_time: bool | None
    umask: int | None
    keep_partial: bool | None
    cleanup: Cleanup | None


def new_job(url: str, *, elsewhere: bool = False, **options: Unpack[JobOptions]) -> NewJob:
    """One job to submit: what was asked for, and what this machine adds to it.

    `elsewhere`: the daemon is on another machine, to which this one's directories and proxies mean nothing.

    Raises FetchdError `invalid_id`, `invalid_url`, `invalid_directory`, `invalid_cookies` or `bad_request`,
    and TypeError for an option that there is not.
    """
    if unknown := options.keys() - JobOptions.__annotations__.keys():
        raise TypeError(f"no such option of a download: {', '.join(sorted(unknown))}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    job_id = given.pop("id", None)
    if job_id is None:
        job_id = new_correlation_id()
    elif not is_correlation_id(job_id):
        raise FetchdError(Code.INVALID_ID, f"{job_id!r} is not 1 to 64 of A-Z a-z 0-9 _ -")
    directory = given.get("directory")
    given["directory"] = foreign(directory) if elsewhere else absolute(directory)
    given["umask"] = current_umask() if "umask" not in given else given["umask"]
    given["cleanup"] = cleaning(given.get("cleanup"), given.pop("keep_partial", None))
    given["labels"] = dict(given.get("labels", {}))
    given["mirrors"] = list(given.get("mirrors", ()))
    for one, what in ((url, "the URL"), *((mirror, "the URL of a mirror") for mirror in given["mirrors"])):
        if not one:
            raise FetchdError(Code.INVALID_URL, f"{what} is empty")
    _authorise(url, given)
    _read_files(given)
    proxy = given.pop("proxy", None)
    if proxy is None and not elsewhere:
        proxy = local.proxy_of(url)
    elif proxy:
        proxy = local.proxy_url(proxy)
    if proxy:
        given["proxy"] = proxy
    job = NewJob(id=job_id, spec=JobSpec(url=url, **given))
    # msgspec does not check what a constructor is given; the daemon would refuse the whole message.
    return codec.decode(codec.encode(job), NewJob)


def name_url(error: FetchdError, jobs: Iterable[NewJob]) -> None:
    """Note the URL of a refused job in `details["url"]`: its fresh ID says nothing to who wrote the URL."""
    for job in jobs:
        if job.id == error.details.get("job"):
            error.details["url"] = _shown(job.spec.url)


def _shown(url: str) -> str:
    try:
        return urls.redact(url)
    except FetchdError:  # no proper URL; a password may be in it all the same
        return url.partition("#")[0].partition("?")[0].rpartition("@")[2]


def _authorise(url: str, given: dict[str, Any]) -> None:
    """Credentials from where they were said to come from, in `headers` or `credentials`."""
    headers = given["headers"] = dict(given.get("headers", {}))
    bearer, netrc = given.pop("bearer", None), given.pop("netrc", False)
    ready = "credentials" in given or any(name.lower() == "authorization" for name in headers)
    if bearer is not None:
        if not bearer:
            raise FetchdError(Code.BAD_REQUEST, "the bearer token is empty")
        if ready:
            raise FetchdError(
                Code.BAD_REQUEST, "give credentials, a bearer token or the header Authorization, one of them"
            )
        headers["Authorization"] = f"Bearer {bearer}"
    elif netrc is not False and not ready and "@" not in url.partition("://")[2].partition("/")[0]:
        pair = local.credentials_of(netrc, url)
        if pair is not None:
            given["credentials"] = pair


def _read_files(given: dict[str, Any]) -> None:
    if (file := given.pop("cookie_file", None)) is not None:
        given["cookies"] = local.cookies_of(file)
    for name, what in (("client_certificate", "client certificate"), ("ca", "certificates of authorities")):
        if name in given:
            given[name] = local.text_of(given[name], what)


def cleaning(cleanup: Cleanup | None, keep_partial: bool | None) -> Cleanup:
    """When the workspace is deleted; `keep_partial` is the short way to say what becomes of it on failure."""
    chosen = cleanup or Cleanup()
    if keep_partial is None:
        return chosen
    if chosen.failure is not None:
        raise ValueError("give keep_partial or cleanup.failure, not both")
    return replace(chosen, failure=not keep_partial)


def absolute(directory: File | None) -> str:
    """An absolute path, as the daemon wants it; what the user wrote is kept unless it has `..` in it."""
    path = Path.cwd() / Path(directory or ".").expanduser()
    if ".." in path.parts:
        path = path.resolve()  # lexically removing `..` is wrong behind a symbolic link
    return _utf8(str(path))


def foreign(directory: File | None) -> str:
    """A directory of the daemon's machine as it was written: absolute, or below the daemon's root."""
    text = os.fspath(directory or ".")
    if text == "~" or text.startswith("~/"):
        raise FetchdError(
            Code.INVALID_DIRECTORY, f"{text}: over TCP, give the whole path on the daemon's machine"
        )
    return _utf8(text)


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FetchdError(Code.INVALID_DIRECTORY, f"{text!r} is not valid UTF-8") from None
    return text


def current_umask() -> int:
    """This process's umask, read without changing it: os.umask() would set it for all threads meanwhile."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    mask = os.umask(0o077)  # no such line before Linux 4.7, or no /proc
    os.umask(mask)
    return mask


def batches(jobs: Iterable[NewJob]) -> Iterator[list[NewJob]]:
    """Cut into lists that fit one message each: at most 1,000 jobs and 1 MiB."""
    batch: list[NewJob] = []
    size = 0
    for job in jobs:
        length = len(codec.encode(job))
        if batch and (len(batch) >= codec.MAX_ITEMS or size + length > ROOM):
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += length
    if batch:
        yield batch
