"""What the cloud refuses, flat: one base, one level of classes, each with a code, an HTTP status and a next step.

The HTTP layer turns them into RFC 9457 problems, the command line into `error: <cause>; <next step>` and exit status 1.
"""

from __future__ import annotations

from typing import ClassVar


class EdgewiseError(Exception):
    """A refusal a person can act on.

    `cause` says what is wrong, `next_step` what to do about it; `code` is stable and meant for programs.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, cause: str, next_step: str = "") -> None:
        super().__init__(cause, next_step)
        self.cause = cause
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.cause}; {self.next_step}" if self.next_step else self.cause


class BadRequest(EdgewiseError):
    """What was sent cannot be understood."""

    code = "bad-request"
    status = 400


class NotAllowed(EdgewiseError):
    """The caller did not show the admin token."""

    code = "not-allowed"
    status = 401


class NotFound(EdgewiseError):
    """A device, model, artifact or frame of that name does not exist."""

    code = "not-found"
    status = 404


class Conflict(EdgewiseError):
    """The thing exists already, or changed meanwhile."""

    code = "conflict"
    status = 409


class BadArtifact(EdgewiseError):
    """An artifact whose format, digest or signature does not hold."""

    code = "bad-artifact"
    status = 422


class BlobMissing(EdgewiseError):
    """No blob of that digest is stored."""

    code = "blob-missing"
    status = 404


class BlobCorrupt(EdgewiseError):
    """A stored blob no longer has the digest it is named by."""

    code = "blob-corrupt"
    status = 500


class BadSettings(EdgewiseError):
    """A setting, environment variable or data folder that cannot be used."""

    code = "bad-settings"
    status = 500


class Unavailable(EdgewiseError):
    """A part this one needs (broker, ingest, store, server) does not answer."""

    code = "unavailable"
    status = 503
