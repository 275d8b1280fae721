"""Tutorial 5: listeners give patterns, `*` for one word and `#` for any number."""

import aio_pika
from expect import check, own_name
from tutorial import connect, run, take

KEYS = ["kern.info", "cron.critical", "kern", "critical", "kern.disk.critical", "", "kern.critical"]
WISHES = {
    ("#",): KEYS,
    ("kern.*",): ["kern.info", "kern.critical"],
    ("*.critical",): ["cron.critical", "kern.critical"],
    # What two patterns fit comes once.
    ("kern.*", "*.critical"): ["kern.info", "cron.critical", "kern.critical"],
    ("kern.#",): ["kern.info", "kern", "kern.disk.critical", "kern.critical"],
    ("*.*.critical", "#.critical"): ["cron.critical", "critical", "kern.disk.critical", "kern.critical"],
}


async def main():
    async with await connect() as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(own_name("topic-logs"), aio_pika.ExchangeType.TOPIC)
        queues = {}
        for patterns in WISHES:
            queues[patterns] = await channel.declare_queue(exclusive=True)
            for pattern in patterns:
                await queues[patterns].bind(exchange, routing_key=pattern)

        for key in KEYS:
            await exchange.publish(aio_pika.Message(key.encode()), routing_key=key)
        # All patterns fit the last key: what was not to come would have come before it.
        for patterns, expected in WISHES.items():
            taken = await take(queues[patterns], len(expected))
            check(f"who wants {patterns}", taken, [(key, key.encode()) for key in expected])
        await exchange.delete()


run(main())
