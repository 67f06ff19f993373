"""Testcontainers for Python with its generic container. Needs DOCKER_HOST and the image busybox; no reaper."""

import unittest
import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import wait_for_logs

SERVER = "sh -c 'echo page > /tmp/index.html; echo ready; exec httpd -f -p 8080 -h /tmp'"


class Generic(unittest.TestCase):
    """What every module of the library is made of."""

    def test_a_server_is_reached_at_its_mapped_port(self):
        with DockerContainer("busybox:latest").with_command(SERVER).with_exposed_ports(8080) as server:
            wait_for_logs(server, "ready", timeout=30)
            url = f"http://{server.get_container_host_ip()}:{server.get_exposed_port(8080)}/index.html"
            self.assertEqual(urllib.request.urlopen(url, timeout=10).read(), b"page\n")

    def test_environment_mounts_and_commands(self):
        container = DockerContainer("busybox:latest").with_command("sleep 1000").with_env("KEY", "value")
        with container.with_volume_mapping("/etc/hostname", "/mounted", "ro") as running:
            result = running.exec(["sh", "-c", "echo $KEY; test -s /mounted"])
            self.assertEqual((result.exit_code, result.output), (0, b"value\n"))

    def test_containers_of_one_network_meet(self):
        with Network() as network:
            server = DockerContainer("busybox:latest").with_command(SERVER).with_network(network).with_network_aliases("server")
            with server as running, DockerContainer("busybox:latest").with_command("sleep 1000").with_network(network) as client:
                wait_for_logs(running, "ready", timeout=30)
                result = client.exec(["wget", "-qO-", "http://server:8080/index.html"])
                self.assertEqual(result.output, b"page\n")


if __name__ == "__main__":
    unittest.main()
