// Whoever joins gets what is said.
import { event, plugin, reject, t } from "mixlab";

const said = t.object({ text: t.string({ min: 1, max: 500 }) });

export default plugin({
    "{{name}}:join": event({ access: "anyone" }, (cx) => {
        cx.join("{{name}}");
    }),
    "{{name}}:say": event({ access: "anyone", args: [said], limit: { socket: "10/5s" } }, (cx, { text }) => {
        if (!cx.rooms.includes("{{name}}")) reject("not_joined", "Join first");
        cx.to("{{name}}").includeSender().emit("{{name}}:said", { text });
    }),
});
