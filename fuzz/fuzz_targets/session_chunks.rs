#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| amqp_proto::fuzzing::session_chunks(data));
