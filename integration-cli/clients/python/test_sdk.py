"""The Python SDK over its whole surface of one node. Start reading at Sdk; needs DOCKER_HOST and the image busybox."""

import io
import tarfile
import time
import unittest

import docker

IMAGE = "busybox:latest"


def tar_of(name, content):
    """An archive with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Sdk(unittest.TestCase):
    """Every case makes what it needs and removes it."""

    def setUp(self):
        self.client = docker.from_env()
        self.addCleanup(self.client.close)

    def run_in_background(self, command="sleep 1000", **options):
        container = self.client.containers.run(IMAGE, command, detach=True, **options)
        self.addCleanup(container.remove, force=True, v=True)
        return container

    def test_output_and_exit_code_of_a_run(self):
        self.assertEqual(self.client.containers.run(IMAGE, "echo hello", remove=True), b"hello\n")
        with self.assertRaises(docker.errors.ContainerError) as raised:
            self.client.containers.run(IMAGE, "sh -c 'exit 3'", remove=True)
        self.assertEqual(raised.exception.exit_status, 3)

    def test_no_output_of_a_command_is_lost(self):
        container = self.run_in_background()
        for _ in range(20):
            result = container.exec_run("echo hello")
            self.assertEqual((result.exit_code, result.output), (0, b"hello\n"))

    def test_streams_of_a_command_are_told_apart(self):
        container = self.run_in_background()
        result = container.exec_run("sh -c 'echo out; echo err >&2; exit 4'", demux=True)
        self.assertEqual((result.exit_code, result.output), (4, (b"out\n", b"err\n")))

    def test_a_command_with_terminal_user_directory_and_environment(self):
        container = self.run_in_background()
        result = container.exec_run(
            ["sh", "-c", "id -u; pwd; echo $A; tty"], tty=True, user="1000", workdir="/tmp", environment={"A": "b"}
        )
        self.assertEqual(result.output, b"1000\r\n/tmp\r\nb\r\n/dev/pts/0\r\n")

    def test_a_missing_program_is_told(self):
        result = self.run_in_background().exec_run("no-such-program")
        self.assertEqual(result.exit_code, 127)
        self.assertIn(b"no-such-program", result.output)

    def test_logs_with_times_and_tail(self):
        container = self.run_in_background("sh -c 'for i in 1 2 3; do echo line $i; done'")
        container.wait()
        self.assertEqual(container.logs(tail=2), b"line 2\nline 3\n")
        self.assertRegex(container.logs(timestamps=True, tail=1), rb"^20\d\d-.*Z line 3\n$")
        self.assertEqual(list(container.logs(stream=True, follow=True)), [b"line 1\n", b"line 2\n", b"line 3\n"])

    def test_archives_go_in_and_come_out(self):
        container = self.run_in_background()
        self.assertTrue(container.put_archive("/tmp", tar_of("f", b"content")))
        chunks, stat = container.get_archive("/tmp/f")
        self.assertEqual((stat["name"], stat["size"]), ("f", 7))
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            self.assertEqual(archive.extractfile("f").read(), b"content")
        with self.assertRaises(docker.errors.NotFound):
            container.get_archive("/no/such/file")

    def test_a_wait_ends_although_the_policy_restarts(self):
        container = self.run_in_background("sh -c 'exit 5'", restart_policy={"Name": "on-failure", "MaximumRetryCount": 1})
        self.assertEqual(container.wait(timeout=30)["StatusCode"], 5)

    def test_life_of_a_container(self):
        container = self.run_in_background(name="sdk-life", labels={"a": "b"})
        states = []
        for step in (container.pause, container.unpause, lambda: container.restart(timeout=0), lambda: container.stop(timeout=0)):
            step()
            container.reload()
            states.append(container.status)
        self.assertEqual(states, ["paused", "running", "running", "exited"])
        container.rename("sdk-renamed")
        self.assertEqual([c.id for c in self.client.containers.list(all=True, filters={"label": "a=b"})], [container.id])
        self.assertEqual(self.client.containers.get("sdk-renamed").id, container.id)

    def test_limits_can_be_changed_and_are_counted(self):
        container = self.run_in_background(mem_limit="64m", pids_limit=50)
        container.update(mem_limit="96m", memswap_limit="96m")
        container.reload()
        self.assertEqual(container.attrs["HostConfig"]["Memory"], 96 << 20)
        stats = container.stats(stream=False)
        self.assertEqual(stats["memory_stats"]["limit"], 96 << 20)
        self.assertEqual(stats["pids_stats"]["current"], 1)
        self.assertIn(["sleep", "1000"], [row[-1].split() for row in container.top()["Processes"]])

    def test_changes_become_an_image_that_survives_an_archive(self):
        container = self.run_in_background("touch /made")
        container.wait()
        self.assertIn({"Path": "/made", "Kind": 1}, container.diff())
        image = container.commit("sdk/made", "v1", changes=["ENV PATH=/x:$PATH"])
        self.assertIn("PATH=/x:/", " ".join(image.attrs["Config"]["Env"]))
        archive = b"".join(image.save(named=True))
        self.client.images.remove("sdk/made:v1")
        self.client.images.load(archive)
        self.addCleanup(self.client.images.remove, "sdk/made:v1")
        self.assertEqual(self.client.containers.run("sdk/made:v1", "/bin/ls /made", remove=True), b"/made\n")

    def test_images_are_tagged_inspected_and_removed(self):
        image = self.client.images.get(IMAGE)
        self.assertTrue(image.tag("sdk/tagged", "x"))
        self.assertIn("sdk/tagged:x", self.client.images.get(image.id).tags)
        self.client.images.remove("sdk/tagged:x")
        with self.assertRaises(docker.errors.ImageNotFound):
            self.client.images.get("sdk/tagged:x")
        self.assertTrue(image.history())

    def test_containers_of_a_network_know_each_other_by_name(self):
        network = self.client.networks.create("sdk-net", driver="bridge")
        self.addCleanup(network.remove)
        self.run_in_background("httpd -f -p 80 -h /etc", name="sdk-server", network="sdk-net")
        output = self.client.containers.run(IMAGE, "wget -qO- http://sdk-server/hostname", network="sdk-net", remove=True)
        self.assertRegex(output, rb"^[0-9a-f]{12}\n$")
        network.reload()
        self.assertEqual([c.name for c in network.containers], ["sdk-server"])
        other = self.run_in_background()
        network.connect(other, aliases=["x"])
        network.disconnect(other)

    def test_a_wished_hardware_address_is_shown_before_the_start(self):
        network = self.client.networks.create("sdk-mac")
        self.addCleanup(network.remove)
        container = self.client.containers.create(IMAGE, "true")
        self.addCleanup(container.remove, force=True)
        self.client.api.connect_container_to_network(container.id, network.id, mac_address="02:42:ac:11:00:02")
        container.reload()
        self.assertEqual(container.attrs["NetworkSettings"]["Networks"]["sdk-mac"]["MacAddress"], "02:42:ac:11:00:02")

    def test_volumes_keep_what_containers_write(self):
        volume = self.client.volumes.create("sdk-volume", labels={"k": "v"})
        self.addCleanup(volume.remove)
        mounts = {"sdk-volume": {"bind": "/data", "mode": "rw"}}
        self.client.containers.run(IMAGE, "sh -c 'echo kept > /data/f'", volumes=mounts, remove=True)
        self.assertEqual(self.client.containers.run(IMAGE, "cat /data/f", volumes=mounts, remove=True), b"kept\n")
        self.assertEqual([v.name for v in self.client.volumes.list(filters={"label": "k=v"})], ["sdk-volume"])

    def test_events_tell_what_happened(self):
        container = self.run_in_background("true")
        container.wait()
        start = container.attrs["Created"]
        self.assertTrue(start)
        events = self.client.events(filters={"container": container.id}, since=0, until=int(time.time()) + 1, decode=True)
        actions = [event["Action"] for event in events if event["Type"] == "container"]
        self.assertEqual(actions[:3], ["create", "start", "die"])

    def test_the_daemon_tells_of_itself(self):
        self.assertTrue(self.client.ping())
        self.assertEqual(self.client.info()["OSType"], "linux")
        self.assertGreaterEqual(float(self.client.version()["ApiVersion"]), 1.44)
        self.assertIn("Volumes", self.client.df())


if __name__ == "__main__":
    unittest.main()
