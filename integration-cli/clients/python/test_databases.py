"""Testcontainers for Python with its modules for PostgreSQL and Redis. Needs DOCKER_HOST and images of both; no reaper."""

import os
import unittest

import pg8000.native
from testcontainers.postgres import PostgresContainer
from testcontainers.redis import RedisContainer


@unittest.skipUnless(os.environ.get("SHOAL_DATABASES"), "there are no images of databases")
class Databases(unittest.TestCase):
    """A module waits for its server, tells where it is, and takes it away."""

    def test_a_client_writes_to_postgresql_and_reads_again(self):
        with PostgresContainer("postgres:15", username="shoal", password="secret", dbname="fish") as server:
            connection = pg8000.native.Connection(
                "shoal",
                password="secret",
                database="fish",
                host=server.get_container_host_ip(),
                port=int(server.get_exposed_port(5432)),
            )
            connection.run("create table catch (name text)")
            connection.run("insert into catch values (:name)", name="herring")
            self.assertEqual(connection.run("select name from catch"), [["herring"]])
            connection.close()

    def test_a_client_writes_to_redis_and_reads_again(self):
        with RedisContainer("redis:7") as server:
            client = server.get_client(decode_responses=True)
            client.set("catch", "herring")
            self.assertEqual(client.get("catch"), "herring")
            client.close()

    def test_redis_wants_the_password_that_it_was_given(self):
        with RedisContainer("redis:7", password="secret") as server:
            self.assertTrue(server.get_client().ping())


if __name__ == "__main__":
    unittest.main()
