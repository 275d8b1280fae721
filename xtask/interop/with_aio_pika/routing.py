"""Tutorial 4: each listener says which severities it wants."""

import aio_pika
from expect import check, own_name
from tutorial import connect, run, take

SEVERITIES = ["info", "error", "debug", "warning", "error"]
WISHES = [["error"], ["info", "warning", "error"]]


async def main():
    async with await connect() as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(own_name("direct-logs"), aio_pika.ExchangeType.DIRECT)
        queues = []
        for wanted in WISHES:
            queue = await channel.declare_queue(exclusive=True)
            for severity in wanted:
                await queue.bind(exchange, routing_key=severity)
            queues.append(queue)

        logs = [(severity, b"log %d" % number) for number, severity in enumerate(SEVERITIES)]
        for severity, log in logs:
            await exchange.publish(aio_pika.Message(log), routing_key=severity, mandatory=False)
        # Everybody wants the last one: what was not to come would have come before it.
        for queue, wanted in zip(queues, WISHES):
            expected = [log for log in logs if log[0] in wanted]
            check(f"who wants {wanted}", await take(queue, len(expected)), expected)
        await exchange.delete()


run(main())
