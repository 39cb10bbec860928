"""The Rust side of these tests: examples of our crates, built when they are first asked for."""

import json
import shutil
import subprocess
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]

#: For tests that start a program.
needed = unittest.skipUnless(shutil.which("cargo"), "the Rust side is built with cargo, which is not here")


def start(example, *arguments, package="theca-proto", features="", **pipes):
    """Starts an example of `package`. Its caller ends it."""
    build = ["cargo", "build", "--quiet", "--message-format=json", "--package", package, "--features", features]
    built = subprocess.run([*build, "--example", example], cwd=REPOSITORY, check=True, text=True, stdout=subprocess.PIPE)
    messages = map(json.loads, built.stdout.splitlines())
    program = next(one["executable"] for one in messages if one.get("target", {}).get("name") == example)
    return subprocess.Popen([program, *map(str, arguments)], **pipes)
