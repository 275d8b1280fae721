//! Deliveries that are not settled in time.

use amqp_mio::proto::wire::{FieldTable, QueueDeclare, ReplyCode};
use amqp_mio::proto::{ChannelCloseReason, Delivery};
use amqp_mio::{ChannelRef, ConnectionId, Ctx};

use super::World;
use super::client::{Told, durable, from};

type Deliveries = Told<(ChannelRef, Delivery)>;

/// Consumes on a channel of its own, and begins again when the broker has closed that.
fn consume(ctx: &mut Ctx<'_, ()>, connection: ConnectionId, queue: String, deliveries: Deliveries) {
    let opened = move |ctx: &mut Ctx<'_, ()>, channel: ChannelRef| {
        start(ctx, channel, &queue, &deliveries);
        let mut view = ctx.channel(channel).unwrap();
        let (same_queue, told) = (queue.clone(), deliveries.clone());
        view.on_cancel(move |ctx, channel, _| start(ctx, channel, &same_queue, &told));
        view.on_close(move |ctx, channel, reason| {
            if let ChannelCloseReason::Peer(peer) = reason {
                assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED, "{peer}");
                consume(ctx, channel.connection(), queue.clone(), deliveries.clone());
            }
        });
    };
    ctx.connection(connection).unwrap().open_channel(opened).unwrap();
}

fn start(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, queue: &str, deliveries: &Deliveries) {
    let deliveries = deliveries.clone();
    let on_message = move |ctx: &mut Ctx<'_, ()>, channel, told| deliveries.tell(ctx, (channel, told));
    let mut view = ctx.channel(channel).unwrap();
    view.consume(&from(queue), on_message).unwrap();
}

/// RabbitMQ 3 closes the channel over it, RabbitMQ 4.3 ends the consumer; here it goes on in both cases.
pub(crate) fn what_is_not_settled_in_time_comes_again_in_the_same_consumer(world: World) {
    let timeout = world.operator.time_out_deliveries();
    let mut client = world.connect();
    let (bystander, queue) = (client.channel(), world.name("slow"));
    let quorum = FieldTable::new().with("x-queue-type", "quorum").unwrap();
    let declare = QueueDeclare {
        arguments: quorum.as_ref(),
        ..durable(&queue)
    };
    client.declare(bystander, &declare).unwrap();
    let (connection, deliveries) = (client.id(), Told::new());
    let mut ctx = client.event_loop().context();
    consume(&mut ctx, connection, queue.clone(), deliveries.clone());
    client.send(bystander, &queue, "slow");
    let (old, late) = client.wait(&deliveries);
    assert!(!late.redelivered);

    let (channel, again) = client.wait(&deliveries);
    assert_eq!(again.message.body().to_vec(), b"slow");
    assert!(again.redelivered);
    client.on(channel, |view| view.ack(again.tag)).unwrap();
    // Whether it is there, and whether the broker still knows of the delivery, depends on what it did.
    let mut ctx = client.event_loop().context();
    let _ = ctx.channel(old).and_then(|mut view| view.ack(late.tag));
    client.meanwhile(|| timeout.end());

    client.send(bystander, &queue, "new");
    let (channel, new) = client.wait(&deliveries);
    assert_eq!(new.message.body().to_vec(), b"new");
    client.on(channel, |view| view.ack(new.tag)).unwrap();
    client.cancel(channel, new.consumer);
    assert_eq!(client.delete(bystander, &queue), 0);
    client.close();
}
