// Runs the handlers in Node: npm install, then npm test, in the folder above. The cases in {{name}}.test.toml need no Node.
import assert from "node:assert/strict";
import { test } from "node:test";
import { host } from "mixlab/test";
import plugin from "./{{file}}";

test("what is counted is remembered", async () => {
    const counter = host(plugin);
    counter.put("count", 40);
    assert.deepEqual(await counter.send("{{name}}:count", { by: 2 }), [{ count: 42 }]);
    assert.equal(counter.stored("count"), 42);
});
