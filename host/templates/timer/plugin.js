// Reminds users of something, later.
import { event, plugin, t } from "mixlab";

const reminder = t.object({ text: t.string({ min: 1, max: 200 }), seconds: t.integer({ min: 1, max: 86400 }) });

export default plugin({
    "{{name}}:remind": event({ args: [reminder], limit: { user: "10/1m" } }, (cx, { text, seconds }) => {
        const user = cx.user.id;
        cx.timers.set(`user:${user}`, { user, text }, { after: `${seconds}s` });
    }),
}).onTimer((cx, timer) => {
    const { user, text } = timer.payload;
    cx.toUser(user).emit("{{name}}:reminder", { text });
});
