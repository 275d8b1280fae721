"""Tutorial 6: a server answers requests to a queue that each names, and repeats the mark it carries."""

import asyncio
import uuid

import aio_pika
from expect import check, fibonacci, own_name
from tutorial import connect, run

NAME = own_name("rpc")
NUMBERS = [0, 1, 10, 30]


async def serve(count):
    async with await connect() as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await channel.declare_queue(NAME, durable=True)
        answered = 0
        async with queue.iterator() as requests:
            async for request in requests:
                async with request.process(requeue=True):
                    reply = aio_pika.Message(
                        str(fibonacci(int(request.body))).encode(),
                        correlation_id=request.correlation_id,
                    )
                    await channel.default_exchange.publish(reply, routing_key=request.reply_to)
                answered += 1
                if answered == count:
                    break


async def call_all():
    async with await connect() as connection:
        channel = await connection.channel()
        # The server may come later.
        await channel.declare_queue(NAME, durable=True)
        replies_to = await channel.declare_queue(exclusive=True)
        waiting = {}

        async def on_reply(reply):
            waiting.pop(reply.correlation_id).set_result(int(reply.body))

        await replies_to.consume(on_reply, no_ack=True)

        async def call(number):
            mark = str(uuid.uuid4())
            waiting[mark] = asyncio.get_running_loop().create_future()
            answer = waiting[mark]
            request = aio_pika.Message(
                str(number).encode(), correlation_id=mark, reply_to=replies_to.name
            )
            await channel.default_exchange.publish(request, routing_key=NAME)
            return await answer

        return await asyncio.gather(*(call(number) for number in NUMBERS))


async def main():
    server = asyncio.create_task(serve(len(NUMBERS)))
    check("replies", await call_all(), [0, 1, 55, 832040])
    await server
    async with await connect() as cleaner:
        channel = await cleaner.channel()
        queue = await channel.declare_queue(NAME, passive=True)
        check("requests left", queue.declaration_result.message_count, 0)
        await queue.delete()


run(main())
