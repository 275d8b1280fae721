//! Why an adapter lacks a scenario that another one has.

/// One reason, for one scenario or for a module of them.
#[derive(Debug)]
pub(super) struct Gap {
    pub(super) adapter: &'static str,
    /// `module`, or `module::name`.
    pub(super) scenarios: &'static str,
    pub(super) reason: &'static str,
}

const fn of_mio(scenarios: &'static str, reason: &'static str) -> Gap {
    let adapter = "amqp-mio";
    Gap {
        adapter,
        scenarios,
        reason,
    }
}

pub(super) const GAPS: &[Gap] = &[
    of_mio(
        "shutdown",
        "a handler is a callback, which is done when it returns; `amqp-mio/tests/event_loop/shutdown.rs` has what is left of it",
    ),
    of_mio(
        "republishing::a_publish_that_closes_its_channel_is_lost_and_those_behind_it_are_not",
        "opening channels again is amqp-async's; with callbacks: `ChannelView::on_close`",
    ),
    of_mio(
        "alarms::a_blocked_publish_fails_gives_up_or_waits_as_it_was_told",
        "policies for publishes on a blocked connection are amqp-async's; with callbacks: `ConnectionView::on_blocked`",
    ),
    of_mio("poison", "policies for poison messages are amqp-async's"),
    of_mio(
        "rpc",
        "clients and servers for calls are amqp-async's; with callbacks: `amqp-mio/examples/tutorial/rpc_client.rs`",
    ),
    of_mio("worker", "workers are amqp-async's"),
    of_mio(
        "streams",
        "it is about handles, which settle what they hold when they are dropped, and know what they declared; callbacks do both by \
         themselves",
    ),
    of_mio(
        "streams::after_the_broker_was_killed_a_stream_goes_on_without_gap_or_repeat",
        "the stream is not there yet when the broker is, and to start its consumer once more is amqp-async's; with callbacks: \
         `ChannelView::on_cancel`",
    ),
    of_mio(
        "consuming::a_cancelled_consumer_gives_back_what_it_has_not_taken",
        "every delivery has been in a callback: nobody holds any that was not taken",
    ),
    of_mio(
        "consuming::a_consumer_is_taken_from_until_nothing_comes",
        "it is about an iterator; with callbacks: `Ctx::call_later` and `ChannelView::cancel`",
    ),
    of_mio(
        "consuming::a_consumer_without_acks_can_be_dropped_in_a_flood",
        "a consumer is no value that could be dropped",
    ),
    of_mio(
        "consuming::a_handler_settles_by_its_outcome",
        "callbacks settle by themselves",
    ),
    of_mio(
        "consuming::handlers_run_in_the_background_a_few_at_a_time",
        "callbacks are called one after the other, on the loop's thread",
    ),
    of_mio(
        "failing::a_channel_is_opened_again_as_it_was",
        "opening channels again is amqp-async's; with callbacks: `ChannelView::on_close`",
    ),
    of_mio(
        "failing::the_consumers_of_a_channel_that_is_opened_again_go_on",
        "opening channels again is amqp-async's; with callbacks: `ChannelView::on_close`",
    ),
    of_mio(
        "failing::a_queue_that_is_deleted_and_declared_again_feeds_the_same_consumer",
        "starting consumers again is amqp-async's; with callbacks: `ChannelView::on_cancel`",
    ),
    of_mio(
        "flow::a_consumer_without_acks_may_wait_for_confirms",
        "a callback waits for nothing",
    ),
    of_mio(
        "misuse::calls_that_may_take_no_time_leave_nothing_behind",
        "a call has no deadline of its own, only `Config::request_timeout`",
    ),
    of_mio(
        "publishing::a_message_expires_at_its_moment",
        "an expiration is the property here, in milliseconds, and no moment",
    ),
    of_mio(
        "publishing::all_publishes_of_a_channel_are_waited_for",
        "nobody waits: `ChannelView::on_confirm` tells of each",
    ),
    of_mio(
        "publishing::the_limit_of_unconfirmed_publishes_makes_others_wait",
        "nobody waits: a publish over the limit is refused, and `ConnectionView::on_writable` says when to go on",
    ),
    of_mio(
        "publishing::two_threads_on_one_channel_never_mix_up_their_confirms",
        "a channel belongs to the loop's thread",
    ),
    of_mio(
        "restoring::what_somebody_else_has_locked_is_tried_again_if_the_program_says_so",
        "to decide about steps that fail is amqp-async's; with callbacks: the report of `ConnectionView::on_recovered`",
    ),
    of_mio(
        "routing::a_queue_is_declared_again_as_it_was",
        "it is about a handle that remembers how it was declared",
    ),
    of_mio(
        "ack_timeouts",
        "opening channels and starting consumers again is amqp-async's; with callbacks: `ChannelView::on_close` and `on_cancel`",
    ),
];

/// Where in the list the reason for that stands; one for the scenario goes before one for its module.
pub(super) fn find(gaps: &[Gap], adapter: &str, module: &str, name: &str) -> Option<usize> {
    let of = |scenarios: &str| {
        gaps.iter()
            .position(|gap| gap.adapter == adapter && gap.scenarios == scenarios)
    };
    of(&format!("{module}::{name}")).or_else(|| of(module))
}
