"""Tutorial 3: everybody who listens gets everything that is said from then on."""

from expect import check, own_name
from tutorial import connect, take

exchange = own_name("logs")
logs = [b"one", b"two", b"three"]

with connect() as emitter, connect() as screen, connect() as file:
    to_all = emitter.channel()
    to_all.exchange_declare(exchange=exchange, exchange_type="fanout")
    to_all.basic_publish(exchange=exchange, routing_key="", body=b"nobody listens yet")

    listeners = []
    for connection in (screen, file):
        channel = connection.channel()
        channel.exchange_declare(exchange=exchange, exchange_type="fanout")
        queue = channel.queue_declare(queue="", exclusive=True).method.queue
        channel.queue_bind(exchange=exchange, queue=queue)
        listeners.append((channel, queue))
    check("names of queues", listeners[0][1] != listeners[1][1], True)

    for log in logs:
        to_all.basic_publish(exchange=exchange, routing_key="", body=log)
    for channel, queue in listeners:
        check("heard", take(channel, queue, len(logs)), [("", log) for log in logs])
    to_all.exchange_delete(exchange=exchange)
