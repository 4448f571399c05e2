"""Validates messages against kiln.cddl with zcbor, which shares no code with Kiln.

Usage: validate_cddl.py kiln.cddl < cases
Each line of the input is the name of a rule and a message in hexadecimal. For each, a line of output says "valid", or
"refused: " and why. What is valid is also in the deterministic encoding, as cbor2 makes it.
"""

import sys

import cbor2
from zcbor import CddlValidationError, DataTranslator


class Translator(DataTranslator):
    """zcbor 0.9.1 lets the StopIteration escape with which a repetition of tagged items ends."""

    def _decode_obj(self, it):
        try:
            return super()._decode_obj(it)
        except StopIteration:
            raise CddlValidationError("too few items")


class NotDeterministic(Exception):
    """There is another encoding of the same data."""


def rules(path, names):
    with open(path) as file:
        text = file.read()
    parsed = Translator.from_cddl(text, 16)
    missing = [name for name in names if name not in parsed.my_types]
    if missing:
        sys.exit(f"no such rules: {missing}")
    return parsed.my_types


def validate(rule, message):
    if cbor2.dumps(cbor2.loads(message), canonical=True) != message:
        raise NotDeterministic("not in the deterministic encoding")
    rule.validate_str(message)


def main(path):
    cases = [line.split() for line in sys.stdin]
    cases = [(case[0], case[1] if len(case) > 1 else "") for case in cases]
    types = rules(path, {name for name, _ in cases})
    for name, message in cases:
        try:
            validate(types[name], bytes.fromhex(message))
            print("valid")
        # Whatever the libraries raise for nonsense is a refusal.
        except Exception as refusal:
            print("refused:", " ".join(f"{type(refusal).__name__}: {refusal}".split())[:200])


if __name__ == "__main__":
    main(*sys.argv[1:])
