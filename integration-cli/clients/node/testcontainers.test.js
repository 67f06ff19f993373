// Testcontainers for Node with its generic container. Needs DOCKER_HOST and the image busybox; no reaper.
const assert = require('node:assert');
const { test } = require('node:test');
const { GenericContainer, Network, Wait } = require('testcontainers');

const SERVER = ['sh', '-c', 'echo page > /tmp/index.html; echo ready; exec httpd -f -p 8080 -h /tmp'];

test('a server is reached at its mapped port', async () => {
  const server = await new GenericContainer('busybox:latest')
    .withCommand(SERVER).withExposedPorts(8080).withWaitStrategy(Wait.forLogMessage('ready')).start();
  try {
    const reply = await fetch(`http://${server.getHost()}:${server.getMappedPort(8080)}/index.html`);
    assert.strictEqual(await reply.text(), 'page\n');
  } finally {
    await server.stop();
  }
});

test('files, environment and commands', async () => {
  const container = await new GenericContainer('busybox:latest').withCommand(['sleep', '1000'])
    .withEnvironment({ KEY: 'value' }).withCopyContentToContainer([{ content: 'copied', target: '/tmp/f' }]).start();
  try {
    const { output, exitCode } = await container.exec(['sh', '-c', 'echo $KEY; cat /tmp/f']);
    assert.deepStrictEqual([output, exitCode], ['value\ncopied', 0]);
  } finally {
    await container.stop();
  }
});

test('containers of one network meet', async () => {
  const network = await new Network().start();
  const server = await new GenericContainer('busybox:latest').withCommand(SERVER).withNetwork(network)
    .withNetworkAliases('server').withWaitStrategy(Wait.forLogMessage('ready')).start();
  const client = await new GenericContainer('busybox:latest').withCommand(['sleep', '1000']).withNetwork(network).start();
  try {
    const { output } = await client.exec(['wget', '-qO-', 'http://server:8080/index.html']);
    assert.strictEqual(output, 'page\n');
  } finally {
    await client.stop();
    await server.stop();
    await network.stop();
  }
});
