"""thecad's figures for Prometheus, at a loopback port: of calls, of sandboxes, and of the containers in them."""

import http.client
import os
import re
import unittest

from host import WithSandbox, once, remove
from theca_client import eventually, pb

load_tests = once

#: Where the thecad under test was told to serve them.
ADDRESS = os.environ.get("THECAD_METRICS", "127.0.0.1:9464")
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def ask(path, method="GET"):
    """Status, type and text of an answer."""
    connection = http.client.HTTPConnection(ADDRESS, timeout=60)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("content-type"), answer.read().decode()
    finally:
        connection.close()


class Figures:
    """One scrape."""

    def __init__(self):
        self.status, self.type, self.text = ask("/metrics")
        self._all = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                name, labels, value = SAMPLE.match(line).groups()
                self._all.append((name, dict(LABEL.findall(labels or "")), float(value)))

    def names(self):
        return {name for name, _, _ in self._all}

    def of(self, **labels):
        """Name to value of each figure that has these labels."""
        return {name: value for name, own, value in self._all if labels.items() <= own.items()}


class Metrics(WithSandbox):
    def running(self):
        id = self.name()
        create = pb.execution.CreateContainerRequest(id=id, bundle_path=self.bundle("sh", "-c", "while :; do :; done"))
        self.theca.execution.CreateContainer(create)
        self.theca.execution.StartContainer(pb.execution.StartContainerRequest(id=id))
        return id

    def test_a_container_that_runs_is_measured_until_it_is_deleted(self):
        id = self.running()
        here = {"namespace": "tests", "sandbox": self.sandbox, "container": id}
        first = eventually(lambda: Figures().of(**here))
        expected = {"theca_container_cpu_seconds_total", "theca_container_memory_bytes", "theca_container_pids"}
        self.assertEqual(set(first), expected)
        self.assertGreater(first["theca_container_memory_bytes"], 0)
        self.assertEqual(first["theca_container_pids"], 1)
        spent = lambda: Figures().of(**here)["theca_container_cpu_seconds_total"]
        eventually(lambda: spent() > first["theca_container_cpu_seconds_total"])
        remove(self.theca, id)
        self.assertEqual(Figures().of(container=id), {})

    def test_a_sandbox_is_measured_and_its_containers_counted(self):
        self.running()
        here = Figures().of(namespace="tests", sandbox=self.sandbox)
        self.assertEqual((here["theca_sandbox_state"], here["theca_sandbox_containers"]), (1, 1))
        self.assertEqual((here["theca_sandbox_vcpus"], here["theca_sandbox_memory_bytes"]), (1, 256 << 20))
        for name in ["vmm_resident_bytes", "vmm_cpu_seconds_total", "guest_used_bytes"]:
            self.assertGreater(here[f"theca_sandbox_{name}"], 0, name)
        self.assertIn("theca_sandbox_state", Figures().of(sandbox=self.sandbox, state="ready"))

    def test_calls_are_counted_by_their_code(self):
        get = {"endpoint": "today", "grpc_service": "containerd.services.tasks.v1.Tasks", "grpc_method": "Get"}
        ended = lambda: Figures().of(**get, grpc_code="NotFound").get("grpc_server_handled_total", 0)
        before = ended()
        for _ in range(3):
            with self.assertRaises(Exception):
                self.theca.tasks.Get(pb.tasks.GetTaskRequest(container_id="nobody"))
        eventually(lambda: ended() == before + 3)

    def test_each_figure_says_what_it_is(self):
        figures = Figures()
        self.assertEqual((figures.status, figures.type.split(";")[0]), (200, "text/plain"))
        self.assertLessEqual({"theca_build_info", "process_resident_memory_bytes"}, figures.names())
        for name in figures.names():
            family = re.sub("_(bucket|sum|count)$", "", name)
            with self.subTest(name):
                self.assertRegex(figures.text, f"(?m)^# HELP {family} .+")
                self.assertRegex(figures.text, f"(?m)^# TYPE {family} (counter|gauge|histogram)$")

    def test_nothing_else_is_there(self):
        for path in ["/", "/metrics/", "/metrics/x", "/etc/passwd", "/../metrics"]:
            with self.subTest(path):
                self.assertEqual(ask(path)[0], 404)
        for method in ["POST", "DELETE"]:
            with self.subTest(method):
                self.assertEqual(ask("/metrics", method)[0], 405)


if __name__ == "__main__":
    unittest.main()
