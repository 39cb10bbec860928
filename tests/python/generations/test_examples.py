"""The examples in docs/interfaces run, as those pages say, and leave nothing.

A block of `sh` or `python` is run, in the page's order; a block of `text` is not. A script in Python that names
`thecad-2022.sock` wants the older generations' stubs, any other one today's.
"""

import re
import subprocess
import sys
import unittest
from pathlib import Path

from grpc import StatusCode

from host import BOOT, SOCKET, TODAY, shutdown
from theca_client import Client, eventually, expect, pb

#: In the test host, else in the tree.
PAGES = next(path for at in (2, 3) if (path := Path(__file__).resolve().parents[at] / "docs/interfaces").is_dir())
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What the examples call what they make.
IDS = ["hello", "pod"]


def blocks(page):
    """Language and text of each."""
    return BLOCK.findall(page.read_text())


def is_ours(language, text):
    return language == "python" and ("thecad-2022.sock" in text) is not TODAY


class Examples(unittest.TestCase):
    def setUp(self):
        # They name no namespace, or this one.
        self.theca = self.enterContext(Client(SOCKET, namespace="default"))

    def execute(self, language, text):
        command = {"sh": ["sh", "-euc", text], "python": [sys.executable, "-B", "-c", text]}[language]
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=2 * BOOT)
        self.assertEqual(ran.returncode, 0, f"{text}\nsaid:\n{ran.stdout}")
        return ran.stdout

    def nothing_is_left(self):
        for id in IDS:
            with expect(StatusCode.NOT_FOUND, id):
                self.theca.controller.Status(pb.sandbox.ControllerStatusRequest(sandbox_id=id))
        self.assertEqual(len(self.theca.tasks.List(pb.tasks.ListTasksRequest()).tasks), 0)
        self.assertEqual(len(self.theca.containers.List(pb.containers.ListContainersRequest()).containers), 0)
        self.assertEqual(len(self.theca.store.List(pb.sandbox.StoreListRequest()).list), 0)
        return True

    def clean_up(self):
        for id in IDS:
            shutdown(self.theca, id)

    def test_every_page_has_one_and_every_block_says_what_it_is(self):
        for page in PAGES.glob("*.md"):
            languages = [language for language, _ in blocks(page)]
            self.assertLessEqual(set(languages), {"python", "sh", "text"}, page.name)
            self.assertIn("sh" if page.name == "README.md" else "python", languages, page.name)

    def test_they_run_and_leave_nothing(self):
        for language, text in blocks(PAGES / "README.md"):
            if language == "sh":
                self.execute(language, text)
        pages = [page for page in sorted(PAGES.glob("*.md")) if any(is_ours(*block) for block in blocks(page))]
        self.assertTrue(pages)
        for page in pages:
            with self.subTest(page.name):
                self.addCleanup(self.clean_up)
                for language, text in blocks(page):
                    if language == "sh":
                        self.execute(language, text)
                    elif is_ours(language, text):
                        self.assertTrue(self.execute(language, text), "it tells what it has done")
                eventually(self.nothing_is_left)


if __name__ == "__main__":
    unittest.main()
