// Runs the handlers in Node: npm install, then npm test, in the folder above. The cases in {{name}}.test.toml need no Node.
import assert from "node:assert/strict";
import { test } from "node:test";
import { pass } from "mixlab";
import { host } from "mixlab/test";
import plugin from "./{{file}}";

test("spam goes no further, and all else does", async () => {
    const filter = host(plugin);
    assert.equal(await filter.filter("echo", "hi"), pass);
    await assert.rejects(filter.filter("echo", "spam"), { code: "not_welcome" });
});
