// dockerode: attach, exec, logs, archives, networks, volumes, events. Needs DOCKER_HOST and the image busybox.
const assert = require('node:assert');
const { after, test } = require('node:test');
const { PassThrough } = require('node:stream');
const Docker = require('dockerode');

const IMAGE = 'busybox:latest';
const docker = new Docker();
const made = [];

async function start(options) {
  const container = await docker.createContainer({ Image: IMAGE, Cmd: ['sleep', '1000'], ...options });
  made.push(container);
  await container.start();
  return container;
}

function collect(stream) {
  const chunks = [];
  return new Promise((resolve, reject) => {
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('end', () => resolve(Buffer.concat(chunks).toString()));
    stream.on('error', reject);
  });
}

function demultiplexed(stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on('end', () => { out.end(); err.end(); });
  return Promise.all([collect(out), collect(err)]);
}

after(async () => { for (const container of made) await container.remove({ force: true, v: true }); });

test('run gives output and exit code', async () => {
  const out = new PassThrough();
  const text = collect(out);
  const [result, container] = await docker.run(IMAGE, ['sh', '-c', 'echo hello; exit 3'], out);
  made.push(container);
  out.end();
  assert.strictEqual(await text, 'hello\r\n');
  assert.strictEqual(result.StatusCode, 3);
});

test('exec tells output and error apart', async () => {
  const container = await start({});
  const exec = await container.exec({ Cmd: ['sh', '-c', 'echo out; echo err >&2; exit 4'], AttachStdout: true, AttachStderr: true });
  assert.deepStrictEqual(await demultiplexed(await exec.start({})), ['out\n', 'err\n']);
  assert.strictEqual((await exec.inspect()).ExitCode, 4);
});

test('input reaches an attached container', async () => {
  const container = await docker.createContainer({ Image: IMAGE, Cmd: ['cat'], OpenStdin: true, StdinOnce: true, AttachStdin: true });
  made.push(container);
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  const texts = demultiplexed(stream);
  await container.start();
  stream.write('typed\n');
  stream.end();
  assert.deepStrictEqual(await texts, ['typed\n', '']);
});

test('logs are followed to their end', async () => {
  const container = await start({ Cmd: ['sh', '-c', 'for i in 1 2 3; do echo $i; sleep 0.1; done'] });
  const stream = await container.logs({ follow: true, stdout: true, stderr: true });
  assert.deepStrictEqual(await demultiplexed(stream), ['1\n2\n3\n', '']);
});

test('archives come out as tar', async () => {
  const container = await start({});
  const archive = await collect(await container.getArchive({ path: '/etc/passwd' }));
  assert.match(archive, /root:x:0:0/);
});

test('a network names its containers', async () => {
  const network = await docker.createNetwork({ Name: 'dockerode-net' });
  const server = await start({ name: 'dockerode-server', HostConfig: { NetworkMode: 'dockerode-net' } });
  const client = await start({ HostConfig: { NetworkMode: 'dockerode-net' } });
  const exec = await client.exec({ Cmd: ['ping', '-c', '1', '-W', '5', 'dockerode-server'], AttachStdout: true, AttachStderr: true });
  const [out] = await demultiplexed(await exec.start({}));
  assert.match(out, /1 packets received/);
  const inspected = await network.inspect();
  assert.ok(inspected.Containers[server.id]);
  for (const container of [server, client]) await network.disconnect({ Container: container.id, Force: true });
  await network.remove();
});

test('volumes, events and lists', async () => {
  await docker.createVolume({ Name: 'dockerode-volume', Labels: { k: 'v' } });
  const { Volumes } = await docker.listVolumes({ filters: { label: ['k=v'] } });
  assert.deepStrictEqual(Volumes.map((volume) => volume.Name), ['dockerode-volume']);
  await docker.getVolume('dockerode-volume').remove();
  const container = await start({ Labels: { case: 'lists' } });
  const listed = await docker.listContainers({ filters: { label: ['case=lists'] } });
  assert.deepStrictEqual(listed.map((one) => one.Id), [container.id]);
  await assert.rejects(docker.getContainer('no-such').inspect(), { statusCode: 404 });
});
