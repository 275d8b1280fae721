"""Tutorial 4: each listener says which severities it wants."""

from expect import check, own_name
from tutorial import connect, take

exchange = own_name("direct-logs")
severities = ["info", "error", "debug", "warning", "error"]
wishes = [["error"], ["info", "warning", "error"]]

with connect() as connection:
    channel = connection.channel()
    channel.exchange_declare(exchange=exchange, exchange_type="direct")
    queues = []
    for wanted in wishes:
        queue = channel.queue_declare(queue="", exclusive=True).method.queue
        for severity in wanted:
            channel.queue_bind(exchange=exchange, queue=queue, routing_key=severity)
        queues.append(queue)

    logs = [(severity, b"log %d" % number) for number, severity in enumerate(severities)]
    for severity, log in logs:
        channel.basic_publish(exchange=exchange, routing_key=severity, body=log)
    # Everybody wants the last one: what was not to come would have come before it.
    for queue, wanted in zip(queues, wishes):
        expected = [log for log in logs if log[0] in wanted]
        check(f"who wants {wanted}", take(channel, queue, len(expected)), expected)
    channel.exchange_delete(exchange=exchange)
