"""A python-socketio client on strings: commands are lines of JSON on stdin, answers and events are
lines of JSON on stdout. Bytes are written as {"$bytes": BASE64}.
"""
import base64
import json
import sys
import threading

import socketio

writing = threading.Lock()


def encode(value):
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: encode(field) for key, field in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def decode(value):
    if isinstance(value, dict):
        if "$bytes" in value:
            return base64.b64decode(value["$bytes"])
        return {key: decode(field) for key, field in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    return value


def tell(**line):
    with writing:
        print(json.dumps(encode(line)), flush=True)


def serve(url, transports):
    client = socketio.Client(reconnection_delay=0.01, reconnection_delay_max=0.05)

    def listen(namespace):
        client.on("connect", lambda: tell(event="connect", namespace=namespace, args=[]), namespace=namespace)
        for event in ("disconnect", "connect_error"):
            client.on(
                event,
                lambda reason, event=event: tell(event=event, namespace=namespace, args=[reason]),
                namespace=namespace,
            )
        client.on(
            "*",
            lambda event, *args: tell(event=event, namespace=namespace, args=args),
            namespace=namespace,
        )

    def connect(namespaces, auth):
        for namespace in namespaces:
            listen(namespace)
        client.connect(url, transports=transports, namespaces=namespaces, auth=auth)

    def call(event, args, namespace="/"):
        answered = threading.Event()
        answer = []

        def acknowledge(*reply):
            answer.extend(reply)
            answered.set()

        client.emit(event, tuple(args), namespace=namespace, callback=acknowledge)
        if not answered.wait(10):
            raise TimeoutError(f"no ack of {event}")
        return answer

    commands = {
        "connect": connect,
        "call": call,
        "transport": client.transport,
        "sid": lambda namespace="/": client.get_sid(namespace),
        "disconnect": client.disconnect,
        "send": lambda message: client.eio.send(message),
    }
    for line in sys.stdin:
        command = decode(json.loads(line))
        try:
            result = commands[command["do"]](**command["with"])
            tell(id=command["id"], result=result)
        except Exception as error:  # whatever it is, the test is to see it
            tell(id=command["id"], error=f"{type(error).__name__}: {error}")


serve(sys.argv[1], sys.argv[2].split(","))
