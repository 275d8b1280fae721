"""Tutorial 1: a message waits in a queue until somebody comes for it."""

from expect import check, own_name
from tutorial import connect, take

queue = own_name("hello")

with connect() as sender:
    channel = sender.channel()
    channel.queue_declare(queue=queue, durable=True)
    channel.basic_publish(exchange="", routing_key=queue, body=b"Hello World!")

with connect() as receiver:
    channel = receiver.channel()
    # Whoever comes second finds the queue there; to declare it again changes nothing.
    channel.queue_declare(queue=queue, durable=True)
    check("received", take(channel, queue, 1), [(queue, b"Hello World!")])
    left = channel.queue_delete(queue=queue).method.message_count
    check("messages left", left, 0)
