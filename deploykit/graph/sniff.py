"""Say what a file that is not what its name promises really is: the same words for every reader."""

from __future__ import annotations


def what_is(data: bytes) -> str | None:
    """A plain sentence for the first bytes of some well-known kinds of wrong file, or None.

    >>> what_is(b"<!DOCTYPE html><html>")
    'an HTML page (the server sent an error page, or the link was not the raw file)'
    """
    head = bytes(data[:512])
    if not head:
        return "an empty file"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page (the server sent an error page, or the link was not the raw file)"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (run `git lfs pull` to get the real file)"
    if head.startswith(b"\x1f\x8b"):
        return "a gzip file (unpack it with `gunzip` first)"
    if head.startswith(b"PK\x03\x04"):
        return "a zip file (unpack it first; a .keras file is a zip too)"
    if head[4:8] == b"DKIT":
        return "a .dk file"
    if head[4:8] == b"TFL3":
        return "a TFLite file"
    if head.startswith(b"\x89HDF\r\n"):
        return "an HDF5 file (.h5)"
    if head.startswith(b"\x80") and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle (never loaded: it could run any code)"
    if not any(head):
        return "a file that begins with zeros only"
    return None
