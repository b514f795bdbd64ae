// Runs the handlers in Node: npm install, then npm test, in the folder above. The cases in {{name}}.test.toml need no Node.
import assert from "node:assert/strict";
import { test } from "node:test";
import { host } from "mixlab/test";
import plugin from "./{{file}}";

test("an order that is paid is kept", async () => {
    const webhook = host(plugin);
    const { status } = await webhook.post({ order: "7", amount: 5 });
    assert.equal(status, 204);
    assert.equal(webhook.stored("paid:7"), 5);
    assert.deepEqual(webhook.takeEmitted()[0].target, { roles: ["admin"] });
});
