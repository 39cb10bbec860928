"""What an endpoint of thecad serves beside the generations: gRPC's health, and reflection."""

import unittest

from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from host import SOCKET, Case
from theca_client import Client, expect
from theca_client.reflection import OF_THE_ENDPOINT, services, tells_what_was_published

SERVING = health_pb2.HealthCheckResponse.SERVING


class Health(Case):
    def setUp(self):
        super().setUp()
        self.health = health_pb2_grpc.HealthStub(self.theca.channel)

    def test_the_endpoint_and_each_of_its_services_are_serving(self):
        for service in ["", *services(OF_THE_ENDPOINT)]:
            with self.subTest(service):
                self.assertEqual(self.health.Check(health_pb2.HealthCheckRequest(service=service)).status, SERVING)

    def test_whoever_watches_is_told_at_once(self):
        watch = self.health.Watch(health_pb2.HealthCheckRequest(service=""))
        self.assertEqual(next(watch).status, SERVING)
        watch.cancel()

    def test_a_service_that_is_none_is_not_found(self):
        for service in ["example.Nothing", "containerd.services.tasks.v1", "x" * 100_000]:
            with self.subTest(service[:40]), expect(StatusCode.NOT_FOUND):
                self.health.Check(health_pb2.HealthCheckRequest(service=service))

    def test_nobody_is_asked_for_a_namespace(self):
        with Client(SOCKET, namespace=None) as nameless:
            health = health_pb2_grpc.HealthStub(nameless.channel)
            self.assertEqual(health.Check(health_pb2.HealthCheckRequest()).status, SERVING)


class Reflection(Case):
    def test_it_tells_what_was_published(self):
        tells_what_was_published(self, self.theca.channel, OF_THE_ENDPOINT)


if __name__ == "__main__":
    unittest.main()
