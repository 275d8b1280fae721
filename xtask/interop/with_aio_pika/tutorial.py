"""What the tutorials with aio-pika share."""

import asyncio

import aio_pika
from expect import SECONDS, URL, Unexpected


def connect():
    return aio_pika.connect_robust(URL)


def run(main):
    """Runs it to its end, which must come in time."""
    try:
        asyncio.run(asyncio.wait_for(main, SECONDS))
    except asyncio.TimeoutError as error:
        raise Unexpected(f"not over after {SECONDS} s; above is what it waited for") from error


async def take(queue, count):
    """Consumes that many messages and acknowledges them; returns (routing key, body) of each."""
    taken = []
    async with queue.iterator() as messages:
        async for message in messages:
            async with message.process():
                taken.append((message.routing_key, message.body))
            if len(taken) == count:
                break
    return taken
