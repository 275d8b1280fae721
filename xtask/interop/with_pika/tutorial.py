"""What the tutorials with pika share."""

import pika
from expect import URL


def connect():
    return pika.BlockingConnection(pika.URLParameters(URL))


def take(channel, queue, count):
    """Consumes that many messages, without acknowledging; returns (routing key, body) of each."""
    taken = []

    def on_message(_channel, method, _properties, body):
        taken.append((method.routing_key, body))
        if len(taken) == count:
            channel.stop_consuming()

    channel.basic_consume(queue=queue, on_message_callback=on_message, auto_ack=True)
    channel.start_consuming()
    return taken
