"""Tutorial 3: everybody who listens gets everything that is said from then on."""

import aio_pika
from expect import check, own_name
from tutorial import connect, run, take

LOGS = [b"one", b"two", b"three"]


async def main():
    name = own_name("logs")
    async with await connect() as emitter, await connect() as screen, await connect() as file:
        channel = await emitter.channel()
        to_all = await channel.declare_exchange(name, aio_pika.ExchangeType.FANOUT)
        # Nobody has to get it, so nobody is told that nobody did.
        unheard = aio_pika.Message(b"nobody listens yet")
        await to_all.publish(unheard, routing_key="", mandatory=False)

        queues = []
        for connection in (screen, file):
            channel = await connection.channel()
            logs = await channel.declare_exchange(name, aio_pika.ExchangeType.FANOUT)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(logs)
            queues.append(queue)
        check("names of queues", queues[0].name != queues[1].name, True)

        for log in LOGS:
            await to_all.publish(aio_pika.Message(log), routing_key="")
        for queue in queues:
            check("heard", await take(queue, len(LOGS)), [("", log) for log in LOGS])
        await to_all.delete()


run(main())
