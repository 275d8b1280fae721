//! Answers that come too late.

use std::time::Duration;

use amqp_mio::proto::wire::{
    BasicCancelOk, BasicConsume, BasicConsumeOk, BasicDeliver, BasicQos, BasicQosOk, ChannelOpenOk,
    Properties,
};
use amqp_mio::proto::{ConnectionParameters, RequestError};
use amqp_mio::{ChannelOptions, Connector};
use amqp_testbroker::{CraftedFrame, Script};

use crate::recovering::{Life, soon, tell};
use crate::streams::serve;
use crate::world::{from, short};

#[test]
fn what_comes_before_a_late_answer_to_cancel_can_still_be_settled() {
    let tag = short("c");
    let deliver = BasicDeliver {
        consumer_tag: tag,
        delivery_tag: 1,
        redelivered: false,
        exchange: short(""),
        routing_key: short("q"),
    };
    let script = Script::new()
        .handshake()
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .expect("basic.consume")
        .reply(BasicConsumeOk { consumer_tag: tag })
        .expect("basic.cancel")
        // By now nobody waits for its answer.
        .expect("basic.qos")
        .reply(BasicQosOk {})
        .send_all(CraftedFrame::content(1, deliver, Properties::default(), b"late"))
        .reply(BasicCancelOk { consumer_tag: tag })
        .expect("ch 1 basic.ack delivery_tag=1")
        .hang_up();
    let (port, serving) = serve(vec![script]);
    let uri = format!("amqp://guest:guest@127.0.0.1:{port}");
    let mut parameters = ConnectionParameters::from_uri(&uri).unwrap();
    parameters.config = parameters.config.request_timeout(Duration::from_secs(2));
    let mut life = Life::new(&Connector::new(parameters), soon());
    let channel = life.open(&ChannelOptions::default());
    let consume = BasicConsume {
        consumer_tag: tag,
        ..from("q")
    };
    let consumer = life.consume(channel, &consume);
    life.on(channel, |view| {
        view.cancel(consumer, |ctx, channel, answer| {
            assert_eq!(answer, Err(RequestError::Timeout));
            let mut view = ctx.channel(channel).unwrap();
            view.request(&BasicQos::default(), |_, _, answer| assert!(answer.is_ok()))
                .unwrap();
            tell(ctx, "given up");
        })
        .unwrap();
    });
    life.until("given up");
    life.until("late");
    life.until("lost");
    drop(life);
    serving.join().unwrap();
}
