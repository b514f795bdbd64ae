// What `mixlab-load languages` compares: the shipped plugin custom-event, as a script.
import { event, plugin, t } from "mixlab";

const asked = t.object({ socket: t.integer({ min: 0 }), n: t.integer({ min: 0 }), text: t.string({ max: 100_000 }) }, { strict: true });

export default plugin({
    custom_event: event({ access: "anyone", args: [asked], limit: { socket: "1000000/1s" } }, (cx, data) => {
        cx.emit("custom_response", data);
        return data;
    }),
});
