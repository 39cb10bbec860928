"""Refusals: the code is a promise, and the text is a sentence for whoever reads it."""

import contextlib

import grpc


class Refusal:
    """What `expect` caught."""

    code = None
    text = None


@contextlib.contextmanager
def expect(code, *words):
    """The calls inside are refused with `code` and a sentence that contains all of `words`.

    A stream is refused when it is read, so read it inside.
    """
    refusal = Refusal()
    try:
        yield refusal
    except grpc.RpcError as error:
        refusal.code, refusal.text = error.code(), error.details()
    else:
        raise AssertionError(f"expected {code.name}, and the call was answered")
    if refusal.code is not code:
        raise AssertionError(f"expected {code.name}, got {refusal.code.name}: {refusal.text}")
    if " " not in refusal.text.strip():
        raise AssertionError(f"{code.name} came with {refusal.text!r}, which is no sentence")
    absent = [word for word in words if word not in refusal.text]
    if absent:
        raise AssertionError(f"{code.name} came with {refusal.text!r}, without {absent}")
