//! The scenarios of `amqp-async/scenarios/` with callbacks: the same names, so that docs/parity.md can compare. What amqp-async has a type
//! or a policy for is done here as a program with callbacks does it.

// The operator's source is the asynchronous client's; of that it needs the core only, which is here too.
extern crate amqp_mio as amqp_async;

#[macro_use]
#[path = "../../amqp-async/scenarios/macros.rs"]
mod macros;

#[path = "scenarios/mod.rs"]
mod scenarios;

/// How a scenario is run: it is over when it returns.
mod runtime {
    use crate::scenarios::World;

    pub(crate) fn on_embedded(scenario: impl FnOnce(World)) {
        scenario(World::embedded());
    }

    /// On the broker that this variable names.
    pub(crate) fn on_rabbitmq(variable: &str, scenario: impl FnOnce(World)) {
        scenario(World::rabbitmq(variable));
    }

    /// Of one that has run.
    pub(crate) const fn run((): ()) {}
}

scenarios! {
    connecting:
        a_wrong_password_is_refused_for_good
        an_unknown_virtual_host_is_refused_for_good
        a_port_where_nobody_listens_is_told
        hosts_are_tried_in_their_order
        a_connection_says_what_it_is_doing
        a_host_that_says_nothing_is_given_up_in_time
        a_connection_that_may_take_no_time_is_given_up_or_there
        the_wrong_protocol_for_a_port_is_told_at_once;
    credentials:
        a_secret_is_renewed_while_the_connection_goes_on
        credentials_are_asked_for_before_each_attempt
        without_credentials_nothing_is_tried
        the_first_mechanism_that_is_offered_is_used
        credentials_are_erased_if_that_was_asked_for;
    refusing:
        who_may_not_configure_is_told_what_was_refused_and_goes_on
        who_may_do_nothing_is_refused_for_good;
    publishing:
        a_message_is_confirmed_delivered_and_acknowledged
        a_mandatory_message_that_no_queue_gets_comes_back
        an_optional_message_that_no_queue_gets_is_confirmed
        every_property_arrives
        bodies_of_any_size_arrive
        of_4000_pipelined_publishes_each_learns_its_own_outcome
        two_threads_on_one_channel_never_mix_up_their_confirms
        a_publish_without_confirms_is_done_when_it_is_written
        a_transaction_counts_when_it_is_committed
        the_limit_of_unconfirmed_publishes_makes_others_wait
        all_publishes_of_a_channel_are_waited_for
        what_comes_back_is_told_to_those_who_listen
        a_message_expires_at_its_moment;
    consuming:
        no_more_than_the_prefetch_comes_before_it_is_settled
        what_is_given_back_comes_again_and_says_so
        one_ack_can_be_for_many
        a_cancelled_consumer_gives_back_what_it_has_not_taken
        a_consumer_learns_that_its_queue_was_deleted
        several_consumers_take_turns
        a_consumer_without_acks_can_be_dropped_in_a_flood
        a_handler_settles_by_its_outcome
        handlers_run_in_the_background_a_few_at_a_time
        a_consumer_is_taken_from_until_nothing_comes
        joined_acks_are_for_what_was_settled_and_for_nothing_else
        a_joined_ack_is_said_when_its_time_has_come;
    routing:
        direct_topic_and_fanout_route_by_key
        headers_route_by_headers
        an_exchange_can_be_bound_to_another
        queues_are_purged_and_deleted_as_asked
        exchanges_are_deleted_as_asked
        a_queue_is_declared_again_as_it_was
        a_message_goes_all_the_way
        arguments_have_names;
    failing:
        declaring_otherwise_closes_the_channel_with_the_reason
        a_publish_to_no_exchange_loses_what_is_under_way
        a_queue_that_is_not_there_is_not_consumed_from
        an_offset_in_what_is_no_stream_is_refused
        a_consumer_learns_why_its_channel_ended
        an_exclusive_queue_is_its_connection_s_only
        names_over_255_octets_are_refused_before_anything_is_sent
        what_breaks_the_protocol_ends_the_connection
        a_closed_channel_takes_no_calls
        a_channel_is_opened_again_as_it_was
        the_consumers_of_a_channel_that_is_opened_again_go_on
        a_queue_that_is_deleted_and_declared_again_feeds_the_same_consumer;
    republishing:
        a_publish_that_closes_its_channel_is_lost_and_those_behind_it_are_not;
    misuse:
        a_closed_connection_takes_no_calls
        a_message_that_fits_no_frame_is_refused_at_the_call
        numbers_and_tags_that_are_in_use_are_refused_at_the_call
        tags_of_no_delivery_of_the_channel_are_refused_at_the_call
        what_is_settled_twice_ends_its_channel_which_is_told_the_tag
        calls_that_may_take_no_time_leave_nothing_behind
        a_time_without_end_is_one
        a_close_that_may_take_no_time_waits_for_nothing
        a_message_over_our_limit_ends_its_channel_and_no_other;
    flow:
        a_consumer_without_acks_may_wait_for_confirms
        a_thousand_channels_are_opened_and_closed
        many_channels_work_at_the_same_time;
    rpc:
        every_call_gets_its_own_answer
        a_server_s_failure_reaches_the_caller
        a_call_that_nobody_takes_says_so
        a_call_ends_with_its_connection;
    poison:
        what_fails_too_often_is_dead_lettered
        what_fails_too_often_is_parked_and_then_acknowledged
        a_cycle_of_dead_letters_ends_after_so_many_rounds
        what_a_queue_gave_up_says_so
        what_cannot_be_parked_goes_back;
    worker:
        tasks_are_done_and_settled_by_their_outcome
        a_task_that_nobody_ever_did_comes_back
        a_task_that_always_fails_is_parked;
    shutdown:
        handlers_finish_and_what_was_not_taken_goes_back
        what_hangs_is_given_up_in_time_and_comes_again;
}

rabbitmq_scenarios! {
    streams:
        what_a_stream_does_not_take_back_is_acknowledged
        a_streams_consumer_may_end_at_any_time
        an_ordinary_queue_beside_a_stream_gets_its_messages_back
        quorum_queues_and_streams_are_deleted_without_conditions;
}

embedded_scenarios! {
    restoring:
        what_ends_the_connection_each_time_is_left_out
        a_consumer_that_is_not_answered_takes_no_other_with_it
        who_leaves_while_everything_is_made_again_says_goodbye;
}

disturbing_scenarios! {
    with_ctl {
        credentials:
            a_connection_that_is_made_again_renews_the_secret_that_it_has_then;
        ack_timeouts:
            what_is_not_settled_in_time_comes_again_in_the_same_consumer;
        alarms:
            a_blocked_publish_fails_gives_up_or_waits_as_it_was_told
            a_close_takes_no_longer_than_it_may_although_nothing_is_read
            a_connection_that_stays_blocked_is_given_up;
        outages:
            an_operator_who_closes_all_connections_is_quoted
            a_broker_that_shuts_down_says_so
            a_broker_that_falls_silent_is_noticed_after_two_intervals
            a_user_who_is_deleted_is_told
            a_virtual_host_that_is_deleted_takes_its_connections;
        recovery:
            after_an_operator_closed_it_messages_flow_to_a_queue_of_another_name
            after_the_broker_was_shut_down_and_started_it_is_there_again
            after_the_broker_fell_silent_what_was_not_settled_comes_again;
        restoring:
            a_program_with_all_channel_numbers_gets_them_again
            a_broker_that_stays_away_is_given_up_in_time
            what_somebody_else_has_locked_is_tried_again_if_the_program_says_so;
        republishing:
            of_a_burst_that_an_operator_interrupts_everything_arrives_with_its_id;
        refusing:
            a_message_over_the_broker_s_limit_is_refused_with_both_sizes;
    }
}

disturbing_scenarios! {
    with_restart {
        outages:
            a_broker_that_is_killed_loses_nothing_that_it_had_confirmed;
        recovery:
            after_the_broker_was_killed_it_is_there_again_with_what_it_had_confirmed;
    }
}

disturbing_rabbitmq_scenarios! {
    with_ctl {
        streams:
            after_an_operator_closed_it_a_stream_goes_on_without_gap_or_repeat;
    }
    with_restart {
        streams:
            after_the_broker_was_killed_a_stream_goes_on_without_gap_or_repeat;
    }
}

securing_scenarios! {
    a_server_of_an_unknown_authority_is_not_trusted
    a_server_of_another_name_is_not_trusted
    an_authority_that_cannot_be_read_is_told_before_anything_is_tried
    external_without_a_certificate_is_refused_for_good;
    on_rabbitmq:
        with_client_certificate::external_takes_the_name_in_the_certificate
        with_client_certificate_and_with_ctl::a_server_that_wants_a_certificate_says_so
}
