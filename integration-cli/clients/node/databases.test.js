// Testcontainers for Node with its modules for PostgreSQL and Redis. Needs DOCKER_HOST and images of both; no reaper.
const assert = require('node:assert');
const { test } = require('node:test');
const { PostgreSqlContainer } = require('@testcontainers/postgresql');
const { RedisContainer } = require('@testcontainers/redis');
const { Client } = require('pg');

const options = { skip: process.env.SHOAL_DATABASES ? false : 'there are no images of databases' };

test('a client writes to PostgreSQL and reads again', options, async () => {
  const server = await new PostgreSqlContainer('postgres:15')
    .withUsername('shoal').withPassword('secret').withDatabase('fish').start();
  try {
    const client = new Client({ connectionString: server.getConnectionUri() });
    await client.connect();
    await client.query('create table catch (name text)');
    await client.query('insert into catch values ($1)', ['herring']);
    const { rows } = await client.query('select name from catch');
    assert.deepStrictEqual(rows, [{ name: 'herring' }]);
    await client.end();
  } finally {
    await server.stop();
  }
});

test('PostgreSQL goes back to a snapshot', options, async () => {
  const server = await new PostgreSqlContainer('postgres:15').withDatabase('fish').start();
  const ask = async (...query) => {
    const client = new Client({ connectionString: server.getConnectionUri() });
    await client.connect();
    const { rows } = await client.query(...query);
    await client.end();
    return rows;
  };
  try {
    await ask('create table catch (name text)');
    await server.snapshot();
    await ask('insert into catch values ($1)', ['herring']);
    await server.restoreSnapshot();
    assert.deepStrictEqual(await ask('select name from catch'), []);
  } finally {
    await server.stop();
  }
});

test('Redis answers its own client', options, async () => {
  const server = await new RedisContainer('redis:7').start();
  try {
    assert.strictEqual((await server.executeCliCmd('set', ['catch', 'herring'])).trim(), 'OK');
    assert.strictEqual((await server.executeCliCmd('get', ['catch'])).trim(), 'herring');
    assert.match(server.getConnectionUrl(), /^redis:\/\/.+:\d+$/);
  } finally {
    await server.stop();
  }
});
