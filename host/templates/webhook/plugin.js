// Another service tells of orders that are paid (POST /hooks/{{name}}); they are kept, and admins hear of them.
import { plugin } from "mixlab";

export default plugin({}).onWebhook(async (cx, request) => {
    const { order, amount } = request.json();
    await cx.store.set(`paid:${order}`, amount);
    cx.toRole("admin").emit("{{name}}:paid", { order, amount });
    return { status: 204 };
});
