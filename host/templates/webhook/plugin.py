# Another service tells of orders that are paid (POST /hooks/{{name}}); they are kept, and admins hear of them.
from mixlab import Context, Plugin, Request, Response

plugin = Plugin("{{name}}", "0.1.0")


@plugin.on_webhook
def paid(cx: Context, request: Request) -> Response:
    match request.json():
        case {"order": str(order), "amount": int(amount)}:
            cx.store.set(f"paid:{order}", amount)
            cx.to_role("admin").emit("{{name}}:paid", {"order": order, "amount": amount})
            return Response(204)
    return Response(400, b"expected order and amount")
