// Counts, and remembers.
import { event, plugin, t } from "mixlab";

const by = t.object({ by: t.integer({ min: 1, max: 100 }) });

export default plugin({
    "{{name}}:count": event({ access: "anyone", args: [by] }, async (cx, { by }) => {
        const count = await cx.store.update("count", (count = 0) => count + by);
        cx.broadcast.includeSender().emit("{{name}}:counted", { count });
        return { count };
    }),
});
