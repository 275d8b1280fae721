"""Tutorial 5: listeners give patterns, `*` for one word and `#` for any number."""

from expect import check, own_name
from tutorial import connect, take

exchange = own_name("topic-logs")
keys = ["kern.info", "cron.critical", "kern", "critical", "kern.disk.critical", "", "kern.critical"]
wishes = {
    ("#",): keys,
    ("kern.*",): ["kern.info", "kern.critical"],
    ("*.critical",): ["cron.critical", "kern.critical"],
    # What two patterns fit comes once.
    ("kern.*", "*.critical"): ["kern.info", "cron.critical", "kern.critical"],
    ("kern.#",): ["kern.info", "kern", "kern.disk.critical", "kern.critical"],
    ("*.*.critical", "#.critical"): ["cron.critical", "critical", "kern.disk.critical", "kern.critical"],
}

with connect() as connection:
    channel = connection.channel()
    channel.exchange_declare(exchange=exchange, exchange_type="topic")
    queues = {}
    for patterns in wishes:
        queues[patterns] = channel.queue_declare(queue="", exclusive=True).method.queue
        for pattern in patterns:
            channel.queue_bind(exchange=exchange, queue=queues[patterns], routing_key=pattern)

    for key in keys:
        channel.basic_publish(exchange=exchange, routing_key=key, body=key.encode())
    # All patterns fit the last key: what was not to come would have come before it.
    for patterns, expected in wishes.items():
        taken = take(channel, queues[patterns], len(expected))
        check(f"who wants {patterns}", taken, [(key, key.encode()) for key in expected])
    channel.exchange_delete(exchange=exchange)
