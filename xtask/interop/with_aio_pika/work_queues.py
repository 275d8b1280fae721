"""Tutorial 2: tasks survive the worker that died over one, and go to whoever has time."""

import asyncio

import aio_pika
from expect import check, own_name
from tutorial import connect, run

NAME = own_name("tasks")
TASKS = [b"first", b"second.", b"third..", b"fourth...", b"fifth...."]


async def nothing():
    pass


async def work(count, on_task, acknowledges=True):
    """Handles that many tasks, one at a time; returns (body, whether somebody had it before) of each."""
    handled = []
    async with await connect() as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await channel.declare_queue(NAME, durable=True)
        all_handled = asyncio.Event()

        async def on_message(message):
            handled.append((message.body, message.redelivered))
            await on_task()
            if acknowledges:
                await message.ack()
            if len(handled) == count:
                all_handled.set()

        tag = await queue.consume(on_message)
        await all_handled.wait()
        await queue.cancel(tag)
    return handled


async def main():
    async with await connect() as producer:
        channel = await producer.channel()
        await channel.declare_queue(NAME, durable=True)
        for task in TASKS:
            message = aio_pika.Message(task, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, routing_key=NAME)

    check("the worker that dies", await work(1, nothing, acknowledges=False), [(TASKS[0], False)])

    has_begun, may_end = asyncio.Event(), asyncio.Event()

    async def take_long():
        has_begun.set()
        await may_end.wait()

    slow = asyncio.create_task(work(1, take_long))
    await has_begun.wait()
    # Without a prefetch of one, the slow worker would have got tasks that nobody else can have.
    quick = await work(len(TASKS) - 1, nothing)
    may_end.set()
    check("the slow worker", await slow, [(TASKS[0], True)])
    check("the quick worker", quick, [(task, False) for task in TASKS[1:]])

    async with await connect() as cleaner:
        channel = await cleaner.channel()
        queue = await channel.declare_queue(NAME, passive=True)
        check("tasks left", queue.declaration_result.message_count, 0)
        await queue.delete()


run(main())
