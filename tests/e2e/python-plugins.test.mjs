// What authors of plugins in Python have before there is a component: types, decorators and the fake host.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { PYTHON } from '../support/python.mjs';
import { ROOT } from '../support/server.mjs';

test('the package of Python is as its own tests have it', () => {
  const env = { ...process.env, PYTHONPATH: join(ROOT, 'plugins/python'), PYTHONDONTWRITEBYTECODE: '1' };
  const tested = spawnSync(PYTHON, ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests/python'], { cwd: ROOT, env, encoding: 'utf8' });
  assert.equal(tested.status, 0, tested.stdout + tested.stderr);
});
