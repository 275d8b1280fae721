"""Tutorial 2: tasks survive the worker that died over one, and go to whoever has time."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pika
from expect import SECONDS, Unexpected, check, own_name
from tutorial import connect

queue = own_name("tasks")
tasks = [b"first", b"second.", b"third..", b"fourth...", b"fifth...."]


def work(count, on_task, acknowledges=True):
    """Handles that many tasks, one at a time; returns (body, whether somebody had it before) of each."""
    handled = []

    def on_message(channel, method, _properties, body):
        handled.append((body, method.redelivered))
        on_task()
        if acknowledges:
            channel.basic_ack(delivery_tag=method.delivery_tag)
        if len(handled) == count:
            channel.stop_consuming()

    with connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue=queue, durable=True)
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(queue=queue, on_message_callback=on_message)
        channel.start_consuming()
    return handled


def nothing():
    pass


with connect() as producer:
    channel = producer.channel()
    channel.queue_declare(queue=queue, durable=True)
    for task in tasks:
        properties = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
        channel.basic_publish(exchange="", routing_key=queue, body=task, properties=properties)

check("the worker that dies", work(1, nothing, acknowledges=False), [(tasks[0], False)])

has_begun, may_end = Event(), Event()


def take_long():
    has_begun.set()
    if not may_end.wait(SECONDS):
        raise Unexpected("the quick worker did not finish")


with ThreadPoolExecutor() as threads:
    slow = threads.submit(work, 1, take_long)
    if not has_begun.wait(SECONDS):
        raise Unexpected("the slow worker got nothing")
    # Without a prefetch of one, the slow worker would have got tasks that nobody else can have.
    quick = work(len(tasks) - 1, nothing)
    may_end.set()
    check("the slow worker", slow.result(), [(tasks[0], True)])
    check("the quick worker", quick, [(task, False) for task in tasks[1:]])

with connect() as cleaner:
    left = cleaner.channel().queue_delete(queue=queue).method.message_count
    check("tasks left", left, 0)
