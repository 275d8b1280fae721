"""Tutorial 6: a server answers requests to a queue that each names, and repeats the mark it carries."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pika
from expect import check, fibonacci, own_name
from tutorial import connect

queue = own_name("rpc")
numbers = [0, 1, 10, 30]


def serve(count):
    answered = 0

    def on_request(channel, method, properties, body):
        nonlocal answered
        channel.basic_publish(
            exchange="",
            routing_key=properties.reply_to,
            properties=pika.BasicProperties(correlation_id=properties.correlation_id),
            body=str(fibonacci(int(body))).encode(),
        )
        channel.basic_ack(delivery_tag=method.delivery_tag)
        answered += 1
        if answered == count:
            channel.stop_consuming()

    with connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue=queue, durable=True)
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(queue=queue, on_message_callback=on_request)
        channel.start_consuming()


def call_all():
    with connect() as connection:
        channel = connection.channel()
        # The server may come later.
        channel.queue_declare(queue=queue, durable=True)
        replies_to = channel.queue_declare(queue="", exclusive=True).method.queue
        replies = {}

        def on_reply(_channel, _method, properties, body):
            replies[properties.correlation_id] = int(body)

        channel.basic_consume(queue=replies_to, on_message_callback=on_reply, auto_ack=True)
        marks = {number: str(uuid.uuid4()) for number in numbers}
        for number, mark in marks.items():
            channel.basic_publish(
                exchange="",
                routing_key=queue,
                properties=pika.BasicProperties(reply_to=replies_to, correlation_id=mark),
                body=str(number).encode(),
            )
        while len(replies) < len(numbers):
            connection.process_data_events(time_limit=None)
        return {number: replies.get(mark) for number, mark in marks.items()}


with ThreadPoolExecutor() as threads:
    server = threads.submit(serve, len(numbers))
    check("replies", call_all(), {0: 0, 1: 1, 10: 55, 30: 832040})
    server.result()

with connect() as cleaner:
    left = cleaner.channel().queue_delete(queue=queue).method.message_count
    check("requests left", left, 0)
