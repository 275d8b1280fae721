"""Tutorial 1: a message waits in a queue until somebody comes for it."""

import aio_pika
from expect import check, own_name
from tutorial import connect, run, take


async def main():
    name = own_name("hello")
    async with await connect() as sender:
        channel = await sender.channel()
        await channel.declare_queue(name, durable=True)
        message = aio_pika.Message(b"Hello World!", content_type="text/plain")
        await channel.default_exchange.publish(message, routing_key=name)

    async with await connect() as receiver:
        channel = await receiver.channel()
        queue = await channel.declare_queue(name, durable=True)
        check("messages there", queue.declaration_result.message_count, 1)
        check("received", await take(queue, 1), [(name, b"Hello World!")])
        await queue.delete()


run(main())
