"""JSON read strictly, multipart bodies, the envelope of an answer."""

import dataclasses
import email.parser
import email.policy
import json
import uuid

from . import schemas


class ApiError(Exception):
    """What becomes an answer other than 200; careless says that a correct client never meets it."""

    def __init__(self, code, subcode, message, careless=False, **data):
        super().__init__(message)
        self.code, self.subcode, self.message, self.careless, self.data = code, subcode, message, careless, data


@dataclasses.dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict = dataclasses.field(default_factory=dict)


def envelope(endpoint, data=None, code=200, subcode=0, message="OK", error_data=None):
    """The answer of the API, good or bad."""
    meta = {
        "id": uuid.uuid4().hex, "trx": uuid.uuid4().hex,
        "endpoint": {"name": endpoint, "requested_version": schemas.VERSION, "actual_version": "1.0"},
        "result_code": code, "result_subcode": subcode, "result_msg": message, "error_stack": None,
        "error_data": error_data or {},
    }
    return Answer(code, json.dumps({"meta": meta, "data": data or {}}, ensure_ascii=False).encode())


def read_json(text):
    """(value, what is wrong with it though Python can read it). Raises ValueError."""
    wrong = []

    def pairs(items):
        value = dict(items)
        if len(value) < len(items):
            keys = [key for key, _ in items]
            wrong.append(f"duplicate JSON key {next(key for key in keys if keys.count(key) > 1)!r}")
        return value

    def constant(word):
        wrong.append(f"{word} is not JSON")
        return None

    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant), wrong


@dataclasses.dataclass
class Part:
    name: str
    filename: str | None
    data: bytes


def read_multipart(content_type, body):
    """The parts of a multipart/form-data body. Raises ValueError."""
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n",
                                       policy=email.policy.HTTP)
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/form-data" or not boundary:
        raise ValueError(f"Content-Type {content_type!r} is not multipart/form-data with a boundary")
    mark = b"\r\n--" + boundary.encode()
    pieces = (b"\r\n" + body).split(mark)
    if len(pieces) < 2 or pieces[-1].strip() != b"--":
        raise ValueError("the multipart body does not end with its boundary")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece):
    head, blank, data = piece.partition(b"\r\n\r\n")
    if not blank:
        raise ValueError("a part without a blank line after its headers")
    headers = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(head.lstrip(b"\r\n") + b"\r\n\r\n")
    name = headers.get_param("name", header="Content-Disposition")
    filename = headers.get_param("filename", header="Content-Disposition")
    if not isinstance(name, str):
        raise ValueError(f"a part without a name: {head!r}")
    return Part(_text(name), None if filename is None else _text(filename), data)


def _text(word):
    """A header's word, which is UTF-8 whatever the parser takes it for."""
    return str(word).encode("ascii", "surrogateescape").decode()
